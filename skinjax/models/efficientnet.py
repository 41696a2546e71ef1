"""EfficientNet-B0 (Tan and Le 2019), in timm's geometry (symmetric padding, eps 1e-5)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from skinjax.models.layers import Conv, DropPath, batch_norm

# Per stage: blocks, kernel size, strides, expansion of the input, output channels.
B0 = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class ConvNorm(nn.Module):
    """Convolution, batch norm, SiLU: the stem and the top."""

    features: int
    kernel_size: int
    strides: int
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, frozen: bool) -> jax.Array:
        x_BHWC = Conv(self.features, self.kernel_size, self.strides, dtype=self.dtype, name="conv")(
            x_BHWC
        )
        norm = batch_norm("bn", frozen=frozen, dtype=self.dtype, axis_name=self.axis_name)
        return nn.silu(norm(x_BHWC))


class SqueezeExcite(nn.Module):
    """Channel attention (Hu et al. 2018): x times a gate made of its spatial mean."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        def conv(name: str, features: int) -> Conv:
            return Conv(features, 1, use_bias=True, dtype=self.dtype, name=name)

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
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool, frozen: bool) -> jax.Array:
        def norm(name: str) -> nn.BatchNorm:
            return batch_norm(name, frozen=frozen, dtype=self.dtype, axis_name=self.axis_name)

        inputs = x_BHWC.shape[-1]
        inner = inputs * self.expansion
        y_BHWC = x_BHWC
        if self.expansion != 1:
            y_BHWC = Conv(inner, 1, dtype=self.dtype, name="conv_expand")(y_BHWC)
            y_BHWC = nn.silu(norm("bn_expand")(y_BHWC))
        y_BHWC = Conv(
            inner,
            self.kernel_size,
            self.strides,
            depthwise=True,
            dtype=self.dtype,
            name="conv_depthwise",
        )(y_BHWC)
        y_BHWC = nn.silu(norm("bn_depthwise")(y_BHWC))
        # A quarter of the block's input, not of its expanded width.
        y_BHWC = SqueezeExcite(max(inputs // 4, 1), self.dtype, name="se")(y_BHWC)
        y_BHWC = Conv(self.features, 1, dtype=self.dtype, name="conv_project")(y_BHWC)
        y_BHWC = norm("bn_project")(y_BHWC)
        if self.strides == 1 and inputs == self.features:
            y_BHWC = x_BHWC + DropPath(self.drop_path)(y_BHWC, train=train)
        return y_BHWC


class Stage(nn.Module):
    """Blocks of the same width, the first with the stride."""

    kernel_size: int
    strides: int
    expansion: int
    features: int
    drop_paths: tuple[float, ...]
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool, frozen: bool) -> jax.Array:
        for number, drop_path in enumerate(self.drop_paths):
            x_BHWC = Block(
                self.kernel_size,
                self.strides if number == 0 else 1,
                self.expansion,
                self.features,
                drop_path,
                self.dtype,
                self.axis_name,
                name=f"block{number}",
            )(x_BHWC, train=train, frozen=frozen)
        return x_BHWC


class EfficientNet(nn.Module):
    """Images (B, H, W, 3) to pooled features (B, C).

    Attributes:
      blocks: a row per stage (blocks, kernel size, strides, expansion, output channels).
      stem_features, top_features: channels of the first and the last convolution.
      drop_path: stochastic depth; it grows linearly with the block from 0 towards this.
    """

    blocks: tuple[tuple[int, int, int, int, int], ...] = B0
    stem_features: int = 32
    top_features: int = 1280
    drop_path: float = 0.0
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, from the image on."""
        return ("stem", *(f"block{number + 1}" for number in range(len(self.blocks))), "top")

    @nn.compact
    def __call__(
        self, image_BHWC: jax.Array, *, train: bool, frozen: tuple[str, ...] = ()
    ) -> jax.Array:
        def is_frozen(stage: str) -> bool:
            return not train or stage in frozen

        settings = (self.dtype, self.axis_name)
        stem = ConvNorm(self.stem_features, 3, 2, *settings, name="stem")
        x_BHWC = stem(image_BHWC, frozen=is_frozen("stem"))
        total = sum(depth for depth, *_ in self.blocks)
        start = 0
        for stage, row in zip(self.stages[1:-1], self.blocks, strict=True):
            depth, size, strides, expansion, features = row
            rates = tuple(self.drop_path * (start + i) / total for i in range(depth))
            x_BHWC = Stage(size, strides, expansion, features, rates, *settings, name=stage)(
                x_BHWC, train=train, frozen=is_frozen(stage)
            )
            start += depth
        top = ConvNorm(self.top_features, 1, 1, *settings, name="top")
        x_BHWC = top(x_BHWC, frozen=is_frozen("top"))
        return jnp.mean(x_BHWC, axis=(1, 2), dtype=jnp.float32)
