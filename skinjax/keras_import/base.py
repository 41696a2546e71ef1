"""The network of Keras Applications at the beginning of a model, and what is done to its images."""

import re
from collections import Counter

import numpy as np

from skinjax.errors import InputError
from skinjax.keras_import.graph import Graph, Node
from skinjax.models import keras_layers
from skinjax.models.layers import Norm
from skinjax.models.pretrained import keras_models
from skinjax.models.pretrained.normalization import INCEPTION, Normalization
from skinjax.models.pretrained.tensors import Tensors

# The layer that `include_top=False` ends with.
_LAST = {"resnet50": "conv5_block3_out", "vgg16": "block5_pool", "inception_v3": "mixed10"}
_EFFICIENTNET_LAST, _EFFICIENTNET_FIRST = "top_activation", "stem_conv_pad"
_VGG16 = {
    f"block{block}_{layer}"
    for block, convolutions in enumerate((2, 2, 3, 3, 3), start=1)
    for layer in (*(f"conv{number + 1}" for number in range(convolutions)), "pool")
}
# InceptionV3's layers are named by number, so they are counted.
_INCEPTION = {
    "Conv2D": 94, "BatchNormalization": 94, "Activation": 94, "Concatenate": 15,
    "AveragePooling2D": 9, "MaxPooling2D": 4,
}  # fmt: skip
_PREPROCESSING = ("Rescaling", "Normalization")
_ADVICE = "only an unchanged network of Keras Applications on the images themselves can be imported"


def split(graph: Graph, name: str, origin: object) -> tuple[list[Node], list[Node]]:
    """The network's layers without the input, and the chain of layers behind it.

    Args:
      graph: of the whole model.
      name: of the network, as `model.name`.
      origin: of the model, for messages.

    Raises:
      InputError: what is behind the network is no chain.
    """
    last = _LAST.get(name, _EFFICIENTNET_LAST)
    tail: list[Node] = []
    node = graph.nodes[graph.output]
    while node.name != last:
        if node is graph.input and tail:
            raise tail[-1].error(origin, f"is where {name} is expected", _ADVICE)
        if len(node.sources) != 1:
            raise node.error(
                origin,
                f"takes {len(node.sources)} inputs",
                f"expected one layer after the other from {last!r}, the end of {name}, on",
            )
        tail.append(node)
        node = graph.nodes[node.sources[0]]
    base = [layer for layer in graph.before(last) if layer is not graph.input]
    return base, tail[::-1]


def check(base: list[Node], name: str, norm: Norm, origin: object) -> None:
    """Checks that the layers are those of the network, with its batch norm and activations.

    Strides and paddings aren't compared.

    Raises:
      InputError: naming the first layer that isn't.
    """
    efficientnet = name.startswith("efficientnet")
    layers = {
        node.name: node for node in base if not (efficientnet and node.kind in _PREPROCESSING)
    }
    for node in layers.values():
        if node.config.get("data_format", "channels_last") != "channels_last":
            raise node.error(origin, "has its channels first", "save the model with them last")
        if set(_sides(node.config.get("dilation_rate", 1))) != {1}:
            raise node.error(origin, "is dilated", _ADVICE)
        activation = node.config.get("activation")
        own = ("swish", "silu", "sigmoid") if efficientnet else ("relu",)
        if isinstance(activation, str) and activation not in ("linear", *own):
            raise node.error(origin, f"has the activation {activation}", _ADVICE)
        if node.kind == "BatchNormalization":
            check_norm(node, norm, origin)
    if name == "inception_v3":
        kinds = Counter(node.kind for node in layers.values())
        for node in layers.values():
            if kinds[node.kind] != _INCEPTION.get(node.kind, 0):
                problem = f"isn't one of {_INCEPTION.get(node.kind, 0)} of its kind in {name}"
                raise node.error(origin, problem, _ADVICE)
        return
    known = _VGG16 if name == "vgg16" else set(keras_layers.layer_order(name))
    known = {layer for layer in known if not re.match("input|rescaling|normalization", layer)}
    for node in layers.values():
        if node.name not in known:
            raise node.error(origin, f"is none of {name}'s", _ADVICE)
    if missing := sorted(known - set(layers)):
        raise InputError(f"{origin}: layer {missing[0]!r} of {name} is missing; {_ADVICE}")


