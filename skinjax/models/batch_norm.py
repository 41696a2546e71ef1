"""Batch norm with the activation behind it, as one function with a gradient of its own.

What automatic differentiation would keep of it (the centred image, the sigmoid) is computed again
from its input going backward, which is kept anyway: fewer passes over memory, and about half of the
activations' bytes.
"""

import functools

import jax
import jax.numpy as jnp

ACTIVATIONS = ("linear", "relu", "silu")

_Moments = tuple[jax.Array, jax.Array]


def activate(x: jax.Array, activation: str) -> jax.Array:
    """Applies one of `ACTIVATIONS`.

    Raises:
      ValueError: it is none of them.
    """
    if activation == "linear":
        return x
    if activation == "relu":
        return jax.nn.relu(x)
    if activation == "silu":
        return x * jax.nn.sigmoid(x)
    raise ValueError(f"unknown activation {activation!r}; expected {', '.join(ACTIVATIONS)}")


def moments(x: jax.Array, axis_name: str | None) -> _Moments:
    """Mean and biased variance of each channel, float32, over all axes but the last.

    Args:
      axis_name: the mapped axis that they are reduced over, too; None is one device.
    """
    axes = tuple(range(x.ndim - 1))
    x = x.astype(jnp.float32)
    mean_C, square_C = _mean((jnp.mean(x, axes), jnp.mean(jnp.square(x), axes)), axis_name)
    return mean_C, jnp.maximum(square_C - jnp.square(mean_C), 0)


def normalize(
    x: jax.Array,
    mean_C: jax.Array,
    var_C: jax.Array,
    scale_C: jax.Array,
    bias_C: jax.Array,
    epsilon: float,
    activation: str,
) -> jax.Array:
    """Normalises by given statistics, scales, shifts and activates; of x's shape, float32."""
    multiplier_C = jax.lax.rsqrt(var_C + epsilon) * scale_C
    return activate((x - mean_C) * multiplier_C + bias_C, activation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def normalize_by_batch(
    x: jax.Array,
    scale_C: jax.Array,
    bias_C: jax.Array,
    epsilon: float,
    activation: str,
    axis_name: str | None,
) -> tuple[jax.Array, _Moments]:
    """Normalises by the batch's own statistics (Ioffe and Szegedy 2015), and gives them, too.

    Args:
      x: (..., C).
      epsilon: added to the variance.
      activation: one of `ACTIVATIONS`.
      axis_name: as in `moments`.

    Returns:
      float32 of x's shape, and `moments`, through which no gradient flows.
    """
    mean_C, var_C = moments(x, axis_name)
    y = normalize(x, mean_C, var_C, scale_C, bias_C, epsilon, activation)
    return y, (mean_C, var_C)


def _forward(
    x: jax.Array,
    scale_C: jax.Array,
    bias_C: jax.Array,
    epsilon: float,
    activation: str,
    axis_name: str | None,
) -> tuple[tuple[jax.Array, _Moments], tuple[jax.Array, ...]]:
    y, (mean_C, var_C) = normalize_by_batch(x, scale_C, bias_C, epsilon, activation, axis_name)
    return (y, (mean_C, var_C)), (x, mean_C, var_C, scale_C, bias_C)


def _backward(
    epsilon: float,
    activation: str,
    axis_name: str | None,
    residuals: tuple[jax.Array, ...],
    cotangents: tuple[jax.Array, _Moments],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    # Without the barrier XLA finds what it computed going forward, and keeps all of it after all.
    x, mean_C, var_C, scale_C, bias_C = jax.lax.optimization_barrier(residuals)
    dy, _ = cotangents
    axes = tuple(range(x.ndim - 1))
    inverse_C = jax.lax.rsqrt(var_C + epsilon)
    x, dtype = x.astype(jnp.float32), x.dtype
    centred = x - mean_C
    dz = dy * _slope(centred * (inverse_C * scale_C) + bias_C, activation)
    sum_C = jnp.sum(dz, axes)
    # Not of dz * centred: the CPU would write the centred image for it.
    product_C = (jnp.sum(dz * x, axes) - mean_C * sum_C) * inverse_C
    rounding_C = 4 * jnp.finfo(jnp.float32).eps * jnp.square(mean_C)
    product_C = jnp.where(var_C > rounding_C, product_C, 0)  # else all of it is rounding
    count = x.size // x.shape[-1]
    # The statistics are over the global batch, the gradients of the parameters this replica's.
    mean_dz_C, mean_product_C = _mean((sum_C / count, product_C / count), axis_name)
    dx = (dz - mean_dz_C - centred * (inverse_C * mean_product_C)) * (inverse_C * scale_C)
    return dx.astype(dtype), product_C, sum_C


normalize_by_batch.defvjp(_forward, _backward)


def _slope(z: jax.Array, activation: str) -> jax.Array:
    """The activation's derivative."""
    if activation == "linear":
        return jnp.ones((), z.dtype)
    if activation == "relu":
        return (z > 0).astype(z.dtype)
    sigmoid = jax.nn.sigmoid(z)
    return sigmoid * (1 + z * (1 - sigmoid))


def _mean(values: _Moments, axis_name: str | None) -> _Moments:
    return values if axis_name is None else jax.lax.pmean(values, axis_name)
