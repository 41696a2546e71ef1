"""Examples of each class, and the weights of classes in a loss."""

from collections.abc import Sequence

import numpy as np

from skinjax.errors import InputError


def class_counts(label_N: np.ndarray, num_classes: int) -> np.ndarray:
    """Examples of each class: int64 (C,)."""
    return np.bincount(np.asarray(label_N, dtype=np.int64), minlength=num_classes)


def class_weights(
    counts_C: np.ndarray | Sequence[int], exponent: float, classes: Sequence[str] | None = None
) -> np.ndarray:
    """Weights (N / (C * n_c)) ** exponent: 0 gives ones, 0.5 square roots, 1 balanced classes.

    With exponent 1 this is scikit-learn's `compute_class_weight('balanced', ...)`.

    Args:
      counts_C: examples of each class in the training split.
      exponent: from 0 to 1.
      classes: names, for the error only.

    Returns:
      float32 (C,).

    Raises:
      InputError: a class without examples, unless the exponent is 0.
    """
    counts_C = np.asarray(counts_C, dtype=np.float64)
    if exponent == 0:
        return np.ones(len(counts_C), dtype=np.float32)
    empty = np.flatnonzero(counts_C == 0)
    if len(empty):
        named = ", ".join(str(classes[c] if classes else c) for c in empty.tolist())
        raise InputError(
            f"no training example of class {named}: its weight would be infinite;"
            " add images or set loss.class_weight_exponent=0"
        )
    balanced_C = counts_C.sum() / (len(counts_C) * counts_C)
    return (balanced_C**exponent).astype(np.float32)
