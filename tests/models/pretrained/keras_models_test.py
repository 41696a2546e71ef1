"""Which Keras network a file holds, and its normalisation with the traps."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from skinjax import models
from skinjax.errors import InputError
from skinjax.models.pretrained import find, keras_models, load
from skinjax.models.pretrained.tensors import Tensors

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def file_of(shapes: dict[str, tuple[int, ...]], values: dict[str, Any] | None = None) -> Tensors:
    values = values or {}
    return Tensors(Path("weights.h5"), shapes, lambda name: np.asarray(values[name], np.float32))


def kernels(*layers: str, shape: tuple[int, ...] = (1, 1, 2, 2)) -> dict[str, tuple[int, ...]]:
    return {f"{layer}/kernel": shape for layer in layers}


def bottlenecks(*depths: int) -> dict[str, tuple[int, ...]]:
    names = [
        f"conv{stage}_block{block}_{conv}_conv"
        for stage, depth in enumerate(depths, 2)
        for block in range(1, depth + 1)
        for conv in (1, 2, 3)
    ]
    return kernels("conv1_conv", *names)


RESNET50 = bottlenecks(3, 4, 6, 3) | {"conv1_bn/gamma": (64,)}
VGG16 = kernels(
    *[f"block{b}_conv{c}" for b in range(1, 6) for c in range(1, 3 + (b > 2))], "fc1", "fc2"
)


def efficientnet(depths: tuple[int, ...], top: int) -> dict[str, tuple[int, ...]]:
    names = [f"block{s}{chr(97 + b)}_dwconv" for s, d in enumerate(depths, 1) for b in range(d)]
    found = {f"{name}/depthwise_kernel": (3, 3, 8, 1) for name in names}
    return (
        found
        | kernels("stem_conv", "block1a_se_reduce")
        | kernels("top_conv", shape=(1, 1, 9, top))
    )


def inception(start: int = 0, count: int = 94) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for number in range(start, start + count):
        suffix = f"_{number}" if number else ""
        shape = (3, 3, 3, 32) if number == start else (1, 1, 2, 2)
        found[f"conv2d{suffix}/kernel"] = shape
        found[f"batch_normalization{suffix}/beta"] = (2,)
    return found


@pytest.mark.parametrize(
    ("shapes", "name"),
    [
        (RESNET50, "resnet50"),
        (VGG16, "vgg16"),
        (efficientnet((1, 2, 2, 3, 3, 4, 1), 1280), "efficientnet_b0"),
        (efficientnet((2, 3, 3, 4, 4, 5, 2), 1280), "efficientnet_b1"),
        (efficientnet((2, 3, 3, 4, 4, 5, 2), 1408), "efficientnet_b2"),
        (efficientnet((4, 7, 7, 10, 10, 13, 4), 2560), "efficientnet_b7"),
        (inception(), "inception_v3"),
        (inception(1), "inception_v3"),
        (inception(95), "inception_v3"),
    ],
)
def test_networks_are_known_by_their_layers(shapes, name) -> None:
    assert keras_models.architecture(file_of(shapes)) == name
    assert keras_models.architecture(file_of(shapes | kernels("dense", "dense_1"))) == name


@pytest.mark.parametrize(
    "shapes",
    [
        bottlenecks(3, 4, 23, 3) | {"conv1_bn/gamma": (64,)},  # ResNet101
        bottlenecks(3, 4, 6, 3) | {"post_bn/gamma": (64,)},  # ResNet50V2
        VGG16 | kernels("block3_conv4", "block4_conv4", "block5_conv4"),  # VGG19
        efficientnet((1, 2, 2, 3, 3, 4, 1), 1281),
        kernels("stem_conv", "block1a_project_conv", "top_conv"),  # EfficientNetV2
        inception(0, 40),
    ],
)
def test_their_siblings_are_refused(shapes) -> None:
    with pytest.raises(InputError, match="holds none of the Keras networks that can be loaded"):
        keras_models.architecture(file_of(shapes))


@pytest.mark.parametrize("start", [0, 1, 95])
def test_inceptions_layers_are_counted_from_zero(start: int) -> None:
    shapes = inception(start)
    values = {name: number for number, name in enumerate(shapes)}
    tensors = keras_models.renumbered(file_of(shapes, values), "inception_v3")
    assert list(tensors.shapes) == list(inception())
    assert tensors.shapes["conv2d/kernel"] == (3, 3, 3, 32)
    assert tensors.read("batch_normalization_93/beta") == 187


def test_a_missing_layer_of_inception_is_named() -> None:
    shapes = inception(1, 95)
    del shapes["conv2d_40/kernel"]
    with pytest.raises(InputError, match=r"has no layer conv2d_40, one of the 94"):
        keras_models.renumbered(file_of(shapes), "inception_v3")


@pytest.mark.parametrize(
    ("variance", "std", "words"),
    [
        (STD, STD, "holds the std itself"),  # as published: the trap
        (STD**2, STD, "holds the variance"),
        (np.full(3, 0.04, np.float32), np.full(3, 0.2), "adapted to other data"),
    ],
)
def test_the_three_meanings_of_efficientnets_variance(variance, std, words) -> None:
    shapes = {"normalization_1/mean": (3,), "normalization_1/variance": (3,)}
    values = {"normalization_1/mean": MEAN, "normalization_1/variance": variance}
    normal = keras_models.normalization(file_of(shapes, values), "efficientnet_b0")
    assert normal.mean == (0.485, 0.456, 0.406)
    np.testing.assert_allclose(normal.std, std, rtol=1e-6)
    assert words in normal.origin


@pytest.mark.parametrize("variance", [[0.0, 1.0, 1.0], [1.0], [-1.0, 1.0, 1.0]])
def test_impossible_variances_are_named(variance) -> None:
    shapes = {"normalization/mean": (3,), "normalization/variance": (3,)}
    values = {"normalization/mean": MEAN, "normalization/variance": variance}
    with pytest.raises(InputError, match="tensor 'normalization/variance' is"):
        keras_models.normalization(file_of(shapes, values), "efficientnet_b0")


def test_efficientnet_without_the_layer_is_taken_for_imagenets() -> None:
    normal = keras_models.normalization(file_of({}), "efficientnet_b0")
    assert normal.std == (0.229, 0.224, 0.225)
    assert normal.origin.startswith("assumed to be ImageNet's")


def test_caffes_normalization_is_on_red_first_and_on_one() -> None:
    pixels_RGB = np.array([200.0, 100.0, 50.0])
    for name in ("resnet50", "vgg16"):
        normal = keras_models.normalization(file_of({}), name)
        ours = (pixels_RGB / 255 - normal.mean) / normal.std
        caffe_BGR = pixels_RGB[::-1] - [103.939, 116.779, 123.68]
        np.testing.assert_allclose(ours[::-1], caffe_BGR, rtol=1e-6)
    assert keras_models.normalization(file_of({}), "inception_v3").mean == (0.5, 0.5, 0.5)


@pytest.fixture
def resnet50(tmp_path: Path, variables, family, monkeypatch) -> Path:
    """ResNet50's .h5 with as many layers as the tiny network has, and the rest empty."""
    backbone = variables["params"]["backbone"]
    statistics = variables["batch_stats"]["backbone"]["stem"]["bn"]
    stem, block1 = backbone["stem"], backbone["block1"]
    layers = {name.split("/")[0]: {name: np.zeros(1, np.float32)} for name in RESNET50}
    layers |= {
        "tokens": {"tokens/token": stem["token"]},
        "conv1_conv": {"conv1_conv/kernel:0": stem["conv"]["kernel"][:, :, ::-1]},
        "conv1_bn": {
            "conv1_bn/gamma:0": stem["bn"]["scale"],
            "conv1_bn/beta:0": stem["bn"]["bias"],
            "conv1_bn/moving_mean:0": statistics["mean"],
            "conv1_bn/moving_variance:0": statistics["var"],
        },
        "block1_dwconv": {
            "block1_dwconv/depthwise_kernel:0": block1["depthwise"]["kernel"].swapaxes(2, 3)
        },
        "block1_dense": {
            "block1_dense/kernel:0": block1["dense"]["kernel"],
            "block1_dense/bias:0": block1["dense"]["bias"],
        },
        "predictions": {
            "predictions/kernel:0": variables["params"]["head"]["logits"]["kernel"],
            "predictions/bias:0": variables["params"]["head"]["logits"]["bias"],
        },
    }
    path = tmp_path / "resnet50.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = list(layers)
        for layer, weights in layers.items():
            file.create_group(layer).attrs["weight_names"] = list(weights)
            for weight, array in weights.items():
                file[layer][weight] = array
    return path


