"""Examples of each class, and the weights of classes in a loss."""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from skinjax.errors import InputError

SCALES = ("mean", "majority", "sum")


def class_counts(label_N: np.ndarray, num_classes: int) -> np.ndarray:
    """Examples of each class: int64 (C,)."""
    return np.bincount(np.asarray(label_N, dtype=np.int64), minlength=num_classes)


def from_config(
    counts_C: np.ndarray | Sequence[int], settings: ConfigDict, classes: Sequence[str]
) -> np.ndarray:
    """The weights that `config.loss` asks for: its own, or made from the counts.

    Args:
      counts_C: examples of each class in the training split.
      settings: `config.loss`, as `losses.from_config` has checked it.
      classes: the C names.

    Returns:
      float32 (C,).

    Raises:
      InputError: `loss.class_weights` has another length than there are classes; or as
        `class_weights`.
    """
    if not settings.class_weights:
        return class_weights(
            counts_C,
            settings.class_weight_exponent,
            classes,
            beta=settings.class_weight_beta,
            scale=settings.class_weight_scale,
        )
    if len(settings.class_weights) != len(classes):
        raise InputError(
            f"loss.class_weights has {len(settings.class_weights)} numbers; expected one for each"
            f" of the {len(classes)} classes {', '.join(classes)}, or () for weights made from the"
            " counts"
        )
    return np.array(settings.class_weights, dtype=np.float32)


def class_weights(
    counts_C: np.ndarray | Sequence[int],
    exponent: float,
    classes: Sequence[str] | None = None,
    *,
    beta: float = 0.0,
    scale: str = "mean",
) -> np.ndarray:
    """Weights (N / (C * n_c)) ** exponent: 0 gives ones, 0.5 square roots, 1 balanced classes.

    With exponent 1 this is scikit-learn's `compute_class_weight('balanced', ...)`. With exponent 1,
    a beta and scale "sum" it is the class-balanced weight of Cui et al. 2019 (arXiv:1901.05555).

    Args:
      counts_C: examples of each class in the training split.
      exponent: 0 or more, mostly to 1.
      classes: names, for the error only.
      beta: in [0, 1); above 0 the effective number (1 - beta ** n_c) / (1 - beta) takes the place
        of n_c, and their sum that of N.
      scale: what the weights are relative to: "mean" leaves them as above, "majority" gives the
        largest class 1, "sum" makes them sum to C.

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
    number_C = _effective_numbers(counts_C, beta) if beta else counts_C
    weights_C = (number_C.sum() / (len(number_C) * number_C)) ** exponent
    if scale == "majority":
        weights_C = weights_C / weights_C[np.argmax(counts_C)]
    elif scale == "sum":
        weights_C = weights_C * len(weights_C) / weights_C.sum()
    return weights_C.astype(np.float32)


def _effective_numbers(counts_C: np.ndarray, beta: float) -> np.ndarray:
    # By expm1, since beta ** n is 1 to within a few bits where beta is near 1.
    return -np.expm1(counts_C * np.log(beta)) / (1 - beta)
