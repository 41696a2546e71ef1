"""The order of Keras's layers, against the one that Keras itself gave (scripts/golden)."""

import json
from pathlib import Path
from typing import Any

import pytest

from skinjax.errors import InputError
from skinjax.models import keras_layers

GOLDEN = Path(__file__).parents[1] / "golden" / "keras_layers.json"


@pytest.fixture(scope="module")
def golden() -> Any:
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet50"])
def test_order_is_that_of_keras(golden: Any, name: str) -> None:
    assert keras_layers.layer_order(name) == tuple(row[0] for row in golden[name]["layers"])


@pytest.mark.parametrize(("name", "not_ours"), [("efficientnet_b0", 1), ("resnet50", 0)])
def test_layers_of_ours_are_those_with_weights(golden: Any, name: str, not_ours: int) -> None:
    # EfficientNet's "normalization" has weights too; here it is preprocessing.
    with_weights = [
        row[0] for row in golden[name]["layers"] if row[2] and row[0] != "normalization"
    ]
    assert len(with_weights) + not_ours == sum(row[2] > 0 for row in golden[name]["layers"])
    total = len(keras_layers.layer_order(name))
    paths = keras_layers.first(name, total)
    assert len(set(paths)) == len(paths) == len(with_weights)
    assert paths == keras_layers.last(name, total)


def test_the_first_150_of_efficientnet_b0(golden: Any) -> None:
    order = keras_layers.layer_order("efficientnet_b0")
    assert list(order[:150]) == golden["efficientnet_b0"]["first_150"]
    assert order[149] == "block5c_expand_bn"
    first = keras_layers.first("efficientnet_b0", 150)
    assert first[:3] == (
        "backbone/stem/conv",
        "backbone/stem/bn",
        "backbone/block1/block0/conv_depthwise",
    )
    assert first[-2:] == ("backbone/block5/block2/conv_expand", "backbone/block5/block2/bn_expand")
    rest = keras_layers.last("efficientnet_b0", len(order) - 150)
    assert rest[0] == "backbone/block5/block2/conv_depthwise"
    assert first + rest == keras_layers.first("efficientnet_b0", len(order))


def test_the_last_50_of_efficientnet_b0(golden: Any) -> None:
    order = keras_layers.layer_order("efficientnet_b0")
    assert list(order[-50:]) == golden["efficientnet_b0"]["last_50"]
    last = keras_layers.last("efficientnet_b0", 50)
    assert last[0] == "backbone/block6/block1/conv_project"
    assert last[-1] == "backbone/top/bn"
    assert "backbone/block7/block0/se/conv_reduce" in last


def test_the_last_30_of_resnet50(golden: Any) -> None:
    order = keras_layers.layer_order("resnet50")
    assert list(order[-30:]) == golden["resnet50"]["last_30"]
    assert order[-31] == "conv5_block1_1_bn"
    first = keras_layers.first("resnet50", len(order) - 30)
    assert first[-2:] == ("backbone/layer4/block0/conv1", "backbone/layer4/block0/bn1")
    last = keras_layers.last("resnet50", 30)
    # The shortcut of the first block is trained, and stands before the branch's last convolution.
    assert last[:4] == (
        "backbone/layer4/block0/conv2",
        "backbone/layer4/block0/bn2",
        "backbone/layer4/block0/downsample_conv",
        "backbone/layer4/block0/conv3",
    )
    assert len(last) == 4 + 2 + 12


def test_nothing_asked_is_nothing() -> None:
    assert keras_layers.first("resnet50", 0) == keras_layers.last("resnet50", 0) == ()


def test_what_it_refuses() -> None:
    with pytest.raises(InputError, match=r"176 layers of resnet50 .* has 175$"):
        keras_layers.first("resnet50", 176)
    with pytest.raises(InputError, match=r"-1 layers of efficientnet_b0 .* has 238$"):
        keras_layers.last("efficientnet_b0", -1)
    with pytest.raises(InputError, match=r"known of efficientnet_b0, .*, not of 'resnet18'"):
        keras_layers.layer_order("resnet18")