def _sides(value: int | list[int]) -> list[int]:
    return value if isinstance(value, list) else [value]


def check_norm(node: Node, norm: Norm, origin: object) -> None:
    """Checks a layer of batch norm against the one that is computed here.

    Raises:
      InputError: epsilon or momentum differ, or the axis isn't the last.
    """
    for field, expected in (("epsilon", norm.epsilon), ("momentum", norm.momentum)):
        if not np.isclose(node.config[field], expected, rtol=1e-6, atol=0):
            raise node.error(
                origin,
                f"has {field} {node.config[field]}",
                f"only {expected} can be imported in this place",
            )
    axis = node.config["axis"]
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if axis not in (-1, 1, 3):  # of features (B, C), or of maps (B, H, W, C)
        raise node.error(origin, f"has axis {axis}", "only the last one can be imported")


def image_size(graph: Graph, usual: int, origin: object) -> int:
    """The side in pixels of the model's images; `usual` where it takes any.

    Raises:
      InputError: the images aren't square, or not RGB.
    """
    *sides, channels = graph.image_shape
    if channels != 3 or len(sides) != 2 or sides[0] != sides[1]:
        shape = "x".join("any" if side is None else str(side) for side in graph.image_shape)
        raise InputError(f"{origin} takes images of {shape}; expected square ones in RGB")
    return sides[0] or usual


def normalization(base: list[Node], name: str, tensors: Tensors) -> Normalization:
    """What the model was given, as a normalisation of RGB images in [0, 1].

    For ResNet50, VGG16 and InceptionV3 that is their `preprocess_input` in Keras, which isn't part
    of the model. EfficientNet does it itself, by layers whose product is taken here.

    Raises:
      InputError: EfficientNet's layers are others.
    """
    if name in keras_models.BLUE_FIRST:
        return keras_models.CAFFE
    if name == "inception_v3":
        return INCEPTION
    nodes = {node.name: node for node in base}
    front: list[Node] = []
    node = nodes[_EFFICIENTNET_FIRST]
    while node.sources and node.sources[0] in nodes:
        node = nodes[node.sources[0]]
        front.insert(0, node)
    kinds = [node.kind for node in front]
    if kinds not in (["Rescaling", "Normalization"], ["Rescaling", "Normalization", "Rescaling"]):
        raise (front or [nodes[_EFFICIENTNET_FIRST]])[0].error(
            tensors.path,
            f"is among {', '.join(kinds) or 'no layers'} in front of {name}",
            "expected Rescaling, Normalization and at most one more Rescaling, as Keras has them",
        )
    scale = np.asarray(front[0].config["scale"], float)
    if not np.isclose(scale, 1 / 255).all():
        raise front[0].error(tensors.path, f"has scale {scale}", "expected 1/255")
    mean, std = _statistics(front[1], tensors)
    for node in front[2:]:
        std = std / np.asarray(node.config["scale"], float)
    for node in front[::2]:
        if np.any(node.config["offset"]):
            raise node.error(tensors.path, f"has offset {node.config['offset']}", "expected 0")
    return Normalization(_channels(mean), _channels(std), "its own layers")


def _statistics(node: Node, tensors: Tensors) -> tuple[np.ndarray, np.ndarray]:
    names = f"{node.name}/mean", f"{node.name}/variance"
    missing = [name for name in names if name not in tensors.shapes]
    if missing:
        raise node.error(tensors.path, f"has no tensor {missing[0]!r}", "save the whole model")
    mean, variance = (tensors.float32(name).astype(float).reshape(-1) for name in names)
    if len(mean) != 3 or len(variance) != 3 or (variance <= 0).any():
        raise node.error(
            tensors.path,
            f"has mean {mean[:4]} and variance {variance[:4]}",
            "expected three values each, and variances above zero",
        )
    return mean, np.sqrt(variance)


def _channels(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (float(f"{value:.8g}") for value in values)
    return red, green, blue
