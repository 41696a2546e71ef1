"""ResNet (He et al. 2015), version 1.5: the stride of a bottleneck is in its 3x3 convolution."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from skinjax.models.layers import Conv, DropPath, batch_norm, max_pool

EXPANSION = 4  # of a bottleneck's last convolution


class Stem(nn.Module):
    """7x7 stride-2 convolution, batch norm, ReLU, 3x3 max pool: a quarter of the size."""

    features: int
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, frozen: bool) -> jax.Array:
        x_BHWC = Conv(self.features, 7, 2, dtype=self.dtype, name="conv1")(x_BHWC)
        x_BHWC = batch_norm("bn1", frozen=frozen, dtype=self.dtype, axis_name=self.axis_name)(
            x_BHWC
        )
        return max_pool(nn.relu(x_BHWC))


class Block(nn.Module):
    """Residual block: two 3x3 convolutions, or a bottleneck of 1x1, 3x3 and 1x1.

    The last batch norm starts at zero scale, so that the block starts as the identity (Goyal et
    al. 2017; timm's `zero_init_last`).
    """

    width: int
    bottleneck: bool
    strides: int
    drop_path: float
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool, frozen: bool) -> jax.Array:
        def conv(name: str, features: int, size: int, strides: int = 1) -> Conv:
            return Conv(features, size, strides, dtype=self.dtype, name=name)

        def norm(name: str, zero_scale: bool = False) -> nn.BatchNorm:
            return batch_norm(
                name,
                frozen=frozen,
                dtype=self.dtype,
                axis_name=self.axis_name,
                zero_scale=zero_scale,
            )

        features = self.width * (EXPANSION if self.bottleneck else 1)
        if self.bottleneck:
            y_BHWC = nn.relu(norm("bn1")(conv("conv1", self.width, 1)(x_BHWC)))
            y_BHWC = nn.relu(norm("bn2")(conv("conv2", self.width, 3, self.strides)(y_BHWC)))
            y_BHWC = norm("bn3", zero_scale=True)(conv("conv3", features, 1)(y_BHWC))
        else:
            y_BHWC = nn.relu(norm("bn1")(conv("conv1", features, 3, self.strides)(x_BHWC)))
            y_BHWC = norm("bn2", zero_scale=True)(conv("conv2", features, 3)(y_BHWC))
        if x_BHWC.shape != y_BHWC.shape:
            x_BHWC = conv("downsample_conv", features, 1, self.strides)(x_BHWC)
            x_BHWC = norm("downsample_bn")(x_BHWC)
        return nn.relu(x_BHWC + DropPath(self.drop_path)(y_BHWC, train=train))


class Layer(nn.Module):
    """One stage: blocks of the same width, the first with the stride."""

    width: int
    bottleneck: bool
    strides: int
    drop_paths: tuple[float, ...]
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool, frozen: bool) -> jax.Array:
        for number, drop_path in enumerate(self.drop_paths):
            x_BHWC = Block(
                self.width,
                self.bottleneck,
                self.strides if number == 0 else 1,
                drop_path,
                self.dtype,
                self.axis_name,
                name=f"block{number}",
            )(x_BHWC, train=train, frozen=frozen)
        return x_BHWC


class ResNet(nn.Module):
    """Images (B, H, W, 3) to pooled features (B, C).

    Attributes:
      depths: blocks in each stage.
      bottleneck: bottleneck blocks (ResNet-50 and deeper) or basic ones.
      width: channels of the stem and the first stage; 64 is the published network.
      drop_path: stochastic depth of the last block; it grows linearly from 0 at the first.
    """

    depths: tuple[int, ...]
    bottleneck: bool
    width: int = 64
    drop_path: float = 0.0
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, from the image on."""
        return ("stem", *(f"layer{number + 1}" for number in range(len(self.depths))))

    @nn.compact
    def __call__(
        self, image_BHWC: jax.Array, *, train: bool, frozen: tuple[str, ...] = ()
    ) -> jax.Array:
        x_BHWC = Stem(self.width, self.dtype, self.axis_name, name="stem")(
            image_BHWC, frozen=not train or "stem" in frozen
        )
        last = max(sum(self.depths) - 1, 1)
        start = 0
        for number, (stage, depth) in enumerate(zip(self.stages[1:], self.depths, strict=True)):
            x_BHWC = Layer(
                width=self.width * 2**number,
                bottleneck=self.bottleneck,
                strides=1 if number == 0 else 2,
                drop_paths=tuple(self.drop_path * (start + i) / last for i in range(depth)),
                dtype=self.dtype,
                axis_name=self.axis_name,
                name=stage,
            )(x_BHWC, train=train, frozen=not train or stage in frozen)
            start += depth
        return jnp.mean(x_BHWC, axis=(1, 2), dtype=jnp.float32)
