"""EfficientNetV2 (Tan and Le 2021), with the layers of timm's efficientnet.py."""

from dataclasses import field
from typing import NamedTuple

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from skinjax.models import efficientnet
from skinjax.models.backbone import Backbone
from skinjax.models.layers import (
    BatchNorm,
    Conv,
    DropPath,
    Mode,
    Settings,
    Stage,
    drop_path_rates,
)


class Sizes(NamedTuple):
    """Blocks and channels of each stage, and the side of the images."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    image_size: int


EFFICIENTNETS = {
    "efficientnetv2_s": Sizes((2, 4, 4, 6, 9, 15), (24, 48, 64, 128, 160, 256), 300),
    "efficientnetv2_m": Sizes((3, 5, 5, 7, 14, 18, 5), (24, 48, 80, 160, 176, 304, 512), 384),
    "efficientnetv2_l": Sizes((4, 7, 7, 10, 19, 25, 7), (32, 64, 96, 192, 224, 384, 640), 384),
}
NAMES = tuple(EFFICIENTNETS)

# Of all of them: strides of a stage's first block, and expansion. The first three stages have no
# depthwise convolutions.
STRIDES = (1, 2, 2, 2, 1, 2, 1)
EXPANSIONS = (1, 4, 4, 4, 6, 6, 6)
FUSED = 3
TOP_FEATURES = 1280


class FusedBlock(nn.Module):
    """Fused inverted residual block: a 3x3 convolution that expands, and a 1x1 that projects.

    With an expansion of 1 it is one 3x3 convolution, "conv".
    """

    strides: int
    expansion: int
    features: int
    drop_path: float
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        settings, strides, inputs = self.settings, self.strides, x_BHWC.shape[-1]
        if self.expansion == 1:
            y_BHWC = Conv(self.features, 3, strides, settings=settings, name="conv")(x_BHWC)
            y_BHWC = BatchNorm(settings, "silu", name="bn")(y_BHWC, mode)
        else:
            expand = Conv(
                inputs * self.expansion, 3, strides, settings=settings, name="conv_expand"
            )
            y_BHWC = BatchNorm(settings, "silu", name="bn_expand")(expand(x_BHWC), mode)
            y_BHWC = Conv(self.features, 1, settings=settings, name="conv_project")(y_BHWC)
            y_BHWC = BatchNorm(settings, name="bn_project")(y_BHWC, mode)
        if strides == 1 and inputs == self.features:
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
    settings = efficientnet.varied(settings, name, model.variant, ("timm", "tf"))
    depths, widths, _ = EFFICIENTNETS[name]
    return efficientnet_v2(depths, widths, TOP_FEATURES, model.drop_path, settings)


def efficientnet_v2(
    depths: tuple[int, ...],
    widths: tuple[int, ...],
    top_features: int,
    drop_path: float,
    settings: Settings,
) -> Backbone:
    """An EfficientNetV2 with `depths` blocks of `widths` channels in the stages after the stem."""
    # The rate is that of the block that would come after the last one, as in TensorFlow.
    rates = drop_path_rates(drop_path, depths, inclusive=False)
    stages = [
        Stage(
            tuple(
                _block(stage, block, features, rate, settings)
                for block, rate in enumerate(stage_rates)
            ),
            settings,
            name=f"block{stage + 1}",
        )
        for stage, (features, stage_rates) in enumerate(zip(widths, rates, strict=True))
    ]
    stem = efficientnet.ConvNorm(widths[0], 3, 2, settings, name="stem")
    top = efficientnet.ConvNorm(top_features, 1, 1, settings, name="top")
    return Backbone((stem, *stages, top), settings=settings)


def _block(
    stage: int, block: int, features: int, drop_path: float, settings: Settings
) -> nn.Module:
    strides = STRIDES[stage] if block == 0 else 1
    expansion, name = EXPANSIONS[stage], f"block{block}"
    if stage < FUSED:
        return FusedBlock(strides, expansion, features, drop_path, settings, name=name)
    return efficientnet.Block(3, strides, expansion, features, drop_path, settings, name=name)


def image_size(name: str) -> int:
    """Side of the images that `name` was trained on, in pixels."""
    return EFFICIENTNETS[name].image_size


def timm_architecture(architecture: str) -> tuple[str, str] | None:
    """Our name and variant for timm's name of an architecture; None for one not built here."""
    name = architecture.removeprefix("tf_")
    variant = "timm" if name == architecture else "tf"
    return (name, variant) if name in NAMES else None


def timm_name(layer: str) -> str:
    """timm's name of a layer, or of the module whose output is a stage's.

    Args:
      layer: path inside the backbone: "block2/block0/conv_expand", "stem".
    """
    is_fused = layer.split("/")[0] in [f"block{stage + 1}" for stage in range(FUSED)]
    return efficientnet.timm_path(layer, _TIMM_FUSED if is_fused else efficientnet.TIMM_INVERTED)


_TIMM_FUSED = {
    "conv": "conv",
    "bn": "bn1",
    "conv_expand": "conv_exp",
    "bn_expand": "bn1",
    "conv_project": "conv_pwl",
    "bn_project": "bn2",
}
