"""EfficientNet (Tan and Le 2019), with the layers of timm's and Keras's efficientnet.py."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import field
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.models.backbone import Backbone
from skinjax.models.layers import (
    KERAS,
    TORCH,
    BatchNorm,
    Conv,
    DropPath,
    Mode,
    Norm,
    Settings,
    Stage,
    drop_path_rates,
)


class Row(NamedTuple):
    """A stage: blocks, kernel size, strides of the first block, expansion, output channels."""

    depth: int
    kernel_size: int
    strides: int
    expansion: int
    features: int


B0 = (
    Row(1, 3, 1, 1, 16),
    Row(2, 3, 2, 6, 24),
    Row(2, 5, 2, 6, 40),
    Row(3, 3, 2, 6, 80),
    Row(3, 5, 1, 6, 112),
    Row(4, 5, 2, 6, 192),
    Row(1, 3, 1, 6, 320),
)
# Per model: what B0's channels and its depths are multiplied by, and the side of the images.
SCALES = {
    "efficientnet_b0": (1.0, 1.0, 224),
    "efficientnet_b1": (1.0, 1.1, 240),
    "efficientnet_b2": (1.1, 1.2, 260),
    "efficientnet_b3": (1.2, 1.4, 300),
    "efficientnet_b4": (1.4, 1.8, 380),
    "efficientnet_b5": (1.6, 2.2, 456),
    "efficientnet_b6": (1.8, 2.6, 528),
    "efficientnet_b7": (2.0, 3.1, 600),
}
NAMES = tuple(SCALES)

# Batch norm and padding. timm's ports of TensorFlow's weights, "tf", have TensorFlow's epsilon,
# but PyTorch's momentum.
VARIANTS = {
    "timm": (TORCH, "symmetric"),
    "tf": (Norm(epsilon=1e-3), "same"),
    "keras": (KERAS, "same"),
}


class ConvNorm(nn.Module):
    """Convolution, batch norm, SiLU: the stem and the top."""

    features: int
    kernel_size: int
    strides: int
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        size, strides, settings = self.kernel_size, self.strides, self.settings
        x_BHWC = Conv(self.features, size, strides, settings=settings, name="conv")(x_BHWC)
        return BatchNorm(settings, "silu", name="bn")(x_BHWC, mode)


class SqueezeExcite(nn.Module):
    """Channel attention (Hu et al. 2018): x times a gate made of its spatial mean."""

    features: int
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        def conv(name: str, features: int) -> Conv:
            return Conv(features, 1, use_bias=True, settings=self.settings, name=name)

        gate_B11C = jnp.mean(x_BHWC, axis=(1, 2), keepdims=True, dtype=jnp.float32)
        gate_B11C = nn.silu(conv("conv_reduce", self.features)(gate_B11C))
        gate_B11C = nn.sigmoid(conv("conv_expand", x_BHWC.shape[-1])(gate_B11C))
        return x_BHWC * gate_B11C


class Block(nn.Module):
    """Inverted residual block (MBConv): expand, depthwise, squeeze-and-excite, project."""

    kernel_size: int
    strides: int
    expansion: int
    features: int
    drop_path: float
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        settings, inputs = self.settings, x_BHWC.shape[-1]
        inner = inputs * self.expansion
        y_BHWC = x_BHWC
        if self.expansion != 1:
            y_BHWC = Conv(inner, 1, settings=settings, name="conv_expand")(y_BHWC)
            y_BHWC = BatchNorm(settings, "silu", name="bn_expand")(y_BHWC, mode)
        y_BHWC = Conv(
            inner,
            self.kernel_size,
            self.strides,
            depthwise=True,
            settings=settings,
            name="conv_depthwise",
        )(y_BHWC)
        y_BHWC = BatchNorm(settings, "silu", name="bn_depthwise")(y_BHWC, mode)
        # A quarter of the block's input, not of its expanded width.
        y_BHWC = SqueezeExcite(max(inputs // 4, 1), settings, name="se")(y_BHWC)
        y_BHWC = Conv(self.features, 1, settings=settings, name="conv_project")(y_BHWC)
        y_BHWC = BatchNorm(settings, name="bn_project")(y_BHWC, mode)
        if self.strides == 1 and inputs == self.features:
            y_BHWC = x_BHWC + DropPath(self.drop_path)(y_BHWC, mode)
        return y_BHWC


def build(name: str, model: ConfigDict, settings: Settings) -> Backbone:
    """The backbone called `name`.

    Args:
      name: one of `NAMES`.
      model: the config's `model`; `variant` and `drop_path` are read.
      settings: of the layers; the variant brings its own batch norm and padding.

    Raises:
      InputError: there is no such variant.
    """
    settings = varied(settings, name, model.variant, tuple(VARIANTS))
    width = SCALES[name][0]
    stem, top = scaled_channels(32, width), scaled_channels(1280, width)
    return efficientnet(rows(name), stem, top, model.drop_path, settings)


def efficientnet(
    rows: tuple[Row, ...],
    stem_features: int,
    top_features: int,
    drop_path: float,
    settings: Settings,
) -> Backbone:
    """An EfficientNet with one stage for each of `rows`, between a stem and a top."""
    # The rate is that of the block that would come after the last one, as in TensorFlow.
    rates = drop_path_rates(drop_path, [row.depth for row in rows], inclusive=False)
    stages = [
        Stage(
            tuple(
                Block(
                    row.kernel_size,
                    row.strides if block == 0 else 1,
                    row.expansion,
                    row.features,
                    rate,
                    settings,
                    name=f"block{block}",
                )
                for block, rate in enumerate(stage_rates)
            ),
            settings,
            name=f"block{number}",
        )
        for number, (row, stage_rates) in enumerate(zip(rows, rates, strict=True), start=1)
    ]
    stem = ConvNorm(stem_features, 3, 2, settings, name="stem")
    top = ConvNorm(top_features, 1, 1, settings, name="top")
    return Backbone((stem, *stages, top), settings=settings)


def rows(name: str) -> tuple[Row, ...]:
    """The stages of `name` between stem and top."""
    width, depth, _ = SCALES[name]
    return tuple(
        row._replace(
            depth=math.ceil(depth * row.depth), features=scaled_channels(row.features, width)
        )
        for row in B0
    )


def scaled_channels(channels: int, width: float) -> int:
    """`channels` times `width`, as the nearest multiple of 8 that isn't below 90 % of it."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def varied(settings: Settings, name: str, variant: str, known: tuple[str, ...]) -> Settings:
    """`settings` with the batch norm and the padding of a variant; "" is "timm".

    Raises:
      InputError: the variant isn't among those known of `name`.
    """
    if (variant or "timm") not in known:
        raise InputError(
            f"model.variant is {variant!r}, but {name} has only {', '.join(known)}; set one of "
            "these"
        )
    norm, padding = VARIANTS[variant or "timm"]
    return dataclasses.replace(settings, norm=norm, padding=padding)


