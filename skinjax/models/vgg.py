"""VGG16 (Simonyan and Zisserman 2014), with the layers of timm's vgg.py and Keras's vgg16.py."""

import dataclasses
from dataclasses import field

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.models.backbone import Backbone
from skinjax.models.layers import KERAS, BatchNorm, Conv, Mode, Settings
from skinjax.models.pooling import max_pool

NAMES = ("vgg16", "vgg16_bn")

# Convolutions of each block, and their channels.
DEPTHS = (2, 2, 3, 3, 3)
WIDTHS = (64, 128, 256, 512, 512)

# Five poolings divide the image's side by this.
STRIDE = 32

# The first fully connected layer is a convolution over this many pixels in both directions, and
# both have this many outputs.
WINDOW = 7
HIDDEN = 4096


class ConvNorm(nn.Module):
    """3x3 convolution with a bias, and batch norm."""

    features: int
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        conv = Conv(self.features, 3, use_bias=True, settings=self.settings, name="conv")
        return BatchNorm(self.settings, name="bn")(conv(x_BHWC), mode)


class Block(nn.Module):
    """3x3 convolutions, each with a ReLU, and a 2x2 max pool.

    Attributes:
      depth: number of convolutions.
      norm: batch norm after each.
    """

    features: int
    depth: int
    norm: bool
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        features, settings = self.features, self.settings
        height, width = x_BHWC.shape[1:3]
        if min(height, width) < 2:
            raise InputError(
                f"the images are too small for VGG16, which needs {STRIDE} x {STRIDE}: "
                f"{height} x {width} pixels are left at {self.name}; "
                f"set data.image_size to {STRIDE} or more"
            )
        for number in range(1, self.depth + 1):
            if self.norm:
                x_BHWC = ConvNorm(features, settings, name=f"unit{number}")(x_BHWC, mode)
            else:
                conv = Conv(features, 3, use_bias=True, settings=settings, name=f"conv{number}")
                x_BHWC = conv(x_BHWC)
            x_BHWC = nn.relu(x_BHWC)
        return max_pool(x_BHWC, size=2, strides=2, lowering=settings.lowering)


class FullyConnected(nn.Module):
    """The two fully connected layers as convolutions of 7x7 and 1x1, each with a ReLU.

    Images of 224 pixels have one 7x7 window. Larger ones have several, whose outputs the backbone
    averages; the feature maps of smaller ones are stretched to 7x7 first, as timm does.
    """

    hidden: int
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        hidden, settings = self.hidden, self.settings
        x_BHWC = stretch(x_BHWC, WINDOW)
        for name, size in (("fc1", WINDOW), ("fc2", 1)):
            conv = Conv(hidden, size, padding="valid", use_bias=True, settings=settings, name=name)
            x_BHWC = nn.relu(conv(x_BHWC))
        return x_BHWC


def stretch(x_BHWC: jax.Array, smallest: int) -> jax.Array:
    """Height and width raised to `smallest` pixels where they are less, by repeated averages.

    The windows are those of PyTorch's `adaptive_avg_pool2d`.
    """
    for axis, letter in ((1, "h"), (2, "w")):
        size = x_BHWC.shape[axis]
        if size < smallest:
            weights = jnp.asarray(_window_weights(smallest, size), x_BHWC.dtype)
            x_BHWC = jnp.einsum(
                f"bhwc,n{letter}->{'bhwc'.replace(letter, 'n')}",
                x_BHWC,
                weights,
                precision=jax.lax.Precision.HIGHEST,
            )
    return x_BHWC


