"""InceptionV3 (Szegedy et al. 2015), with the layers of timm's and Keras's inception_v3.py."""

import dataclasses
from dataclasses import field
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.models.backbone import Backbone
from skinjax.models.layers import KERAS, BatchNorm, Conv, Mode, Norm, Settings
from skinjax.models.pooling import average_pool, max_pool

NAMES = ("inception_v3",)

# Below this side in pixels nothing is left of the image at the last stages.
SMALLEST = 75

# timm's batch norm here is PyTorch's with TensorFlow's epsilon.
TIMM = Norm(epsilon=1e-3)

# timm truncates at an absolute 2, which is 20 standard deviations.
INIT = nn.initializers.normal(0.1)


class Unit(NamedTuple):
    """A convolution with batch norm and ReLU, by timm's name for it in lower case.

    Attributes:
      padding: "symmetric" keeps the size, "valid" has none.
    """

    name: str
    features: int
    size: tuple[int, int]
    strides: int = 1
    padding: str = "symmetric"


class Branch(NamedTuple):
    """Convolutions one after the other, then those of `fork` side by side, concatenated."""

    chain: tuple[Unit, ...]
    fork: tuple[Unit, ...] = ()


class Mix(NamedTuple):
    """The branches of a mixed stage, in the order of its channels; a pooled one comes last.

    Attributes:
      pool: channels of the convolution after a 3x3 average pool; 0 is a 3x3 max pool with stride
        2 and no convolution.
    """

    branches: tuple[Branch, ...]
    pool: int = 0


def double_3x3(strides: int, padding: str) -> Branch:
    """Two 3x3 convolutions in place of one of 5x5."""
    first, second = Unit("branch3x3dbl_1", 64, (1, 1)), Unit("branch3x3dbl_2", 96, (3, 3))
    return Branch((first, second, Unit("branch3x3dbl_3", 96, (3, 3), strides, padding)))


def grid_35(pool: int) -> Mix:
    """The paper's figure 5, on 35 x 35 pixels."""
    fives = Branch((Unit("branch5x5_1", 48, (1, 1)), Unit("branch5x5_2", 64, (5, 5))))
    return Mix((Branch((Unit("branch1x1", 64, (1, 1)),)), fives, double_3x3(1, "symmetric")), pool)


def grid_17(inner: int) -> Mix:
    """The paper's figure 6, on 17 x 17 pixels: 7x7 as 1x7 and 7x1, once and twice."""
    once = (
        Unit("branch7x7_1", inner, (1, 1)),
        Unit("branch7x7_2", inner, (1, 7)),
        Unit("branch7x7_3", 192, (7, 1)),
    )
    twice = (
        Unit("branch7x7dbl_1", inner, (1, 1)),
        Unit("branch7x7dbl_2", inner, (7, 1)),
        Unit("branch7x7dbl_3", inner, (1, 7)),
        Unit("branch7x7dbl_4", inner, (7, 1)),
        Unit("branch7x7dbl_5", 192, (1, 7)),
    )
    return Mix((Branch((Unit("branch1x1", 192, (1, 1)),)), Branch(once), Branch(twice)), 192)


def grid_8() -> Mix:
    """The paper's figure 7, on 8 x 8 pixels: 1x3 and 3x1 side by side."""
    once = Branch(
        (Unit("branch3x3_1", 384, (1, 1)),),
        (Unit("branch3x3_2a", 384, (1, 3)), Unit("branch3x3_2b", 384, (3, 1))),
    )
    twice = Branch(
        (Unit("branch3x3dbl_1", 448, (1, 1)), Unit("branch3x3dbl_2", 384, (3, 3))),
        (Unit("branch3x3dbl_3a", 384, (1, 3)), Unit("branch3x3dbl_3b", 384, (3, 1))),
    )
    return Mix((Branch((Unit("branch1x1", 320, (1, 1)),)), once, twice), 192)


def to_17() -> Mix:
    """To half of the size, from 35 x 35 pixels."""
    return Mix(
        (Branch((Unit("branch3x3", 384, (3, 3), 2, "valid"),)), double_3x3(2, "valid")),
    )


def to_8() -> Mix:
    """To half of the size, from 17 x 17 pixels."""
    threes = (Unit("branch3x3_1", 192, (1, 1)), Unit("branch3x3_2", 320, (3, 3), 2, "valid"))
    sevens = (
        Unit("branch7x7x3_1", 192, (1, 1)),
        Unit("branch7x7x3_2", 192, (1, 7)),
        Unit("branch7x7x3_3", 192, (7, 1)),
        Unit("branch7x7x3_4", 192, (3, 3), 2, "valid"),
    )
    return Mix((Branch(threes), Branch(sevens)))


# Two parts, each with a max pool after it.
STEM = (
    (
        Unit("conv2d_1a_3x3", 32, (3, 3), 2, "valid"),
        Unit("conv2d_2a_3x3", 32, (3, 3), 1, "valid"),
        Unit("conv2d_2b_3x3", 64, (3, 3)),
    ),
    (Unit("conv2d_3b_1x1", 80, (1, 1)), Unit("conv2d_4a_3x3", 192, (3, 3), 1, "valid")),
)
MIXES = {
    "mixed_5b": grid_35(pool=32),
    "mixed_5c": grid_35(pool=64),
    "mixed_5d": grid_35(pool=64),
    "mixed_6a": to_17(),
    "mixed_6b": grid_17(inner=128),
    "mixed_6c": grid_17(inner=160),
    "mixed_6d": grid_17(inner=160),
    "mixed_6e": grid_17(inner=192),
    "mixed_7a": to_8(),
    "mixed_7b": grid_8(),
    "mixed_7c": grid_8(),
}


