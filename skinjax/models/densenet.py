"""DenseNet-BC (Huang et al. 2016), with the layers of timm's densenet.py."""

from dataclasses import field

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.models.backbone import Backbone
from skinjax.models.layers import BatchNorm, Conv, Mode, Settings, Stage
from skinjax.models.pooling import average_pool, max_pool

# Layers in each dense stage.
DENSENETS = {"densenet121": (6, 12, 24, 16), "densenet201": (6, 12, 48, 32)}
NAMES = tuple(DENSENETS)

# Channels that a layer adds, and those between its two convolutions as a multiple.
GROWTH = 32
BOTTLENECK = 4

# Below this side in pixels nothing is left of the image at the last stage.
SMALLEST = 29

# PyTorch's `kaiming_normal_`.
INIT = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class Stem(nn.Module):
    """7x7 stride-2 convolution, batch norm, ReLU, 3x3 max pool: a quarter of the size."""

    features: int
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, image_BHWC: jax.Array, mode: Mode) -> jax.Array:
        height, width = image_BHWC.shape[1:3]
        if min(height, width) < SMALLEST:
            raise InputError(
                f"images of {height} x {width} pixels are too small for DenseNet, which needs "
                f"{SMALLEST} x {SMALLEST}; set data.image_size to {SMALLEST} or more"
            )
        settings = self.settings
        conv = Conv(self.features, 7, 2, kernel_init=INIT, settings=settings, name="conv")
        x_BHWC = BatchNorm(settings, "relu", name="bn")(conv(image_BHWC), mode)
        return max_pool(x_BHWC, size=3, strides=2, padding=1, lowering=settings.lowering)


class Layer(nn.Module):
    """Adds `growth` channels: 1x1 and 3x3 convolutions, each after batch norm and ReLU."""

    growth: int
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        settings = self.settings
        y_BHWC = BatchNorm(settings, "relu", name="bn1")(x_BHWC, mode)
        inner = BOTTLENECK * self.growth
        y_BHWC = Conv(inner, 1, kernel_init=INIT, settings=settings, name="conv1")(y_BHWC)
        y_BHWC = BatchNorm(settings, "relu", name="bn2")(y_BHWC, mode)
        y_BHWC = Conv(self.growth, 3, kernel_init=INIT, settings=settings, name="conv2")(y_BHWC)
        return jnp.concatenate([x_BHWC, y_BHWC], axis=-1)


class Transition(nn.Module):
    """Batch norm, ReLU, 1x1 convolution to half of the channels, 2x2 average pool."""

    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        features, settings = x_BHWC.shape[-1] // 2, self.settings
        x_BHWC = BatchNorm(settings, "relu", name="bn")(x_BHWC, mode)
        x_BHWC = Conv(features, 1, kernel_init=INIT, settings=settings, name="conv")(x_BHWC)
        return average_pool(x_BHWC, size=2, strides=2, lowering=settings.lowering)


class FinalNorm(nn.Module):
    """Batch norm and ReLU."""

    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        return BatchNorm(self.settings, "relu", name="bn")(x_BHWC, mode)


def build(name: str, model: ConfigDict, settings: Settings) -> Backbone:
    """The backbone called `name`, for images of 29 x 29 pixels or more.

    Args:
      name: one of `NAMES`.
      model: the config's `model`; `variant` and `drop_path` are read.
      settings: of the layers.

    Raises:
      InputError: `model.variant` isn't "timm", or `drop_path` isn't 0.
    """
    if model.variant not in ("", "timm"):
        raise InputError(
            f"model.variant is {model.variant!r}, but {name} has only 'timm'; set that"
        )
    if model.drop_path:
        raise InputError(
            f"model.drop_path is {model.drop_path}, but {name} has no residual branch to drop; "
            "leave it at 0"
        )
    return densenet(DENSENETS[name], GROWTH, settings)


def densenet(depths: tuple[int, ...], growth: int, settings: Settings) -> Backbone:
    """A DenseNet with `depths` layers in its stages, each of which adds `growth` channels."""
    stages = []
    for number, depth in enumerate(depths, start=1):
        blocks: list[nn.Module] = [
            Layer(growth, settings, name=f"block{block}") for block in range(depth)
        ]
        if number < len(depths):
            blocks.append(Transition(settings, name="transition"))
        stages.append(Stage(tuple(blocks), settings, name=f"dense{number}"))
    stem, top = Stem(2 * growth, settings, name="stem"), FinalNorm(settings, name="top")
    return Backbone((stem, *stages, top), settings=settings)


def image_size(name: str) -> int:
    """Side of the images that `name` was trained on, in pixels."""
    return 224


def timm_architecture(architecture: str) -> tuple[str, str] | None:
    """Our name and variant for timm's name of an architecture; None for one not built here."""
    # The second is timm's older name for other weights of the same layers.
    names = {name: name for name in NAMES} | {"tv_densenet121": "densenet121"}
    return (names[architecture], "timm") if architecture in names else None


def timm_name(layer: str) -> str:
    """timm's name of a layer, or of the module whose output is a stage's.

    Args:
      layer: path inside the backbone, as "dense1/block0/conv1" or "dense1/transition/bn".
    """
    match layer.split("/"):
        case [""]:
            return ""
        case ["stem"]:
            parts = ["pool0"]
        case ["stem", kind]:
            parts = [{"conv": "conv0", "bn": "norm0"}[kind]]
        case ["top", *_]:
            parts = ["norm5"]
        case [stage]:
            last = f"dense{len(next(iter(DENSENETS.values())))}"
            kind = "denseblock" if stage == last else "transition"
            parts = [stage.replace("dense", kind)]
        case [stage, "transition", *rest]:
            parts = [stage.replace("dense", "transition"), *map(_timm_kind, rest)]
        case [stage, block, *rest]:
            number = int(block.removeprefix("block")) + 1
            parts = [stage.replace("dense", "denseblock"), f"denselayer{number}"]
            parts += map(_timm_kind, rest)
    return ".".join(["features", *parts])


def _timm_kind(name: str) -> str:
    return name.replace("bn", "norm")
