"""Layers that the model families share: convolution, norms, stochastic depth, stages of blocks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from skinjax.models import batch_norm, convolution, depthwise

Padding = int | str | None


@dataclass(frozen=True)
class Norm:
    """How batch norm computes.

    Attributes:
      epsilon: added to the variance.
      momentum: share of the running statistics that a step keeps (PyTorch's is 1 minus this).
      unbiased: the running variance is over n - 1 (PyTorch), not n (Keras).
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    unbiased: bool = True


TORCH = Norm()
KERAS = Norm(1e-3, 0.99, unbiased=False)


@dataclass(frozen=True)
class Settings:
    """What all layers of a network share.

    Attributes:
      dtype: of the computation; parameters are float32.
      axis_name: the mapped axis that batch statistics are reduced over; None is one device.
      norm: batch norm's constants.
      padding: of convolutions: "symmetric", (k - 1) // 2 zeros on every side as PyTorch, or
        "same", TensorFlow's, which depends on the input's size and the stride.
      lowering: of convolutions: "auto" by platform, "xla" XLA's own, "cpu" the one for the CPU.
      remat: compute the activations inside each block again in the backward pass.
    """

    dtype: Any = jnp.float32
    axis_name: str | None = None
    norm: Norm = TORCH
    padding: str = "symmetric"
    lowering: str = "auto"
    remat: bool = False


@dataclass(frozen=True)
class Mode:
    """What a call depends on besides its input.

    Attributes:
      train: batch statistics, dropout and stochastic depth.
      frozen: layers, "backbone/stem/bn", whose batch norm keeps to its running statistics.
    """

    train: bool
    frozen: frozenset[str] = frozenset()


EVALUATION = Mode(train=False)


def he_fan_out(groups: int = 1) -> jax.nn.initializers.Initializer:
    """He's normal initialisation by fan-out, as timm: a depthwise kernel counts one group."""
    return jax.nn.initializers.variance_scaling(2.0 * groups, "fan_out", "normal")


class Conv(nn.Module):
    """Convolution, (B, H, W, C) to (B, H', W', features), with float32 parameters.

    The parameters don't depend on how the convolution is lowered.

    Attributes:
      kernel_size: of both sides, or rows and columns.
      padding: zeros on every side, "valid", "same" or "symmetric"; None is that of `settings`.
      depthwise: a kernel (k, k, 1, C) for each of the C channels; `features` must be C.
      kernel_init: None is He's by fan-out.
    """

    features: int
    kernel_size: int | tuple[int, int]
    strides: int = 1
    padding: Padding = None
    depthwise: bool = False
    use_bias: bool = False
    kernel_init: Any = None
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        size = self.kernel_size
        rows, columns = (size, size) if isinstance(size, int) else size
        channels, settings = x_BHWC.shape[-1], self.settings
        if self.depthwise and self.features != channels:
            raise ValueError(f"depthwise convolution of {channels} channels to {self.features}")
        inputs, groups = (1, channels) if self.depthwise else (channels, 1)
        shape = (rows, columns, inputs, self.features)
        kernel = self.param("kernel", self.kernel_init or he_fan_out(groups), shape, jnp.float32)
        padding = settings.padding if self.padding is None else self.padding
        convolve = depthwise.convolve if self.depthwise else convolution.convolve
        y_BHWC = convolve(
            x_BHWC.astype(settings.dtype),
            kernel.astype(settings.dtype),
            self.strides,
            convolution.pads(x_BHWC.shape[1:3], (rows, columns), self.strides, padding),
            settings.lowering,
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
            y_BHWC += bias.astype(settings.dtype)
        return y_BHWC


class Dense(nn.Module):
    """Matrix product over the last axis and a bias, with float32 parameters."""

    features: int
    use_bias: bool = True
    kernel_init: Any = nn.linear.default_kernel_init
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dtype = self.settings.dtype
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = jnp.dot(x.astype(dtype), kernel.astype(dtype))
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
            y += bias.astype(dtype)
        return y


class BatchNorm(nn.Module):
    """Batch norm (Ioffe and Szegedy 2015) over all axes but the last, and over the global batch.

    Statistics are float32 whatever the dtype is. Their mean over the mapped axis makes one device
    and eight agree. A layer of `mode.frozen` keeps to its running statistics, and leaves them
    alone, also in training.

    Attributes:
      activation: what follows, one of `batch_norm.ACTIVATIONS`.
      zero_scale: the scale starts at 0, so that a residual branch starts as nothing.
      use_scale: False leaves the scale out, as Keras's InceptionV3 does.
    """

    settings: Settings = field(default_factory=Settings)
    activation: str = "linear"
    zero_scale: bool = False
    use_scale: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        norm, shape = self.settings.norm, (x.shape[-1],)
        zeros, ones = nn.initializers.zeros_init(), nn.initializers.ones_init()
        init = zeros if self.zero_scale else ones
        running_mean = self.variable("batch_stats", "mean", zeros, None, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", ones, None, shape, jnp.float32)
        scale_C = jnp.ones(shape)
        if self.use_scale:
            scale_C = self.param("scale", init, shape, jnp.float32)
        bias_C = self.param("bias", zeros, shape, jnp.float32)
        if mode.train and "/".join(self.path) not in mode.frozen:
            axis_name = self.settings.axis_name
            y, (mean_C, var_C) = batch_norm.normalize_by_batch(
                x, scale_C, bias_C, norm.epsilon, self.activation, axis_name
            )
            if not self.is_initializing():
                count = x.size // x.shape[-1]
                count *= 1 if axis_name is None else jax.lax.axis_size(axis_name)
                kept, new = norm.momentum, 1 - norm.momentum
                unbiased = count / max(count - 1, 1) if norm.unbiased else 1.0
                running_mean.value = kept * running_mean.value + new * mean_C
                running_var.value = kept * running_var.value + new * unbiased * var_C
        else:
            mean_C, var_C = running_mean.value, running_var.value
            y = batch_norm.normalize(
                x, mean_C, var_C, scale_C, bias_C, norm.epsilon, self.activation
            )
        return y.astype(self.settings.dtype)


class LayerNorm(nn.Module):
    """Layer norm (Ba et al. 2016) over the last axis; statistics are float32."""

    epsilon: float = 1e-6
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1],)
        scale_C = self.param("scale", nn.initializers.ones_init(), shape, jnp.float32)
        bias_C = self.param("bias", nn.initializers.zeros_init(), shape, jnp.float32)
        x = x.astype(jnp.float32)
        centred = x - jnp.mean(x, -1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), -1, keepdims=True)
        y = centred * jax.lax.rsqrt(variance + self.epsilon) * scale_C + bias_C
        return y.astype(self.settings.dtype)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): drops a residual branch per example, when training."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        if not mode.train or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        shape = (x.shape[0], *(1,) * (x.ndim - 1))
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep, shape)
        return jnp.where(kept, x / keep, 0).astype(x.dtype)


def drop_path_rates(
    rate: float, depths: Sequence[int], *, inclusive: bool = True
) -> tuple[tuple[float, ...], ...]:
    """Rates for the blocks of each stage, growing linearly with the block from 0.

    Args:
      rate: of the last block (`inclusive`), or of the one that would come after it.
      depths: blocks in each stage.
    """
    total = max(sum(depths) - int(inclusive), 1)
    starts = [sum(depths[:stage]) for stage in range(len(depths))]
    return tuple(
        tuple(rate * (start + block) / total for block in range(depth))
        for start, depth in zip(starts, depths, strict=True)
    )


class Stage(nn.Module):
    """Blocks one after the other; with `settings.remat` each is computed again going backward."""

    preserve_adopted_names = True  # the blocks', when Flax takes them over

    blocks: tuple[nn.Module, ...]
    settings: Settings = field(default_factory=Settings)

    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        def apply(block: Any, x: jax.Array) -> jax.Array:
            return block(x, mode)

        for block in self.blocks:
            x = nn.remat(apply)(block, x) if self.settings.remat else apply(block, x)
        return x