class ConvNorm(nn.Module):
    """Convolution, batch norm (with or without a scale), ReLU."""

    unit: Unit
    use_scale: bool
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        conv = Conv(*self.unit[1:], kernel_init=INIT, settings=self.settings, name="conv")
        norm = BatchNorm(self.settings, "relu", use_scale=self.use_scale, name="bn")
        return norm(conv(x_BHWC), mode)


class Stem(nn.Module):
    """Five convolutions and two max pools: an eighth of the size, less the unpadded margins.

    Attributes:
      use_scale: of the batch norm.
    """

    use_scale: bool
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, image_BHWC: jax.Array, mode: Mode) -> jax.Array:
        height, width = image_BHWC.shape[1:3]
        if min(height, width) < SMALLEST:
            raise InputError(
                f"images of {height} x {width} pixels are too small for InceptionV3, which needs "
                f"{SMALLEST} x {SMALLEST}; set data.image_size to {SMALLEST} or more"
            )
        x_BHWC = image_BHWC
        for part in STEM:
            for unit in part:
                conv = ConvNorm(unit, self.use_scale, self.settings, name=unit.name)
                x_BHWC = conv(x_BHWC, mode)
            x_BHWC = max_pool(x_BHWC, size=3, strides=2, lowering=self.settings.lowering)
        return x_BHWC


class Mixed(nn.Module):
    """Branches of convolutions and a pooled one, concatenated.

    Attributes:
      keras: batch norm has no scale, and the average pool doesn't count the padding.
    """

    mix: Mix
    keras: bool
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        def conv(unit: Unit, y_BHWC: jax.Array) -> jax.Array:
            return ConvNorm(unit, not self.keras, self.settings, name=unit.name)(y_BHWC, mode)

        outputs, lowering = [], self.settings.lowering
        for branch in self.mix.branches:
            y_BHWC = x_BHWC
            for unit in branch.chain:
                y_BHWC = conv(unit, y_BHWC)
            outputs.extend([conv(unit, y_BHWC) for unit in branch.fork] or [y_BHWC])
        if self.mix.pool:
            y_BHWC = average_pool(x_BHWC, 3, 1, 1, not self.keras, lowering)
            outputs.append(conv(Unit("branch_pool", self.mix.pool, (1, 1)), y_BHWC))
        else:
            outputs.append(max_pool(x_BHWC, size=3, strides=2, lowering=lowering))
        return jnp.concatenate(outputs, axis=-1)


def build(name: str, model: ConfigDict, settings: Settings) -> Backbone:
    """The backbone called `name`, for images of 75 x 75 pixels or more.

    Args:
      name: one of `NAMES`.
      model: the config's `model`; `variant` and `drop_path` are read.
      settings: of the layers; a variant brings its own batch norm.

    Raises:
      InputError: there is no such variant, or `drop_path` isn't 0.
    """
    if model.variant not in ("", "timm", "keras"):
        raise InputError(
            f"model.variant is {model.variant!r}, but {name} has only 'timm' and 'keras'; "
            "set one of these"
        )
    if model.drop_path:
        raise InputError(
            f"model.drop_path is {model.drop_path}, but {name} has no residual branch to drop; "
            "leave it at 0"
        )
    return inception(MIXES, model.variant == "keras", settings)


def inception(mixes: dict[str, Mix], keras: bool, settings: Settings) -> Backbone:
    """The stem and the mixed stages `mixes`, as in Keras or as in timm."""
    settings = dataclasses.replace(settings, norm=KERAS if keras else TIMM)
    stages = [Mixed(mix, keras, settings, name=stage) for stage, mix in mixes.items()]
    return Backbone((Stem(not keras, settings, name="stem"), *stages), settings=settings)


def image_size(name: str) -> int:
    """Side of the images that `name` was trained on, in pixels."""
    return 299


def timm_architecture(architecture: str) -> tuple[str, str] | None:
    """Our name and variant for timm's name of an architecture; None for one not built here.

    The last three are timm's older names for other weights of the same layers.
    """
    names = ("inception_v3", "tf_inception_v3", "adv_inception_v3", "gluon_inception_v3")
    return ("inception_v3", "timm") if architecture in names else None


def timm_name(layer: str) -> str:
    """timm's name of a layer, or of the module whose output is a stage's.

    Args:
      layer: path inside the backbone: "stem/conv2d_1a_3x3/conv", "mixed_5b/branch1x1/bn".
    """
    if layer == "stem":
        return "Pool2"
    return ".".join(
        part if part in ("conv", "bn") or part.startswith("branch") else part.capitalize()
        for part in layer.removeprefix("stem/").split("/")
    )


def keras_name(layer: str) -> str:
    """Keras's name of a layer, or of the layer whose output is a stage's.

    Keras counts convolutions and batch norms in the order of their creation, which is that of the
    table here, and leaves the number 0 out.

    Args:
      layer: path inside the backbone: "stem/conv2d_1a_3x3/conv", "mixed_5b/branch1x1/bn".
    """
    if layer == "stem":
        return "max_pooling2d_1"
    if layer in MIXES:
        return f"mixed{list(MIXES).index(layer)}"
    unit, kind = layer.rsplit("/", 1)
    number = _creation_order().index(unit)
    name = {"conv": "conv2d", "bn": "batch_normalization"}[kind]
    return f"{name}_{number}" if number else name


def _creation_order() -> list[str]:
    """The convolutions of the backbone, "mixed_5b/branch1x1", as Keras creates them."""
    order = [f"stem/{unit.name}" for part in STEM for unit in part]
    for stage, mix in MIXES.items():
        units = [unit for branch in mix.branches for unit in (*branch.chain, *branch.fork)]
        names = [unit.name for unit in units] + ["branch_pool"] * bool(mix.pool)
        order.extend(f"{stage}/{name}" for name in names)
    return order
