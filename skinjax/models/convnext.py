"""ConvNeXt (Liu et al. 2022), with the layers of timm's convnext.py."""

from dataclasses import field

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.models.backbone import Backbone, global_average, identity
from skinjax.models.layers import (
    Conv,
    Dense,
    DropPath,
    LayerNorm,
    Mode,
    Settings,
    Stage,
    drop_path_rates,
)

# Per model: blocks in each stage, and their channels.
CONVNEXTS = {
    "convnext_tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "convnext_base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
}
NAMES = tuple(CONVNEXTS)

# The stem and three downsamplings divide the image's side by this.
STRIDE = 32

# timm truncates at an absolute 2, which is 100 standard deviations.
INIT = nn.initializers.normal(0.02)


class Stem(nn.Module):
    """Patches of 4x4 pixels and a layer norm."""

    features: int
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, image_BHWC: jax.Array, mode: Mode) -> jax.Array:
        height, width = image_BHWC.shape[1:3]
        if min(height, width) < STRIDE:
            raise InputError(
                f"images of {height} x {width} pixels are too small for ConvNeXt, which needs "
                f"{STRIDE} x {STRIDE}; set data.image_size to {STRIDE} or more"
            )
        conv = Conv(
            self.features,
            4,
            4,
            padding="valid",
            use_bias=True,
            kernel_init=INIT,
            settings=self.settings,
            name="conv",
        )
        return LayerNorm(settings=self.settings, name="norm")(conv(image_BHWC))


class Downsample(nn.Module):
    """Layer norm, and a 2x2 convolution with stride 2; an odd last row or column is left out."""

    features: int
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        x_BHWC = LayerNorm(settings=self.settings, name="norm")(x_BHWC)
        conv = Conv(
            self.features,
            2,
            2,
            padding="valid",
            use_bias=True,
            kernel_init=INIT,
            settings=self.settings,
            name="conv",
        )
        return conv(x_BHWC)


class Block(nn.Module):
    """Depthwise 7x7, layer norm, two dense layers per pixel, layer scale; a residual branch."""

    drop_path: float
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        features, settings = x_BHWC.shape[-1], self.settings
        conv = Conv(
            features,
            7,
            padding="symmetric",
            depthwise=True,
            use_bias=True,
            kernel_init=INIT,
            settings=settings,
            name="conv_depthwise",
        )
        y_BHWC = LayerNorm(settings=settings, name="norm")(conv(x_BHWC))
        y_BHWC = Dense(4 * features, kernel_init=INIT, settings=settings, name="dense_expand")(
            y_BHWC
        )
        y_BHWC = nn.gelu(y_BHWC, approximate=False)
        y_BHWC = Dense(features, kernel_init=INIT, settings=settings, name="dense_project")(y_BHWC)
        gamma_C = self.param("gamma", nn.initializers.constant(1e-6), (features,), jnp.float32)
        y_BHWC *= gamma_C.astype(settings.dtype)
        return x_BHWC + DropPath(self.drop_path)(y_BHWC, mode)


class PooledNorm(nn.Module):
    """Mean over height and width, then a layer norm: (B, H, W, C) to (B, C)."""

    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        return LayerNorm(settings=self.settings, name="norm")(global_average(x_BHWC))


def build(name: str, model: ConfigDict, settings: Settings) -> Backbone:
    """The backbone called `name`, for images of 32 x 32 pixels or more.

    Args:
      name: one of `NAMES`.
      model: the config's `model`; `variant` and `drop_path` are read.
      settings: of the layers.

    Raises:
      InputError: `model.variant` is neither "timm" nor empty.
    """
    if model.variant not in ("", "timm"):
        raise InputError(
            f"model.variant is {model.variant!r}, but {name} comes only as 'timm': set that, or "
            "leave it empty"
        )
    return convnext(*CONVNEXTS[name], model.drop_path, settings)


def convnext(
    depths: tuple[int, ...], widths: tuple[int, ...], drop_path: float, settings: Settings
) -> Backbone:
    """A ConvNeXt with `depths` blocks of `widths` channels in its stages."""
    rates = drop_path_rates(drop_path, depths)
    stages: list[Stage] = []
    for number, (stage_rates, features) in enumerate(zip(rates, widths, strict=True)):
        blocks: list[nn.Module] = [
            Block(rate, settings, name=f"block{block}") for block, rate in enumerate(stage_rates)
        ]
        if number > 0:
            blocks.insert(0, Downsample(features, settings, name="downsample"))
        stages.append(Stage(tuple(blocks), settings, name=f"stage{number + 1}"))
    stem, norm = Stem(widths[0], settings, name="stem"), PooledNorm(settings, name="norm")
    return Backbone((stem, *stages, norm), identity, settings, last_map=f"stage{len(depths)}")


def image_size(name: str) -> int:
    """Side of the images that `name` was trained on, in pixels."""
    return 224


def timm_architecture(architecture: str) -> tuple[str, str] | None:
    """Our name and variant for timm's name of an architecture; None for one not built here."""
    return (architecture, "timm") if architecture in NAMES else None


def timm_name(layer: str) -> str:
    """timm's name of a layer, or of the module whose output is a stage's.

    Args:
      layer: path inside the backbone, as "stage2/block0/conv_depthwise".
    """
    stage, *rest = layer.split("/")
    if stage == "norm":
        return "head.norm"
    if stage == "stem":
        return ".".join(["stem", *({"conv": "0", "norm": "1"}[part] for part in rest)])
    parts = ["stages", str(int(stage.removeprefix("stage")) - 1)]
    match rest:
        case ["downsample", *inner]:
            parts += ["downsample", *({"norm": "0", "conv": "1"}[part] for part in inner)]
        case [block, *inner]:
            parts += ["blocks", block.removeprefix("block"), *(_BLOCK[part] for part in inner)]
    return ".".join(parts)


_BLOCK = {
    "conv_depthwise": "conv_dw",
    "norm": "norm",
    "dense_expand": "mlp.fc1",
    "dense_project": "mlp.fc2",
}
