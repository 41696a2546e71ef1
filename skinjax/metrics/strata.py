"""Examples in groups, and groups in classes, as the bootstrap draws them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


def group_indices(group_N: Sequence[Any] | np.ndarray) -> np.ndarray:
    """The group of each example as an index from 0: int64 (N,); "", None and NaN are alone."""
    index: dict[Any, int] = {}
    member_N = np.empty(len(group_N), np.int64)
    for place, group in enumerate(group_N):
        missing = group is None or group == "" or group != group
        key = ("alone", place) if missing else ("group", group)
        member_N[place] = index.setdefault(key, len(index))
    return member_N


class Strata:
    """The groups of a table by class; a group goes by its most frequent label.

    Attributes:
      groups_L: how many groups each label has.
      size_G: for each group, how many its label has; the groups are in the order of the labels.
    """

    def __init__(self, group_N: Sequence[Any] | np.ndarray, label_N: np.ndarray) -> None:
        """Takes what `bootstrap.weights` takes."""
        member_N, label_N = group_indices(group_N), np.asarray(label_N)
        count_GL = np.zeros((member_N.max(initial=-1) + 1, label_N.max(initial=0) + 1), np.int64)
        np.add.at(count_GL, (member_N, label_N), 1)
        label_G = np.argmax(count_GL, axis=1)
        order_G = np.argsort(label_G, kind="stable")
        self._label_G = label_G[order_G]
        self._place_N = np.argsort(order_G)[member_N]
        self._begin_G = np.searchsorted(self._label_G, self._label_G)
        self.groups_L = np.bincount(label_G, minlength=count_GL.shape[1])
        self.size_G = self.groups_L[self._label_G]

    def only(self, label: int) -> np.ndarray:
        """As `size_G`, with 0 for the groups of other classes, which are then not drawn."""
        return np.where(self._label_G == label, self.size_G, 0)

    def weights(
        self, size_G: np.ndarray, num_resamples: int, rng: np.random.Generator, chunk: int
    ) -> Iterator[np.ndarray]:
        """Weights (up to `chunk`, N) from a draw in place of each group of a size above 0."""
        num_groups = len(size_G)
        first_G = np.where(size_G > 0, self._begin_G, np.arange(num_groups))
        for begin in range(0, num_resamples, chunk):
            rows = min(chunk, num_resamples - begin)
            drawn_RG = first_G + (rng.random((rows, num_groups)) * size_G).astype(np.int64)
            drawn_RG += num_groups * np.arange(rows)[:, None]
            count_RG = np.bincount(drawn_RG.ravel(), minlength=rows * num_groups)
            yield count_RG.reshape(rows, num_groups)[:, self._place_N]
