"""Max and average pooling; on the CPU as maxima and sums of shifted images.

The gradient of XLA's windowed reductions is slow there.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from skinjax.models.convolution import Padding, lower, pads

Reduce = Callable[[jax.Array, jax.Array], jax.Array]


def max_pool(
    x_BHWC: jax.Array, size: int, strides: int, padding: int | str = 0, lowering: str = "auto"
) -> jax.Array:
    """Maximum of each window of `size` squared pixels; padding is never the maximum.

    Args:
      padding: pixels on every side, or "valid", "symmetric" or "same" as `convolution.pads` has it.
      lowering: as in `convolution.convolve`.
    """
    sides = pads(x_BHWC.shape[1:3], (size, size), strides, padding)
    return _pool(x_BHWC, size, strides, sides, lowering, jax.lax.max, -jnp.inf)


def average_pool(
    x_BHWC: jax.Array,
    size: int,
    strides: int,
    padding: int | str = 0,
    count_padding: bool = True,
    lowering: str = "auto",
) -> jax.Array:
    """Mean of each window of `size` squared pixels, summed in float32.

    Args:
      padding: zeros on every side, or "valid", "symmetric" or "same" as `convolution.pads` has it.
      count_padding: divide by the whole window also where it reaches over the border.
      lowering: as in `convolution.convolve`.
    """
    sides = pads(x_BHWC.shape[1:3], (size, size), strides, padding)
    total_BHWC = _pool(x_BHWC.astype(jnp.float32), size, strides, sides, lowering, jax.lax.add, 0.0)
    count: float | jax.Array = size**2
    if not count_padding and sides != ((0, 0), (0, 0)):
        ones = jnp.ones((1, *x_BHWC.shape[1:3], 1), jnp.float32)
        count = _shifted(ones, size, strides, sides, jax.lax.add, 0.0)
    return (total_BHWC / count).astype(x_BHWC.dtype)


def _pool(
    x_BHWC: jax.Array,
    size: int,
    strides: int,
    padding: Padding,
    lowering: str,
    reduce: Reduce,
    start: float,
) -> jax.Array:
    def cpu(x_BHWC: jax.Array) -> jax.Array:
        return _shifted(x_BHWC, size, strides, padding, reduce, start)

    def xla(x_BHWC: jax.Array) -> jax.Array:
        # A Python scalar as the start, without which JAX knows no gradient.
        scalar = x_BHWC.dtype.type(start)
        window, steps = (1, size, size, 1), (1, strides, strides, 1)
        return jax.lax.reduce_window(
            x_BHWC, scalar, reduce, window, steps, ((0, 0), *padding, (0, 0))
        )

    return lower(lowering, cpu, xla, x_BHWC)


def _shifted(
    x_BHWC: jax.Array, size: int, strides: int, padding: Padding, reduce: Reduce, start: float
) -> jax.Array:
    if padding != ((0, 0), (0, 0)):
        x_BHWC = jnp.pad(x_BHWC, ((0, 0), *padding, (0, 0)), constant_values=start)
    height, width = ((length - size) // strides * strides + 1 for length in x_BHWC.shape[1:3])
    rows = [x_BHWC[:, i : i + height : strides] for i in range(size)]
    tall = functools.reduce(reduce, rows)
    columns = [tall[:, :, j : j + width : strides] for j in range(size)]
    return functools.reduce(reduce, columns)
