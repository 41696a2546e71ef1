"""A checkpoint's tensors into the variables of a network: all that it needs, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from absl import logging

from skinjax import models
from skinjax.errors import InputError
from skinjax.models.pretrained import keras_models, matching
from skinjax.models.pretrained.keras_file import open_keras
from skinjax.models.pretrained.matching import Leaf
from skinjax.models.pretrained.published import Published
from skinjax.models.pretrained.safetensors_file import open_safetensors
from skinjax.models.pretrained.tensors import Tensors

# The classifier's names in the files; the first that is there is meant.
_HEADS = ("classifier", "head.fc", "head", "fc", "predictions")
# What a file has beyond the backbone: classifiers, VGG's dense layers where they are left out,
# InceptionV3's second classifier, PyTorch's counters, Keras's normalisation of images.
_EXPECTED = (
    "classifier.", "head.", "fc.", "pre_logits.", "AuxLogits.", "predictions/", "fc1/", "fc2/",
    "normalization",
)  # fmt: skip
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Report:
    """What was done with a file.

    Attributes:
      filled: arrays of the backbone that were filled: all of them.
      head: whether the head was filled, too.
      unused: the file's tensors that weren't used.
      unexpected: those of them that are no classifier or counter.
    """

    filled: int
    head: bool
    unused: tuple[str, ...]
    unexpected: tuple[str, ...]

    def describe_unused(self) -> str:
        """Names what wasn't used; PyTorch's counters are counted."""
        names = [name for name in self.unused if not name.endswith(_COUNTER)]
        counters = len(self.unused) - len(names)
        names += [f"{counters} counters of batches"] if counters else []
        return f"not used: {', '.join(names)}" if names else "every tensor of the file is used"


def load(
    published: Published, variables: Mapping[str, Any], *, with_head: bool = False
) -> tuple[dict[str, Any], Report]:
    """Fills the backbone from a checkpoint.

    Args:
      published: the checkpoint.
      variables: 'params' and 'batch_stats' of the network, arrays or their shapes; not changed.
      with_head: also fill a head that is one dense layer, where the checkpoint's has its shapes.

    Returns:
      A copy of `variables` whose filled leaves are float32 NumPy arrays, and a report.

    Raises:
      InputError: a tensor is missing, or has another shape, or isn't finite, or belongs to a layer
        that the network has without it.
    """
    family = models.families()[published.name]
    is_timm = published.layout == "timm"
    with (open_safetensors if is_timm else open_keras)(published.path) as tensors:
        if not is_timm:
            tensors = keras_models.renumbered(tensors, published.name)
        leaves = matching.leaves(variables, published.layout, family)
        names = _choose(leaves, tensors, published)
        if with_head:
            names |= _head(variables, tensors, published.layout)
        unused = tuple(name for name in tensors.shapes if name not in names.values())
        _check_whole_layers(unused, set(names.values()), published)
        arrays = {
            leaf.path: _array(leaf, name, tensors, published, family)
            for leaf, name in names.items()
        }
    unexpected = tuple(name for name in unused if not _is_expected(name))
    if unexpected:
        logging.warning(
            "%s has %d tensors that %s has no place for: %s%s",
            published.origin, len(unexpected), published.name, ", ".join(unexpected[:5]),
            ", ..." if len(unexpected) > 5 else "",
        )  # fmt: skip
    filled = matching.replaced(variables, lambda path, leaf: arrays.get(path, leaf))
    return filled, Report(len(leaves), len(arrays) > len(leaves), unused, unexpected)


def _choose(leaves: list[Leaf], tensors: Tensors, published: Published) -> dict[Leaf, str]:
    """The tensor of each leaf."""
    found = {
        leaf: next((name for name in leaf.tensors if name in tensors.shapes), None)
        for leaf in leaves
    }
    missing = [leaf for leaf, name in found.items() if name is None]
    if missing:
        first = missing[0]
        others = f", nor {len(missing) - 1} others" if len(missing) > 1 else ""
        advice = (
            "set --config.model.fully_connected=False for a file without dense layers"
            if first.path[2] == "fc"
            else "check config.model.name and config.model.variant, or pass another checkpoint"
        )
        raise InputError(
            f"{published.path} has no tensor {first.tensors[0]!r}{others} of the {len(leaves)} "
            f"that {published.name} of variant {published.variant!r} needs; {advice}"
        )
    return {leaf: name for leaf, name in found.items() if name is not None}


def _head(variables: Mapping[str, Any], tensors: Tensors, layout: str) -> dict[Leaf, str]:
    """The tensors of a head that is one dense layer; none where anything about it is different."""
    head = variables["params"]["head"]
    if set(head) != {"logits"} or "head" in variables.get("batch_stats", {}):
        return {}
    kernel, bias = ("{}.weight", "{}.bias") if layout == "timm" else ("{}/kernel", "{}/bias")
    for name in _HEADS:
        found = {"kernel": kernel.format(name), "bias": bias.format(name)}
        if any(tensor not in tensors.shapes for tensor in found.values()):
            continue
        shape = tensors.shapes[found["kernel"]]
        expected = tuple(head["logits"]["kernel"].shape)
        if (shape[::-1] if layout == "timm" else shape) != expected:
            return {}
        return {
            Leaf(
                ("params", "head", "logits", leaf), tuple(head["logits"][leaf].shape), (tensor,)
            ): (tensor)
            for leaf, tensor in found.items()
        }
    return {}


def _check_whole_layers(unused: tuple[str, ...], used: set[str], published: Published) -> None:
    """Stops where a layer was used in part: the network would compute something else."""
    layers = {_layer(name) for name in used}
    left = [name for name in unused if _layer(name) in layers and not name.endswith(_COUNTER)]
    if left:
        raise InputError(
            f"{published.path} has {left[0]!r}, which {published.name} of variant "
            f"{published.variant!r} has no place for in that layer; set config.model.variant to "
            "the checkpoint's own, or leave it empty"
        )


def _layer(name: str) -> str:
    """ "conv1" of "conv1.weight", "conv1_conv" of "conv1_conv/kernel"; "" of a root's tensor."""
    return name[: max(name.rfind("."), name.rfind("/"), 0)]


def _is_expected(name: str) -> bool:
    return name.endswith(_COUNTER) or name.startswith(_EXPECTED)


def _array(
    leaf: Leaf, name: str, tensors: Tensors, published: Published, family: ModuleType
) -> np.ndarray:
    """A tensor as the leaf's array."""
    array = matching.in_flax_order(tensors.float32(name), leaf, published.layout)
    if published.layout == "keras" and name == keras_models.BLUE_FIRST.get(published.name):
        array = array[:, :, ::-1]
    if array.shape != leaf.shape and hasattr(family, "adapt") and leaf.path[1] == "backbone":
        array = family.adapt(leaf.inside, array, leaf.shape)
    if array.shape != leaf.shape:
        raise InputError(
            f"{published.path}: tensor {name!r} has shape {tensors.shapes[name]}, which doesn't "
            f"fit {published.name}'s {'/'.join(leaf.path[1:])} of {leaf.shape}; check "
            "config.model, or pass another checkpoint"
        )
    return np.ascontiguousarray(array, np.float32)
