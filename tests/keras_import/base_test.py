"""What EfficientNet does to its images, read from its own layers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skinjax.errors import InputError
from skinjax.keras_import import base, graph
from skinjax.models.layers import KERAS
from skinjax.models.pretrained.tensors import Tensors


def efficientnet(*front: tuple[str, dict[str, Any]]) -> list[graph.Node]:
    """Layers in front of EfficientNet, and its first one."""
    names = ["input", *(f"front{number}" for number in range(len(front))), "stem_conv_pad"]
    kinds = [*front, ("ZeroPadding2D", {})]
    return [
        graph.Node(name, kind, {"offset": 0.0, **config}, (before,))
        for before, name, (kind, config) in zip(names, names[1:], kinds, strict=False)
    ]


RESCALING = ("Rescaling", {"scale": 1 / 255})
NORMALIZATION = ("Normalization", {"mean": None})
SCALE = [0.229**-0.5, 0.224**-0.5, 0.225**-0.5]


@pytest.mark.parametrize("published", [True, False])
def test_efficientnet_normalizes_as_its_own_layers_do(published: bool) -> None:
    # The published networks have the std in the place of the variance, and divide once more.
    std = np.array([0.229, 0.224, 0.225], np.float32)
    values = {
        "front1/mean": np.array([0.485, 0.456, 0.406], np.float32),
        "front1/variance": std if published else std**2,
    }
    tensors = Tensors(Path("x.h5"), dict.fromkeys(values, (3,)), values.__getitem__)
    front = [RESCALING, NORMALIZATION, *([("Rescaling", {"scale": SCALE})] * published)]
    found = base.normalization(efficientnet(*front), "efficientnet_b0", tensors)
    np.testing.assert_allclose(found.mean, values["front1/mean"], rtol=1e-6)
    np.testing.assert_allclose(found.std, std, rtol=1e-6)


@pytest.mark.parametrize(
    ("front", "message"),
    [
        ((), "'stem_conv_pad' .* is among no layers in front"),
        ((RESCALING,), "'front0' .* is among Rescaling in front"),
        ((("Rescaling", {"scale": 1.0}), NORMALIZATION), "'front0' .* has scale 1.0"),
        ((("Rescaling", {"scale": 1 / 255, "offset": -1}), NORMALIZATION), "has offset -1"),
        ((RESCALING, ("Normalization", {"mean": 0.0})), "'front1' .* has no tensor 'front1/mean'"),
    ],
)
def test_other_layers_in_front_of_efficientnet_are_refused(front: Any, message: str) -> None:
    values = {"front1/mean": np.zeros(3, np.float32), "front1/variance": np.ones(3, np.float32)}
    if "no tensor" in message:
        values = {}
    tensors = Tensors(Path("x.h5"), dict.fromkeys(values, (3,)), values.__getitem__)
    with pytest.raises(InputError, match=message):
        base.normalization(efficientnet(*front), "efficientnet_b0", tensors)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dilation_rate": [2, 2]}, "'conv1_conv' .* is dilated"),
        ({"activation": "tanh"}, "'conv1_conv' .* has the activation tanh"),
        ({"data_format": "channels_first"}, "has its channels first"),
    ],
)
def test_a_network_that_computes_something_else_is_refused(config: Any, message: str) -> None:
    node = graph.Node("conv1_conv", "Conv2D", config, ("input",))
    with pytest.raises(InputError, match=message):
        base.check([node], "resnet50", KERAS, "x.h5")
