"""SimpleCNN: the reference project's small network, two convolutions and a dense layer."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from skinjax.errors import InputError
from skinjax.models.layers import Conv, average_pool


class ConvStage(nn.Module):
    """5x5 stride-2 convolution, padded by 2 on every side; ReLU; 2x2 average pool."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        conv = Conv(self.features, 5, 2, use_bias=True, dtype=self.dtype, name="conv")
        return average_pool(nn.relu(conv(x_BHWC)))


class DenseStage(nn.Module):
    """Flatten, dense layer, ReLU: (B, H, W, C) to (B, features)."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        x_BF = x_BHWC.reshape(x_BHWC.shape[0], -1)
        return nn.relu(nn.Dense(self.features, dtype=self.dtype, name="dense")(x_BF))


class SimpleCNN(nn.Module):
    """Images (B, H, W, 3) to features (B, 256); it has no batch norm, so `frozen` does nothing.

    Two convolutions (5x5, stride 2, padding 2 on every side), each with ReLU and average pool to a
    quarter of the height and width, and a dense layer. This first dense layer has a ReLU of its
    own: the reference describes it and the head's first one as two layers, and without a ReLU in
    between they would be one linear map.
    """

    dtype: Any = jnp.float32

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, from the image on."""
        return ("conv1", "conv2", "dense")

    @nn.compact
    def __call__(
        self, image_BHWC: jax.Array, *, train: bool, frozen: tuple[str, ...] = ()
    ) -> jax.Array:
        del train, frozen
        if min(image_BHWC.shape[1:3]) < 16:
            raise InputError(
                f"simple_cnn needs images of at least 16x16 pixels, got {image_BHWC.shape[1:3]}"
            )
        x_BHWC = ConvStage(32, self.dtype, name="conv1")(image_BHWC)
        x_BHWC = ConvStage(64, self.dtype, name="conv2")(x_BHWC)
        return DenseStage(256, self.dtype, name="dense")(x_BHWC)
