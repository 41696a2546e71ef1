"""Reading a Keras .h5 file of weights: its tensors by layer, in either of Keras's layouts.

The older layout (Keras Applications' files, and all that `model.save("model.h5")` writes) lists
layers and weights in attributes; see Keras's legacy_h5_format.py. The newer one (`.weights.h5`)
has "layers/<class>_<n>/vars/<k>" and, since Keras 3 keeps it, each layer's name; see saving_lib.py.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from skinjax.errors import InputError
from skinjax.models.pretrained import contents
from skinjax.models.pretrained.tensors import Tensors

# The weights of a layer in the order in which the newer layout numbers them, by the layer's class.
_DENSE = ("kernel", "bias")
_VARIABLES = {
    ("conv2d", 1): _DENSE,
    ("conv2d", 2): _DENSE,
    ("depthwise_conv2d", 1): _DENSE,
    ("depthwise_conv2d", 2): _DENSE,
    ("dense", 1): _DENSE,
    ("dense", 2): _DENSE,
    ("batch_normalization", 4): ("gamma", "beta", "moving_mean", "moving_variance"),
    ("batch_normalization", 3): ("beta", "moving_mean", "moving_variance"),  # scale=False
    ("normalization", 3): ("mean", "variance", "count"),
}
_KERAS_1 = {"W": "kernel", "b": "bias"}


@contextlib.contextmanager
def open_keras(path: Path) -> Iterator[Tensors]:
    """The tensors of a Keras .h5 file, as "layer/kernel", read one at a time.

    Raises:
      InputError: the file is missing, damaged, of another kind, or not Keras's.
    """
    import h5py

    contents.check_hdf5(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            f"{path} can't be opened as HDF5 ({error}); it is damaged: download it again"
        ) from None
    with file:
        datasets = _damage_named(path, "its list of layers", lambda: _datasets(path, file))
        if not datasets:
            raise InputError(
                f"{path} is HDF5, but lists no layers with weights as Keras does; pass a file that "
                "Keras wrote with model.save('model.h5')"
            )

        def read(name: str) -> np.ndarray:
            return _damage_named(path, f"tensor {name!r}", lambda: np.asarray(datasets[name][()]))

        shapes = {name: tuple(dataset.shape) for name, dataset in datasets.items()}
        yield Tensors(path, shapes, read)


def _damage_named(path: Path, part: str, read: Any) -> Any:
    try:
        return read()
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: {part} can't be read ({error}); the file is damaged: download it again"
        ) from None


def _datasets(path: Path, file: Any) -> dict[str, Any]:
    """The HDF5 data sets by "layer/weight"."""
    root = file.get("model_weights", file)
    pairs = _older(root) if _names(root, "layer_names") else _newer(path, root)
    found: dict[str, Any] = {}
    for name, dataset in pairs:
        if name in found:
            raise InputError(
                f"{path} has {name!r} twice, so it holds more than one network; save the one that "
                "is meant with model.save('model.h5')"
            )
        found[name] = dataset
    return found


def _older(root: Any) -> Iterator[tuple[str, Any]]:
    for layer in _names(root, "layer_names"):
        for weight in _names(root[layer], "weight_names"):
            yield _canonical(layer, weight), root[layer][weight]


def _names(group: Any, attribute: str) -> list[str]:
    """A list of names in an attribute, or in several with numbers where one would be too long."""
    values = list(group.attrs.get(attribute, ()))
    number = 0
    while f"{attribute}{number}" in group.attrs:
        values += list(group.attrs[f"{attribute}{number}"])
        number += 1
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _canonical(layer: str, weight: str) -> str:
    """ "conv1_conv/kernel" from "resnet50/conv1_conv/kernel:0", "fc1/bias" from "fc1_b_1:0".

    A model inside the model is one layer to Keras, whose weights name their own layers.
    """
    *scopes, leaf = weight.split(":")[0].split("/")
    if keras_1 := re.fullmatch(r"(.+)_(W|b)(_\d+)?", leaf):
        return f"{layer}/{_KERAS_1[keras_1[2]]}"
    return f"{scopes[-1] if scopes else layer}/{leaf}"


def _newer(path: Path, root: Any) -> Iterator[tuple[str, Any]]:
    groups: list[Any] = []

    def visit(name: str, group: Any) -> None:
        if name.endswith("/vars") and len(group) > 0 and not name.startswith("optimizer/"):
            groups.append(group)

    root.visititems(visit)
    for group in groups:
        kind = re.sub(r"_\d+$", "", group.name.split("/")[-2])
        name = group.attrs.get("name")
        if not isinstance(name, str):
            raise InputError(
                f"{path} doesn't hold the names of its layers ({group.name} has none); open it in "
                "Keras and save it with model.save('model.h5')"
            )
        leaves = _VARIABLES.get((kind, len(group)), tuple(map(str, range(len(group)))))
        for number, leaf in zip(range(len(group)), leaves, strict=False):
            yield f"{name}/{leaf}", group[str(number)]