def image_size(name: str) -> int:
    """Side of the images that `name` was published for, in pixels."""
    return SCALES[name][2]


def timm_architecture(architecture: str) -> tuple[str, str] | None:
    """Our name and variant for timm's name of an architecture; None for one not built here."""
    name = architecture.removeprefix("tf_")
    variant = "timm" if name == architecture else "tf"
    return (name, variant) if name in NAMES else None


def timm_name(layer: str) -> str:
    """timm's name of a layer, or of the module whose output is a stage's.

    Args:
      layer: path inside the backbone: "block5/block2/bn_expand", "stem".
    """
    return timm_path(layer, _TIMM_SEPARABLE if layer.startswith("block1/") else TIMM_INVERTED)


def timm_path(layer: str, inner: Mapping[str, str]) -> str:
    """`timm_name` where the layers inside a block have the names `inner`."""
    match layer.split("/"):
        case [""]:
            return ""
        case ["stem" | "top" as stage, "conv"]:
            return {"stem": "conv_stem", "top": "conv_head"}[stage]
        case ["stem" | "top" as stage, *_]:  # timm's batch norm has the activation in it
            return {"stem": "bn1", "top": "bn2"}[stage]
        case [stage]:
            return f"blocks.{_number(stage) - 1}"
        case [stage, block, *rest]:
            path = f"blocks.{_number(stage) - 1}.{_number(block)}"
            return f"{path}.{inner['/'.join(rest)]}" if rest else path
    raise AssertionError


def keras_name(layer: str) -> str:
    """Keras's name of a layer, or of the layer whose output is that of the stem or the top.

    Args:
      layer: path inside the backbone: "block5/block2/bn_expand", "stem".
    """
    match layer.split("/"):
        case [""]:
            return ""
        case ["stem" | "top"]:
            return f"{layer}_activation"
        case ["stem" | "top" as stage, kind]:
            return f"{stage}_{kind}"
        case [stage, block, *rest] if rest:
            return f"{stage}{chr(ord('a') + _number(block))}_{_KERAS['/'.join(rest)]}"
    raise ValueError(f"{layer!r} is no layer of EfficientNet that Keras has by one name")


def _number(name: str) -> int:
    return int(name.removeprefix("block"))


# By the path inside a block; timm numbers the norms.
_TIMM_SE = {"se/conv_reduce": "se.conv_reduce", "se/conv_expand": "se.conv_expand"}
_TIMM_SEPARABLE = {
    **_TIMM_SE,
    "conv_depthwise": "conv_dw",
    "bn_depthwise": "bn1",
    "conv_project": "conv_pw",
    "bn_project": "bn2",
}
TIMM_INVERTED = {
    **_TIMM_SE,
    "conv_expand": "conv_pw",
    "bn_expand": "bn1",
    "conv_depthwise": "conv_dw",
    "bn_depthwise": "bn2",
    "conv_project": "conv_pwl",
    "bn_project": "bn3",
}
_KERAS = {
    "conv_expand": "expand_conv",
    "bn_expand": "expand_bn",
    "conv_depthwise": "dwconv",
    "bn_depthwise": "bn",
    "se/conv_reduce": "se_reduce",
    "se/conv_expand": "se_expand",
    "conv_project": "project_conv",
    "bn_project": "project_bn",
}