def _window_weights(outputs: int, inputs: int) -> np.ndarray:
    """Share of each input in each output, (outputs, inputs), float64.

    Output i is the mean of the inputs from floor(i * inputs / outputs) up to, and without,
    ceil((i + 1) * inputs / outputs).
    """
    i_O = np.arange(outputs)
    start_O1 = (i_O * inputs // outputs)[:, None]
    end_O1 = (-(-(i_O + 1) * inputs // outputs))[:, None]
    position_I = np.arange(inputs)
    return ((position_I >= start_O1) & (position_I < end_O1)) / (end_O1 - start_O1)


def build(name: str, model: ConfigDict, settings: Settings) -> Backbone:
    """The backbone called `name`, for images of 32 x 32 pixels or more.

    There is no dropout between the fully connected layers, as in timm; the head has it.

    Args:
      name: one of `NAMES`.
      model: the config's `model`; `variant`, `drop_path` and `fully_connected` are read.
      settings: of the layers; a variant brings its own batch norm.

    Raises:
      InputError: there is no such variant, or `drop_path` isn't 0.
    """
    norm = name == "vgg16_bn"
    variants = ("timm",) if norm else ("timm", "keras")
    if (model.variant or "timm") not in variants:
        raise InputError(
            f"model.variant is {model.variant!r}, but {name} has only "
            f"{' and '.join(map(repr, variants))}; set one of these"
        )
    if model.drop_path:
        raise InputError(
            f"model.drop_path is {model.drop_path}, but {name} has no residual branch to drop; "
            "leave it at 0"
        )
    if model.variant == "keras":
        settings = dataclasses.replace(settings, norm=KERAS)
    return vgg(WIDTHS, DEPTHS, norm, HIDDEN if model.fully_connected else 0, settings)


def vgg(
    widths: tuple[int, ...],
    depths: tuple[int, ...],
    norm: bool,
    hidden: int,
    settings: Settings,
) -> Backbone:
    """A VGG whose blocks have `depths` convolutions of `widths` channels.

    Args:
      norm: batch norm after each convolution.
      hidden: outputs of the two fully connected layers; 0 leaves them out.
    """
    stages: list[nn.Module] = [
        Block(features, depth, norm, settings, name=f"block{number}")
        for number, (features, depth) in enumerate(zip(widths, depths, strict=True), start=1)
    ]
    if hidden:
        stages.append(FullyConnected(hidden, settings, name="fc"))
    return Backbone(tuple(stages), settings=settings, last_map=f"block{len(depths)}")


def image_size(name: str) -> int:
    """Side of the images that `name` was trained on, in pixels."""
    return 224


def timm_architecture(architecture: str) -> tuple[str, str] | None:
    """Our name and variant for timm's name of an architecture; None for one not built here."""
    return (architecture, "timm") if architecture in NAMES else None


def timm_name(layer: str) -> str:
    """timm's name of a layer, which there is a number among all convolutions, norms, ReLUs, pools.

    Args:
      layer: path inside the backbone: "block1/conv2" of vgg16, "block1/unit2/bn" of vgg16_bn, or
        "fc", "fc/fc1".
    """
    match layer.split("/"):
        case [""]:
            return ""
        case ["fc", *rest]:
            return ".".join(["pre_logits", *rest])
        case [block, unit, kind]:
            return f"features.{_position(block, unit, length=3) + ('conv', 'bn').index(kind)}"
        case [block, conv]:
            return f"features.{_position(block, conv, length=2)}"
    raise ValueError(f"{layer!r} is no layer of VGG16 that timm has by one name")


def _position(block: str, unit: str, *, length: int) -> int:
    """Where a convolution stands in timm's list, with `length` entries for each and one a pool."""
    before = int(block.removeprefix("block")) - 1
    number = int(unit.removeprefix("conv").removeprefix("unit")) - 1
    return length * (sum(DEPTHS[:before]) + number) + before


def keras_name(layer: str) -> str:
    """Keras's name of a layer of vgg16, or of the layer whose output is a stage's.

    Args:
      layer: path inside the backbone: "block1/conv2", "block1", "fc/fc1".
    """
    match layer.split("/"):
        case ["fc"]:
            return "fc2"
        case ["fc", dense]:
            return dense
        case [block, conv]:
            return f"{block}_{conv}"
        case [block] if block:
            return f"{block}_pool"
    raise ValueError(f"{layer!r} is no layer of VGG16 that Keras has")


def adapt(leaf_path: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Keras's matrices of the fully connected layers as the kernels of convolutions.

    Keras flattens the 7x7 pixels in the order height, width, channel, as a kernel has them. An
    array of another size is returned as it is.
    """
    is_matrix = leaf_path in ("fc/fc1/kernel", "fc/fc2/kernel") and array.ndim == 2
    return array.reshape(shape) if is_matrix and array.size == np.prod(shape) else array
