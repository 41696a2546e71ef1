"""Layers that the model families share: convolution, batch norm, stochastic depth."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from skinjax.models import depthwise

Dtype = Any


def he_fan_out(groups: int = 1) -> jax.nn.initializers.Initializer:
    """He's normal initialisation by fan-out, as timm: a depthwise kernel counts one group."""
    return jax.nn.initializers.variance_scaling(2.0 * groups, "fan_out", "normal")


def convolve(x_BHWC: jax.Array, kernel: jax.Array, strides: int, padding: int) -> jax.Array:
    """Dense convolution in NHWC/HWIO with `padding` zeros on every side.

    On the CPU a 1x1 one is a matrix product, which XLA runs at about twice the speed, and a large
    one with stride 2 on few channels (a stem) goes over 2x2 blocks of pixels as channels.
    """
    general = functools.partial(_convolve_general, strides=strides, padding=padding)
    size, channels = kernel.shape[0], kernel.shape[2]
    even = x_BHWC.shape[1] % 2 == 0 and x_BHWC.shape[2] % 2 == 0
    on_cpu: Callable[[jax.Array, jax.Array], jax.Array]
    if size == 1:
        on_cpu = functools.partial(_convolve_pointwise, strides=strides)
    elif size == 7 and strides == 2 and padding == 3 and channels <= 4 and even:
        on_cpu = _convolve_stem
    else:
        return general(x_BHWC, kernel)
    return jax.lax.platform_dependent(x_BHWC, kernel, cpu=on_cpu, default=general)


def _convolve_general(
    x_BHWC: jax.Array, kernel: jax.Array, *, strides: int, padding: int
) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x_BHWC,
        kernel,
        (strides, strides),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _convolve_pointwise(x_BHWC: jax.Array, kernel: jax.Array, *, strides: int) -> jax.Array:
    return jnp.tensordot(x_BHWC[:, ::strides, ::strides], kernel[0, 0], axes=1)


def _convolve_stem(x_BHWC: jax.Array, kernel: jax.Array) -> jax.Array:
    """7x7 with stride 2 and padding 3 as 4x4 with stride 1 on 2x2 blocks of pixels.

    Output o sees pixels 2o - 3 to 2o + 3; with a zero in front of the kernel, 2o - 4 to 2o + 3,
    which are the blocks o - 2 to o + 1.
    """
    batch, height, width, channels = x_BHWC.shape
    blocks = x_BHWC.reshape(batch, height // 2, 2, width // 2, 2, channels)
    blocks = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 2, width // 2, -1)
    features = kernel.shape[-1]
    padded = jnp.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0)))
    taps = padded.reshape(4, 2, 4, 2, channels, features).transpose(0, 2, 1, 3, 4, 5)
    return jax.lax.conv_general_dilated(
        blocks,
        taps.reshape(4, 4, -1, features),
        (1, 1),
        [(2, 1), (2, 1)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


class Conv(nn.Module):
    """Square convolution, (B, H, W, C) to (B, H', W', features), float32 parameters.

    Padding is PyTorch's, (k - 1) // 2 zeros on every side. The parameters don't depend on how the
    convolution is lowered.

    Attributes:
      depthwise: a kernel (k, k, 1, C) for each of the C channels; `features` must be C.
    """

    features: int
    kernel_size: int
    strides: int = 1
    depthwise: bool = False
    use_bias: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        size, channels = self.kernel_size, x_BHWC.shape[-1]
        if self.depthwise and self.features != channels:
            raise ValueError(f"depthwise convolution of {channels} channels to {self.features}")
        inputs, groups = (1, channels) if self.depthwise else (channels, 1)
        shape = (size, size, inputs, self.features)
        kernel = self.param("kernel", he_fan_out(groups), shape, jnp.float32).astype(self.dtype)
        x_BHWC = x_BHWC.astype(self.dtype)
        padding = (size - 1) // 2
        if self.depthwise:
            y_BHWC = depthwise.convolve(x_BHWC, kernel, self.strides, padding)
        else:
            y_BHWC = convolve(x_BHWC, kernel, self.strides, padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
            y_BHWC += bias.astype(self.dtype)
        return y_BHWC


def batch_norm(
    name: str, *, frozen: bool, dtype: Dtype, axis_name: str | None, zero_scale: bool = False
) -> nn.BatchNorm:
    """Batch norm over the global batch, with the settings of PyTorch (eps 1e-5, momentum 0.1).

    Statistics are float32 whatever `dtype` is, and their mean over `axis_name` makes one device
    and eight agree. The running variance is the biased one (Flax), PyTorch's is unbiased.
    """
    init = nn.initializers.zeros_init() if zero_scale else nn.initializers.ones_init()
    return nn.BatchNorm(
        use_running_average=frozen,
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        scale_init=init,
        axis_name=axis_name,
        name=name,
    )


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): drops a residual branch per example, when training."""

    rate: float

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool) -> jax.Array:
        if not train or self.rate == 0.0:
            return x_BHWC
        keep = 1.0 - self.rate
        shape = (x_BHWC.shape[0], 1, 1, 1)
        kept_B111 = jax.random.bernoulli(self.make_rng("dropout"), keep, shape)
        return jnp.where(kept_B111, x_BHWC / keep, 0).astype(x_BHWC.dtype)


def average_pool(x_BHWC: jax.Array) -> jax.Array:
    """2x2 average pool with stride 2; an odd last row or column is left out, as VALID does."""
    batch, height, width, channels = x_BHWC.shape
    x_BHWC = x_BHWC[:, : height // 2 * 2, : width // 2 * 2]
    x_BHxWxC = x_BHWC.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return jnp.mean(x_BHxWxC, axis=(2, 4))


def max_pool(x_BHWC: jax.Array) -> jax.Array:
    """3x3 max pool with stride 2 and PyTorch's one pixel of padding; odd sizes round up.

    On the CPU as maxima of shifted images: the gradient of XLA's windowed reduction is slow there.
    """
    return jax.lax.platform_dependent(x_BHWC, cpu=_max_pool_shifted, default=_max_pool_windows)


def _max_pool_windows(x_BHWC: jax.Array) -> jax.Array:
    return nn.max_pool(x_BHWC, (3, 3), (2, 2), ((1, 1), (1, 1)))


def _max_pool_shifted(x_BHWC: jax.Array) -> jax.Array:
    height, width = x_BHWC.shape[1:3]
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    padded = jnp.pad(x_BHWC, padding, constant_values=-jnp.inf)
    rows = [padded[:, shift : shift + height : 2] for shift in range(3)]
    tall = jnp.maximum(jnp.maximum(rows[0], rows[1]), rows[2])
    columns = [tall[:, :, shift : shift + width : 2] for shift in range(3)]
    return jnp.maximum(jnp.maximum(columns[0], columns[1]), columns[2])
