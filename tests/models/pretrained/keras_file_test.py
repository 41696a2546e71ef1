"""Keras's two layouts of HDF5, and files that are damaged or something else."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from skinjax.errors import InputError
from skinjax.models.pretrained.keras_file import open_keras


def write_older(path: Path, layers: dict[str, dict[str, np.ndarray]], chunks: int = 1) -> Path:
    """The layout of Keras Applications' files, with long lists of names in parts."""
    with h5py.File(path, "w") as file:
        names = [layer.encode() for layer in layers]
        if chunks == 1:
            file.attrs["layer_names"] = names
        for number in range(chunks if chunks > 1 else 0):
            file.attrs[f"layer_names{number}"] = names[number::chunks]
        for layer, weights in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, array in weights.items():
                group[weight] = array
    return path


def write_newer(path: Path, groups: dict[str, tuple[str | None, list[np.ndarray]]]) -> Path:
    """The layout of `.weights.h5`: a group for each layer, its name, and its variables."""
    with h5py.File(path, "w") as file:
        file.create_group("vars")
        for place, (name, arrays) in groups.items():
            group = file.create_group(f"{place}/vars")
            if name is not None:
                group.attrs["name"] = name
            for number, array in enumerate(arrays):
                group[str(number)] = array
    return path


def read(path: Path) -> dict[str, list[float]]:
    with open_keras(path) as tensors:
        return {name: tensors.float32(name).tolist() for name in tensors.shapes}


def message(path: Path) -> str:
    with pytest.raises(InputError) as caught, open_keras(path):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("chunks", [1, 2])
def test_names_of_all_versions_of_the_older_layout(tmp_path: Path, chunks: int) -> None:
    one, two = np.array([1.0]), np.array([2.0])
    layers = {
        "input_1": {},
        "conv1_conv": {"conv1_conv/kernel:0": one, "conv1_conv/bias:0": two},  # Keras 2
        "block1_conv1": {"block1_conv1_W_1:0": one, "block1_conv1_b_1:0": two},  # Keras 1
        "stem_bn": {"model/stem_bn/gamma": one},  # Keras 3
        "resnet50": {"conv2_conv/kernel:0": one, "conv2_bn/gamma:0": two},  # a model in the model
    }
    found = read(write_older(tmp_path / "weights.h5", layers, chunks))
    assert found == {
        "conv1_conv/kernel": [1.0],
        "conv1_conv/bias": [2.0],
        "block1_conv1/kernel": [1.0],
        "block1_conv1/bias": [2.0],
        "stem_bn/gamma": [1.0],
        "conv2_conv/kernel": [1.0],
        "conv2_bn/gamma": [2.0],
    }


def test_a_whole_saved_model_has_its_weights_in_a_group(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    write_older(path, {"dense": {"dense/kernel:0": np.array([3.0])}})
    with h5py.File(path, "a") as file:
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = file.attrs.pop("layer_names")
        file.move("dense", "model_weights/dense")
        file.create_group("optimizer_weights")
    assert read(path) == {"dense/kernel": [3.0]}


def test_the_newer_layout_by_the_names_and_kinds_of_its_layers(tmp_path: Path) -> None:
    values = [np.array([float(n)]) for n in range(4)]
    groups = {
        "layers/conv2d": ("stem_conv", values[:1]),
        "layers/depthwise_conv2d_1": ("block1a_dwconv", values[:1]),
        "layers/functional/layers/batch_normalization_3": ("stem_bn", values),
        "layers/batch_normalization": ("batch_normalization", values[:3]),
        "layers/normalization": ("normalization", values[:3]),
        "layers/activation": ("relu", []),
        "optimizer/adam": ("adam", values),
    }
    assert read(write_newer(tmp_path / "model.weights.h5", groups)) == {
        "batch_normalization/beta": [0.0],
        "batch_normalization/moving_mean": [1.0],
        "batch_normalization/moving_variance": [2.0],
        "stem_conv/kernel": [0.0],
        "block1a_dwconv/kernel": [0.0],
        "stem_bn/gamma": [0.0],
        "stem_bn/beta": [1.0],
        "stem_bn/moving_mean": [2.0],
        "stem_bn/moving_variance": [3.0],
        "normalization/mean": [0.0],
        "normalization/variance": [1.0],
        "normalization/count": [2.0],
    }


def test_the_newer_layout_without_names_can_not_be_matched(tmp_path: Path) -> None:
    path = write_newer(tmp_path / "a.weights.h5", {"layers/conv2d": (None, [np.ones(1)])})
    assert "doesn't hold the names of its layers (/layers/conv2d/vars has none)" in message(path)


def test_two_networks_in_one_file(tmp_path: Path) -> None:
    layers = {
        "resnet50": {"conv1_conv/kernel:0": np.ones(1)},
        "resnet50_1": {"conv1_conv/kernel:0": np.ones(1)},
    }
    assert "has 'conv1_conv/kernel' twice" in message(write_older(tmp_path / "a.h5", layers))


def test_a_layer_that_is_listed_but_missing(tmp_path: Path) -> None:
    path = write_older(tmp_path / "a.h5", {"conv": {"conv/kernel:0": np.ones(1)}})
    with h5py.File(path, "a") as file:
        del file["conv"]["conv/kernel:0"]
    assert "its list of layers can't be read" in message(path)


def test_truncated_and_other_files(tmp_path: Path) -> None:
    path = write_older(tmp_path / "a.h5", {"conv": {"conv/kernel:0": np.ones(5000)}})
    content = path.read_bytes()
    for length in (len(content) - 1, len(content) // 2, 20):
        path.write_bytes(content[:length])
        assert "can't be opened as HDF5" in message(path)
    path.write_bytes(b"<html>no</html>")
    assert "should be HDF5, as Keras writes, but is an HTML or XML page" in message(path)
    path.write_bytes(b"PK\x03\x04" + bytes(80))
    assert "is a zip archive, as torch.save and Keras 3 write" in message(path)
    path.write_bytes(b"not anything known")
    assert "is something else" in message(path)
    path.write_bytes(b"")
    assert "is empty" in message(path)
    path.unlink()
    assert "can't be read (No such file" in message(path)


def test_hdf5_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros(3)
    assert "lists no layers with weights as Keras does" in message(path)


def test_a_data_set_that_can_not_be_decoded_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv"]
        group = file.create_group("conv")
        group.attrs["weight_names"] = [b"conv/kernel:0"]
        values = np.random.default_rng(0).normal(size=4000)
        group.create_dataset("conv/kernel:0", data=values, compression="gzip", fletcher32=True)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with (
        open_keras(path) as tensors,
        pytest.raises(InputError, match=r"tensor 'conv/kernel' can't be read"),
    ):
        tensors.float32("conv/kernel")
