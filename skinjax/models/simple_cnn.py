"""SimpleCNN: the reference project's small networks, convolutions and a dense layer."""

from dataclasses import field

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.models.backbone import Backbone, identity
from skinjax.models.layers import Conv, Dense, Mode, Settings

# Per model: channels of the convolutions, side of their kernel, and their stride.
SIMPLE_CNNS = {
    "simple_cnn": ((32, 64), 5, 2),
    "simple_cnn4": ((32, 64, 128, 256), 3, 1),
}
NAMES = tuple(SIMPLE_CNNS)
FEATURES = 256

# The poolings, and in the smaller network the strides, divide the image's side by this.
STRIDE = 16


class ConvStage(nn.Module):
    """Convolution, padded so that its stride alone sets the size; ReLU; 2x2 average pool.

    Attributes:
      smallest: side in pixels that the image must have.
    """

    features: int
    kernel_size: int
    strides: int
    smallest: int
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        height, width = x_BHWC.shape[1:3]
        if min(height, width) < self.smallest:
            raise InputError(
                f"images of {height} x {width} pixels are too small for SimpleCNN, which needs "
                f"{self.smallest} x {self.smallest}; set data.image_size to {self.smallest} or more"
            )
        conv = Conv(
            self.features,
            self.kernel_size,
            self.strides,
            use_bias=True,
            settings=self.settings,
            name="conv",
        )
        return halve(nn.relu(conv(x_BHWC)))


def halve(x_BHWC: jax.Array) -> jax.Array:
    """2x2 average pool with stride 2; an odd last row or column is left out.

    `pooling.average_pool` sums in another order, and a run of an earlier version would no longer
    be repeated bit by bit.
    """
    batch, height, width, channels = x_BHWC.shape
    x_BHWC = x_BHWC[:, : height // 2 * 2, : width // 2 * 2]
    x_BHxWxC = x_BHWC.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return jnp.mean(x_BHxWxC, axis=(2, 4))


class DenseStage(nn.Module):
    """Flatten, dense layer, ReLU: (B, H, W, C) to (B, features).

    The ReLU is its own: the reference describes this layer and the head's first one as two layers,
    and without a ReLU in between they would be one linear map.
    """

    features: int
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        x_BF = x_BHWC.reshape(x_BHWC.shape[0], -1)
        return nn.relu(Dense(self.features, settings=self.settings, name="dense")(x_BF))


def build(name: str, model: ConfigDict, settings: Settings) -> Backbone:
    """The backbone called `name`, for images of 16 x 16 pixels or more; it has no batch norm.

    Args:
      name: one of `NAMES`.
      model: the config's `model`; `variant` and `drop_path` are read.
      settings: of the layers.

    Raises:
      InputError: `model.variant` isn't "timm", or `drop_path` isn't 0.
    """
    if model.variant not in ("", "timm"):
        raise InputError(
            f"model.variant is {model.variant!r}, but {name} has no variants; leave it empty"
        )
    if model.drop_path:
        raise InputError(
            f"model.drop_path is {model.drop_path}, but {name} has no residual branch to drop; "
            "leave it at 0"
        )
    widths, kernel_size, strides = SIMPLE_CNNS[name]
    stages = [
        ConvStage(
            width,
            kernel_size,
            strides,
            STRIDE if number == 1 else 1,
            settings,
            name=f"conv{number}",
        )
        for number, width in enumerate(widths, start=1)
    ]
    dense = DenseStage(FEATURES, settings, name="dense")
    return Backbone((*stages, dense), identity, settings, last_map=f"conv{len(widths)}")


def image_size(name: str) -> int:
    """Side in pixels of the images that `name` is meant for."""
    return 224


def timm_architecture(architecture: str) -> tuple[str, str] | None:
    """None: timm has no such network."""
    return None