def test_keras_files_load_with_blue_and_red_changed_over(
    resnet50, config, variables, blank
) -> None:
    config.model.pretrained = str(resnet50)
    published = find(config.model)
    assert (published.variant, published.layout, published.image_size) == ("keras", "keras", 64)
    filled, report = load(published, blank, with_head=True)
    for collection in variables:
        for part in variables[collection]:
            assert_equal(filled[collection][part], variables[collection][part])
    assert report.head
    assert len(report.unexpected) == 48  # the empty rest


def assert_equal(one: Any, other: Any) -> None:
    if isinstance(other, dict):
        assert one.keys() == other.keys()
        for key in other:
            assert_equal(one[key], other[key])
    else:
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, other)


def test_a_missing_layer_of_keras_is_named(resnet50, config, blank) -> None:
    config.model.pretrained = str(resnet50)
    with h5py.File(resnet50, "a") as file:
        file["block1_dwconv"].attrs["weight_names"] = ["x"]
        file["block1_dwconv"]["x"] = np.ones(1)
    with pytest.raises(InputError, match="has no tensor 'block1_dwconv/kernel' of the 9"):
        load(find(config.model), blank)


def test_a_keras_file_of_another_network(resnet50, config) -> None:
    assert "resnet18" in models.families()
    config.model.name, config.model.pretrained = "resnet18", str(resnet50)
    with pytest.raises(InputError, match=r"is resnet50, but config\.model\.name is resnet18"):
        find(config.model)
