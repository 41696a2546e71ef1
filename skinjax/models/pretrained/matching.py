"""Parameters and the tensors that hold them: names, and the order of axes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

Path = tuple[str, ...]  # in the variables, as ("params", "backbone", "stem", "conv", "kernel")

# What a leaf is called in a file; the first that is there is meant. A bias is batch norm's, too.
_TIMM = {
    "kernel": ("weight",),
    "scale": ("weight",),
    "mean": ("running_mean",),
    "var": ("running_var",),
}
_KERAS = {
    "kernel": ("kernel", "depthwise_kernel"),
    "scale": ("gamma",),
    "bias": ("bias", "beta"),
    "mean": ("moving_mean",),
    "var": ("moving_variance",),
}


@dataclass(frozen=True)
class Leaf:
    """One array of the backbone.

    Attributes:
      path: in the variables.
      shape: of the array.
      tensors: the names under which a file may have it.
    """

    path: Path
    shape: tuple[int, ...]
    tensors: tuple[str, ...]

    @property
    def inside(self) -> str:
        """The path inside the backbone, "stem/conv/kernel"."""
        return "/".join(self.path[2:])


def leaves(variables: Mapping[str, Any], layout: str, family: ModuleType) -> list[Leaf]:
    """The leaves of the backbone, in their order.

    Args:
      variables: with 'params' and 'batch_stats'; arrays or their shapes.
      layout: "timm" or "keras".
      family: the module that knows the layers' names.
    """
    names = _timm_names if layout == "timm" else _keras_names
    found: list[Leaf] = []
    for collection in ("params", "batch_stats"):
        backbone = variables.get(collection, {}).get("backbone", {})
        for path, array in _flatten(backbone, (collection, "backbone")):
            tensors = names("/".join(path[2:-1]), path[-1], family)
            found.append(Leaf(path, tuple(array.shape), tensors))
    return found


def _timm_names(layer: str, leaf: str, family: ModuleType) -> tuple[str, ...]:
    module: str = family.timm_name(layer)
    scope = f"{module}." if module else ""
    return tuple(scope + name for name in _TIMM.get(leaf, (leaf,)))


def _keras_names(layer: str, leaf: str, family: ModuleType) -> tuple[str, ...]:
    return tuple(f"{family.keras_name(layer)}/{name}" for name in _KERAS.get(leaf, (leaf,)))


def in_flax_order(array: np.ndarray, leaf: Leaf, layout: str) -> np.ndarray:
    """The array with its axes as Flax has them.

    PyTorch's kernels are (out, in, rows, columns), (C, 1, rows, columns) where depthwise, and
    (out, in) where dense; Keras's are Flax's, but (rows, columns, C, 1) where depthwise.
    """
    if leaf.path[-1] != "kernel":
        return array
    if layout == "timm":
        return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    if array.ndim == 4 and array.shape[3] == 1 and leaf.shape[2] == 1:
        return array.transpose(0, 1, 3, 2)
    return array


def replaced(
    tree: Mapping[str, Any], change: Callable[[Path, Any], Any], path: Path = ()
) -> dict[str, Any]:
    """A copy of nested dicts with `change(path, leaf)` in the place of each leaf."""
    return {
        key: replaced(value, change, (*path, key))
        if isinstance(value, Mapping)
        else change((*path, key), value)
        for key, value in tree.items()
    }


def _flatten(tree: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, (*path, key))
        else:
            yield (*path, key), value
