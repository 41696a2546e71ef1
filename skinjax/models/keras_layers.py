"""The order in which Keras lists the layers of its networks, by which published cuts are counted.

`base.layers[:150]` of Keras's EfficientNetB0 counts activations, additions and so on. The order is
that of `keras.applications` with `include_top=False` and the ImageNet weights.
"""

from collections.abc import Iterator
from typing import NamedTuple

from skinjax.errors import InputError
from skinjax.models import efficientnet, resnet

NAMES = (*efficientnet.NAMES, "resnet50")


class Layer(NamedTuple):
    """A layer of Keras, and the path of ours inside the backbone; "" where it has no weights."""

    keras: str
    path: str = ""


def layer_order(name: str) -> tuple[str, ...]:
    """Keras's names of all layers of a backbone, in Keras's order.

    Raises:
      InputError: Keras has no such network, or the order of its layers isn't known here.
    """
    return tuple(layer.keras for layer in _layers(name))


def first(name: str, count: int) -> tuple[str, ...]:
    """Our layers, "backbone/block5/block2/bn_expand", among the first `count` layers of Keras.

    Raises:
      InputError: no such network, or it has fewer layers.
    """
    return _paths(_layers(name)[: _checked(name, count)])


def last(name: str, count: int) -> tuple[str, ...]:
    """Our layers, "backbone/block5/block2/bn_expand", among the last `count` layers of Keras.

    Raises:
      InputError: no such network, or it has fewer layers.
    """
    layers = _layers(name)
    return _paths(layers[len(layers) - _checked(name, count) :])


def _paths(layers: tuple[Layer, ...]) -> tuple[str, ...]:
    return tuple(f"backbone/{layer.path}" for layer in layers if layer.path)


def _checked(name: str, count: int) -> int:
    total = len(_layers(name))
    if not 0 <= count <= total:
        raise InputError(
            f"{count} layers of {name} are asked for; as Keras counts them it has {total}"
        )
    return count


def _layers(name: str) -> tuple[Layer, ...]:
    if name not in NAMES:
        raise InputError(
            f"the order of Keras's layers is known of {', '.join(NAMES)}, not of {name!r}; name "
            "stages or layers instead"
        )
    return tuple(_resnet() if name == "resnet50" else _efficientnet(name))


def _efficientnet(name: str) -> Iterator[Layer]:
    def own(path: str) -> Layer:
        return Layer(efficientnet.keras_name(path), path)

    # "rescaling_1" comes with the ImageNet weights only. "normalization" has weights in Keras;
    # here it is part of the preprocessing.
    for start in ("input_layer", "rescaling", "normalization", "rescaling_1", "stem_conv_pad"):
        yield Layer(start)
    yield from (own("stem/conv"), own("stem/bn"), Layer("stem_activation"))
    for stage, row in enumerate(efficientnet.rows(name), start=1):
        for block in range(row.depth):
            yield from _inverted(f"block{stage}/block{block}", row, is_first=block == 0)
    yield from (own("top/conv"), own("top/bn"), Layer("top_activation"))


def _inverted(block: str, row: efficientnet.Row, *, is_first: bool) -> Iterator[Layer]:
    """The layers of an EfficientNet's block; the first of a stage has no residual branch."""

    def own(path: str) -> Layer:
        return Layer(efficientnet.keras_name(f"{block}/{path}"), f"{block}/{path}")

    prefix = own("bn_depthwise").keras.removesuffix("bn")
    if row.expansion != 1:
        yield from (own("conv_expand"), own("bn_expand"), Layer(f"{prefix}expand_activation"))
    if is_first and row.strides == 2:
        yield Layer(f"{prefix}dwconv_pad")
    yield from (own("conv_depthwise"), own("bn_depthwise"), Layer(f"{prefix}activation"))
    yield from (Layer(f"{prefix}se_squeeze"), Layer(f"{prefix}se_reshape"))
    yield from (own("se/conv_reduce"), own("se/conv_expand"), Layer(f"{prefix}se_excite"))
    yield from (own("conv_project"), own("bn_project"))
    if not is_first:
        yield from (Layer(f"{prefix}drop"), Layer(f"{prefix}add"))


def _resnet() -> Iterator[Layer]:
    def own(path: str) -> Layer:
        return Layer(resnet.keras_name(path), path)

    yield from (Layer("input_layer"), Layer("conv1_pad"), own("stem/conv1"), own("stem/bn1"))
    yield from (Layer("conv1_relu"), Layer("pool1_pad"), Layer("pool1_pool"))
    depths, _ = resnet.RESNETS["resnet50"]
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            yield from _bottleneck(f"layer{stage}/block{block}", is_first=block == 0)


def _bottleneck(block: str, *, is_first: bool) -> Iterator[Layer]:
    """The layers of a ResNet's block; the first of a stage has a convolution as its shortcut.

    Keras sorts by the distance to the output, so the shortcut stands beside the branch's end.
    """

    def own(path: str) -> Layer:
        return Layer(resnet.keras_name(f"{block}/{path}"), f"{block}/{path}")

    prefix = resnet.keras_name(block).removesuffix("out")
    for number in (1, 2):
        yield from (own(f"conv{number}"), own(f"bn{number}"), Layer(f"{prefix}{number}_relu"))
    for kind in ("conv", "bn"):
        if is_first:
            yield own(f"downsample_{kind}")
        yield own(f"{kind}3")
    yield from (Layer(f"{prefix}add"), Layer(f"{prefix}out"))
