"""ResNet (He et al. 2015), with the layers of timm's and Keras's resnet.py."""

import dataclasses
from dataclasses import field

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.models.backbone import Backbone
from skinjax.models.layers import (
    BatchNorm,
    Conv,
    DropPath,
    Mode,
    Norm,
    Settings,
    Stage,
    drop_path_rates,
)
from skinjax.models.pooling import max_pool

# Blocks in each stage, and whether they are bottlenecks.
RESNETS = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
}
NAMES = tuple(RESNETS)

EXPANSION = 4  # of a bottleneck's last convolution

KERAS = Norm(epsilon=1.001e-5, momentum=0.99, unbiased=False)


class Stem(nn.Module):
    """7x7 stride-2 convolution, batch norm, ReLU, 3x3 max pool: a quarter of the size."""

    features: int
    use_bias: bool
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        settings = self.settings
        conv = Conv(self.features, 7, 2, use_bias=self.use_bias, settings=settings, name="conv1")
        x_BHWC = BatchNorm(settings, "relu", name="bn1")(conv(x_BHWC), mode)
        return max_pool(x_BHWC, size=3, strides=2, padding=1, lowering=settings.lowering)


class Block(nn.Module):
    """Residual block: two 3x3 convolutions, or a bottleneck of 1x1, 3x3 and 1x1.

    The last batch norm starts at zero scale, so that the block starts as the identity (Goyal et
    al. 2017; timm's `zero_init_last`).

    Attributes:
      keras: the stride of a bottleneck is in its first 1x1, as first published, and convolutions
        have biases; otherwise it is in the 3x3 (version 1.5), and they have none.
    """

    width: int
    bottleneck: bool
    strides: int
    drop_path: float
    keras: bool
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        settings, width, strides = self.settings, self.width, self.strides

        def conv(name: str, features: int, size: int, strides: int = 1) -> Conv:
            return Conv(features, size, strides, use_bias=self.keras, settings=settings, name=name)

        def norm(
            name: str, x_BHWC: jax.Array, activation: str = "linear", zero_scale: bool = False
        ) -> jax.Array:
            return BatchNorm(settings, activation, zero_scale, name=name)(x_BHWC, mode)

        features = width * (EXPANSION if self.bottleneck else 1)
        if self.bottleneck:
            first, second = (strides, 1) if self.keras else (1, strides)
            y_BHWC = norm("bn1", conv("conv1", width, 1, first)(x_BHWC), "relu")
            y_BHWC = norm("bn2", conv("conv2", width, 3, second)(y_BHWC), "relu")
            y_BHWC = norm("bn3", conv("conv3", features, 1)(y_BHWC), zero_scale=True)
        else:
            y_BHWC = norm("bn1", conv("conv1", features, 3, strides)(x_BHWC), "relu")
            y_BHWC = norm("bn2", conv("conv2", features, 3)(y_BHWC), zero_scale=True)
        if strides != 1 or x_BHWC.shape[-1] != features:
            x_BHWC = conv("downsample_conv", features, 1, strides)(x_BHWC)
            x_BHWC = norm("downsample_bn", x_BHWC)
        return nn.relu(x_BHWC + DropPath(self.drop_path)(y_BHWC, mode))


def build(name: str, model: ConfigDict, settings: Settings) -> Backbone:
    """The backbone called `name`.

    Args:
      name: one of `NAMES`.
      model: the config's `model`; `variant`, `drop_path` and `width` are read.
      settings: of the layers; the variant brings its own batch norm.

    Raises:
      InputError: there is no such variant.
    """
    known = ("timm", "keras") if name == "resnet50" else ("timm",)
    if (model.variant or "timm") not in known:
        raise InputError(
            f"model.variant is {model.variant!r}, but {name} has only {', '.join(known)}; set one "
            "of these"
        )
    is_keras = model.variant == "keras"
    norm = KERAS if is_keras else Norm()
    settings = dataclasses.replace(settings, norm=norm, padding="symmetric")
    depths, bottleneck = RESNETS[name]
    return resnet(depths, bottleneck, model.width, model.drop_path, is_keras, settings)


def resnet(
    depths: tuple[int, ...],
    bottleneck: bool,
    width: int,
    drop_path: float,
    keras: bool,
    settings: Settings,
) -> Backbone:
    """A ResNet with `depths` blocks in its stages.

    Args:
      width: channels of the stem and, before its expansion, of the first stage; later ones double.
      drop_path: of the last block; it grows linearly from 0 at the first.
      keras: as in `Block`.
    """
    stages = [
        Stage(
            tuple(
                Block(
                    width * 2**stage,
                    bottleneck,
                    2 if stage > 0 and block == 0 else 1,
                    rate,
                    keras,
                    settings,
                    name=f"block{block}",
                )
                for block, rate in enumerate(rates)
            ),
            settings,
            name=f"layer{stage + 1}",
        )
        for stage, rates in enumerate(drop_path_rates(drop_path, depths))
    ]
    return Backbone((Stem(width, keras, settings, name="stem"), *stages), settings=settings)


def image_size(name: str) -> int:
    """Side of the images that `name` was published for, in pixels."""
    return 224


def timm_architecture(architecture: str) -> tuple[str, str] | None:
    """Our name and variant for timm's name of an architecture; None for one not built here."""
    return (architecture, "timm") if architecture in NAMES else None


def timm_name(layer: str) -> str:
    """timm's name of a layer, or of the module whose output is a stage's.

    Args:
      layer: path inside the backbone: "layer1/block0/downsample_bn", "stem".
    """
    match layer.split("/"):
        case ["stem"]:
            return "maxpool"
        case ["stem", inner]:
            return inner
        case [stage, block, *rest]:
            path = f"{stage}.{block.removeprefix('block')}"
            downsample = {"downsample_conv": "downsample.0", "downsample_bn": "downsample.1"}
            return ".".join([path, *(downsample.get(inner, inner) for inner in rest)])
    return layer


def keras_name(layer: str) -> str:
    """Keras's name of a layer of resnet50, or of the layer whose output is a stage's.

    Keras counts stages from 2 and blocks from 1; the shortcut's layers have the number 0.

    Args:
      layer: path inside the backbone: "layer1/block0/downsample_bn", "stem".
    """
    match layer.split("/"):
        case [""]:
            return ""
        case ["stem"]:
            return "pool1_pool"
        case ["stem", inner]:
            return {"conv1": "conv1_conv", "bn1": "conv1_bn"}[inner]
        case [stage]:
            depth = RESNETS["resnet50"][0][int(stage.removeprefix("layer")) - 1]
            return keras_name(f"{stage}/block{depth - 1}")
        case [stage, block, *rest]:
            number = int(stage.removeprefix("layer")) + 1
            path = f"conv{number}_block{int(block.removeprefix('block')) + 1}"
            return "_".join([path, *(map(_keras_inner, rest) if rest else ["out"])])
    raise AssertionError


def _keras_inner(layer: str) -> str:
    if layer.startswith("downsample_"):
        return f"0_{layer.removeprefix('downsample_')}"
    return f"{layer[-1]}_{layer[:-1]}"
