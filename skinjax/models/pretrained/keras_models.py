"""Which of Keras Applications' networks a file holds, and the normalisation that goes with it."""

import dataclasses
import re
from dataclasses import dataclass

import numpy as np

from skinjax.errors import InputError
from skinjax.models.pretrained.normalization import IMAGENET, INCEPTION, Normalization
from skinjax.models.pretrained.tensors import Tensors

# Caffe's means, of red, green and blue; Keras's ResNet50 and VGG16 take images of 0 to 255 with
# blue first, so their first kernels are turned round when they are loaded.
CAFFE = Normalization(
    (123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255), "Caffe's"
)
BLUE_FIRST = {"resnet50": "conv1_conv/kernel", "vgg16": "block1_conv1/kernel"}

# By channels of the last convolution and number of blocks.
_EFFICIENTNETS = {
    (1280, 16): "efficientnet_b0",
    (1280, 23): "efficientnet_b1",
    (1408, 23): "efficientnet_b2",
    (1536, 26): "efficientnet_b3",
    (1792, 32): "efficientnet_b4",
    (2048, 39): "efficientnet_b5",
    (2304, 45): "efficientnet_b6",
    (2560, 55): "efficientnet_b7",
}
_INCEPTION_LAYERS = 94  # convolutions, each with its batch norm; all named by number
_NUMBERED = re.compile(r"(conv2d|batch_normalization)(?:_(\d+))?/(\w+)")


@dataclass(frozen=True)
class _Layers:
    """The layers of a file that have a kernel, with their kernels' shapes."""

    kernels: dict[str, tuple[int, ...]]

    def count(self, pattern: str) -> int:
        return sum(re.fullmatch(pattern, layer) is not None for layer in self.kernels)

    def __contains__(self, layer: str) -> bool:
        return layer in self.kernels


def architecture(tensors: Tensors) -> str:
    """Our name for the network whose layers these are.

    Raises:
      InputError: it is none of those that can be loaded.
    """
    kernels = {
        name.rsplit("/", 1)[0]: shape
        for name, shape in tensors.shapes.items()
        if name.endswith("kernel")
    }
    layers = _Layers(kernels)
    # A sibling is told by what it has more, or else: ResNet101 and 152, ResNet50V2, VGG19.
    if layers.count(r"conv[2-5]_block\d+_3_conv") == 16 and "conv1_bn/gamma" in tensors.shapes:
        return "resnet50"
    if layers.count(r"block\d_conv\d") == 13 and "block5_conv3" in layers:
        return "vgg16"
    if "block1a_dwconv" in layers and "block1a_se_reduce" in layers and "top_conv" in layers:
        size = layers.kernels["top_conv"][-1], layers.count(r"block\d[a-z]_dwconv")
        if size in _EFFICIENTNETS:
            return _EFFICIENTNETS[size]
    if layers.count(r"conv2d(_\d+)?") >= _INCEPTION_LAYERS:
        first = min(layers.kernels, key=lambda layer: _number(layer))
        if layers.kernels[first] == (3, 3, 3, 32):
            return "inception_v3"
    raise InputError(
        f"{tensors.path} holds none of the Keras networks that can be loaded, which are "
        f"EfficientNetB0 to B7, ResNet50, VGG16 and InceptionV3; its first layers are "
        f"{', '.join(list(kernels)[:4]) or 'without kernels'}"
    )


def _number(layer: str) -> float:
    found = re.fullmatch(r"conv2d(?:_(\d+))?", layer)
    return int(found[1] or 0) if found else float("inf")


def renumbered(tensors: Tensors, name: str) -> Tensors:
    """The tensors with InceptionV3's layers counted from 0, as a fresh Keras names them.

    Keras counts on from one network to the next, and counted from 1 in older versions; what stays
    is the order in which the layers were made.

    Raises:
      InputError: a number is missing in between.
    """
    if name != "inception_v3":
        return tensors
    starts: dict[str, int] = {}
    for kind in ("conv2d", "batch_normalization"):
        found = [_NUMBERED.fullmatch(tensor) for tensor in tensors.shapes]
        numbers = sorted({int(match[2] or 0) for match in found if match and match[1] == kind})
        starts[kind] = numbers[0] if numbers else 0
        gaps = set(range(starts[kind], starts[kind] + _INCEPTION_LAYERS)) - set(numbers)
        if gaps:
            raise InputError(
                f"{tensors.path} has no layer {kind}_{min(gaps)}, one of the {_INCEPTION_LAYERS} "
                "that InceptionV3 has of them; pass a whole file"
            )
    originals: dict[str, str] = {}
    for tensor in tensors.shapes:
        renamed = tensor
        if match := _NUMBERED.fullmatch(tensor):
            number = int(match[2] or 0) - starts[match[1]]
            renamed = f"{match[1]}{f'_{number}' if number else ''}/{match[3]}"
        originals[renamed] = tensor
    return dataclasses.replace(
        tensors,
        shapes={renamed: tensors.shapes[tensor] for renamed, tensor in originals.items()},
        read=lambda renamed: tensors.read(originals[renamed]),
    )


def normalization(tensors: Tensors, name: str) -> Normalization:
    """The normalisation of images in [0, 1] that a Keras network was trained with.

    EfficientNet has it as a layer, with a trap: the published files have the standard deviation
    where the layer has the variance, and `weights="imagenet"` puts a division by sqrt(std) behind
    the layer's own by sqrt(std). A file of the user's own may have either, or statistics of other
    data, which the layer divides by the square root of.

    Raises:
      InputError: the layer's values can't be means and variances of three colours.
    """
    if name in BLUE_FIRST:
        return CAFFE
    if name == "inception_v3":
        return INCEPTION
    layer = next(
        (
            tensor.removesuffix("/variance")
            for tensor in tensors.shapes
            if re.fullmatch(r"normalization(_\d+)?/variance", tensor)
        ),
        None,
    )
    if layer is None or f"{layer}/mean" not in tensors.shapes:
        return dataclasses.replace(
            IMAGENET, origin="assumed to be ImageNet's, since the file has no normalization layer"
        )
    mean = tensors.float32(f"{layer}/mean").reshape(-1)
    variance = tensors.float32(f"{layer}/variance").reshape(-1)
    if len(mean) != 3 or len(variance) != 3 or (variance <= 0).any():
        raise InputError(
            f"{tensors.path}: tensor {layer + '/variance'!r} is {variance[:4]} and its mean "
            f"{mean[:4]}; expected three values each, and variances above zero"
        )
    if np.allclose(variance, IMAGENET.std, rtol=1e-3):
        std, origin = variance, "its normalization layer, which holds the std itself"
    elif np.allclose(variance, np.square(IMAGENET.std), rtol=1e-3):
        std, origin = np.sqrt(variance), "its normalization layer, which holds the variance"
    else:
        std, origin = (
            np.sqrt(variance),
            "its normalization layer, adapted to other data: no 1/sqrt(std) is added",
        )
    return Normalization(_numbers(mean), _numbers(std), origin)


def _numbers(values: np.ndarray) -> tuple[float, float, float]:
    """float32 as the shortest decimals that mean it: 0.485, not 0.48500001430511475."""
    red, green, blue = (float(str(np.float32(value))) for value in values)
    return red, green, blue
