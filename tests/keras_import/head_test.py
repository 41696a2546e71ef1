"""What stands behind the network, and what can't be said of it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from skinjax.errors import InputError
from skinjax.keras_import import base, graph, head
from skinjax.models import resnet
from skinjax.models.heads import PRESETS
from skinjax.models.layers import KERAS

Change = Callable[[list[dict[str, Any]]], Any]
HEAD = PRESETS["bn_512_256_sigmoid"]


def head_of(model: dict[str, Any]) -> head.Head:
    layers, tail = base.split(graph.parse(model), "resnet50", "model.h5")
    base.check(layers, "resnet50", resnet.KERAS, "model.h5")
    head.check_norms(tail, KERAS, "model.h5")
    return head.describe(tail, "model.h5")


def changed(number: int, **fields: Any) -> Change:
    """Changes fields of a layer of the sequential form, where 1 is the network."""
    return lambda layers: layers[number]["config"].update(fields)


def inserted(number: int, kind: str, **fields: Any) -> Change:
    layer = {"class_name": kind, "config": {"name": "new", **fields}}
    return lambda layers: layers.insert(number, layer)


def inside(called: str, **fields: Any) -> Change:
    """Changes fields of a layer of the network."""

    def change(layers: list[dict[str, Any]]) -> None:
        (layer,) = (one for one in layers[1]["config"]["layers"] if one["name"] == called)
        layer["config"].update(fields)

    return change


def parted(layers: list[dict[str, Any]]) -> None:
    """The output's activation as a layer of its own."""
    changed(10, activation="linear")(layers)
    inserted(11, "Activation", activation="sigmoid")(layers)


RELU = {"class_name": "function", "config": "relu", "registered_name": "relu"}


@pytest.mark.parametrize(
    ("change", "layers"),
    [
        (changed(5, activation=RELU), HEAD),
        (changed(8, activation="swish"), (*HEAD[:7], ("silu",), *HEAD[8:])),
        (lambda layers: layers.__delitem__(slice(3, 10)), HEAD[-1:]),
        (inserted(4, "ReLU", max_value=None), (*HEAD[:1], ("relu",), *HEAD[1:])),
        (changed(10, activation="softmax", units=3), HEAD[:-1]),
        (parted, HEAD),
    ],
)  # fmt: skip
def test_other_heads(golden: Any, change: Change, layers: Any) -> None:
    model = golden.config("sequential")
    change(model["config"]["layers"])
    found = head_of(model)
    assert found.layers == layers
    assert found.outputs == (3 if layers[-1] != ("sigmoid",) else 2)
    assert found.keras_names["logits"] == "dense_2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(3, epsilon=1e-5), "'batch_normalization' .* has epsilon 1e-05; only 0.001 can"),
        (changed(3, momentum=0.9), "'batch_normalization' .* has momentum 0.9"),
        (changed(3, axis=2), "'batch_normalization' .* has axis 2"),
        (changed(6, scale=False), "'batch_normalization_1' .* has scale False"),
        (changed(5, activation="elu"), r"'dense' \(Dense\) has the activation elu"),
        (changed(5, activation="gelu"), "'dense' .* has the activation gelu"),
        (changed(5, use_bias=False), "'dense' .* has use_bias False"),
        (changed(5, activation="sigmoid"), "'dense' .* has sigmoid before the output"),
        (changed(10, activation="linear"), "'dense_2' .* is the output"),
        (changed(10, activation="softmax"), "'dense_2' .* is a softmax of 1 outputs"),
        (changed(10, units=4), "'dense_2' .* is a sigmoid of 4 outputs"),
        (changed(2, keepdims=True), "'global_average_pooling2d' .* in the place of the pooling"),
        (inserted(2, "Flatten"), r"'new' \(Flatten\) is in the place of the pooling"),
        (inserted(11, "Dropout", rate=0.1), r"'new' \(Dropout\) is the output"),
        (inserted(4, "LayerNormalization"), r"'new' \(LayerNormalization\) can't be imported"),
        (inserted(1, "Rescaling", scale=1 / 255), r"'new' \(Rescaling\) is none of resnet50's"),
        (inserted(1, "RandomFlip", mode="horizontal"), r"'new' \(RandomFlip\) is none of"),
        (inside("conv3_block1_1_bn", epsilon=1e-3), "'conv3_block1_1_bn' .* has epsilon 0.001"),
        (inside("conv1_conv", data_format="channels_first"), "'conv1_conv' .* channels first"),
        (
            lambda layers: layers[1]["config"].update(output_layers=["conv5_block2_out", 0, 0]),
            "'conv5_block3_1_conv' .* doesn't lead to the output",
        ),
        (lambda layers: layers.__delitem__(slice(2, 11)), "has nothing behind its network"),
        (lambda layers: layers.append(copy.deepcopy(layers[3])), "two layers are called 'batch_n"),
        (lambda layers: layers[1].update(class_name="Custom"), r"\(Custom\) is where resnet50 is"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_refused_by_name(golden: Any, change: Change, message: str) -> None:
    model = golden.config("sequential")
    change(model["config"]["layers"])
    with pytest.raises(InputError, match=message) as raised:
        head_of(model)
    assert "\n" not in str(raised.value)


def test_a_layer_that_the_network_lacks_is_named(golden: Any) -> None:
    layers, _ = base.split(graph.parse(golden.config("flat")), "resnet50", "model.h5")
    layers = [node for node in layers if node.name != "conv1_pad"]
    with pytest.raises(InputError, match="layer 'conv1_pad' of resnet50 is missing"):
        base.check(layers, "resnet50", resnet.KERAS, "model.h5")
