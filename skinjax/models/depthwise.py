"""Depthwise convolution, lowered on the CPU as shifted multiply-adds.

XLA:CPU runs a grouped convolution ten to forty times slower than the same sum written out, which
it fuses into one vectorised loop. Other platforms keep the convolution. Under `jax.shard_map` it
needs `check_vma=False`.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from skinjax.models.convolution import Padding, lower

# Examples summed in one loop body of the kernel's gradient: fewer are slower, more compile longer.
MAX_UNROLL = 16


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def convolve(
    x_BHWC: jax.Array, kernel: jax.Array, strides: int, padding: Padding, lowering: str = "auto"
) -> jax.Array:
    """Convolution of each of the C channels with its own kernel, (k, k, 1, C) in all.

    Args:
      padding: zeros before and after, in rows and in columns.
      lowering: "auto" by platform, "xla" XLA's own convolution, "cpu" the one for the CPU.
    """
    shifted = functools.partial(_shifted, strides=strides, padding=padding)
    grouped = functools.partial(_grouped, strides=strides, padding=padding)
    return lower(lowering, shifted, grouped, x_BHWC, kernel)


def _forward(
    x_BHWC: jax.Array, kernel: jax.Array, strides: int, padding: Padding, lowering: str
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(x_BHWC, kernel, strides, padding, lowering), (x_BHWC, kernel)


def _backward(
    strides: int,
    padding: Padding,
    lowering: str,
    residuals: tuple[jax.Array, jax.Array],
    dy_BHWC: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    grouped = functools.partial(_grouped, strides=strides, padding=padding)

    # Two choices and not one, so that XLA can drop either gradient where it isn't used.
    def cpu_input(x_BHWC: jax.Array, kernel: jax.Array, dy_BHWC: jax.Array) -> jax.Array:
        return _input_gradient(dy_BHWC, kernel, x_BHWC.shape, strides, padding)

    def cpu_kernel(x_BHWC: jax.Array, kernel: jax.Array, dy_BHWC: jax.Array) -> jax.Array:
        size = kernel.shape[0]
        return _kernel_gradient(x_BHWC, dy_BHWC, size, strides, padding).astype(kernel.dtype)

    def any_input(x_BHWC: jax.Array, kernel: jax.Array, dy_BHWC: jax.Array) -> jax.Array:
        return jax.vjp(lambda x_BHWC: grouped(x_BHWC, kernel), x_BHWC)[1](dy_BHWC)[0]

    def any_kernel(x_BHWC: jax.Array, kernel: jax.Array, dy_BHWC: jax.Array) -> jax.Array:
        return jax.vjp(lambda kernel: grouped(x_BHWC, kernel), kernel)[1](dy_BHWC)[0]

    operands = (*residuals, dy_BHWC)
    dx_BHWC = lower(lowering, cpu_input, any_input, *operands)
    return dx_BHWC, lower(lowering, cpu_kernel, any_kernel, *operands)


convolve.defvjp(_forward, _backward)


def _grouped(x_BHWC: jax.Array, kernel: jax.Array, *, strides: int, padding: Padding) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x_BHWC,
        kernel,
        (strides, strides),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x_BHWC.shape[-1],
    )


def _taps(size: int) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(size) for j in range(size))


def _pad(x_BHWC: jax.Array, rows: tuple[int, int], columns: tuple[int, int]) -> jax.Array:
    """Zeros before and after; a negative count cuts."""
    config = ((0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0))
    return jax.lax.pad(x_BHWC, jnp.zeros((), x_BHWC.dtype), config)


def _padded(x_BHWC: jax.Array, size: int, strides: int, padding: Padding) -> jax.Array:
    """The image with its padding, and with columns enough to take `strides` of them as one.

    It is the same going forward and for the kernel's gradient, so that XLA makes it once.
    """
    left, right = padding[1]
    width = x_BHWC.shape[2] + left + right
    wide = -(-((width - size) // strides * strides + size) // strides) * strides
    return _pad(x_BHWC, padding[0], (left, right + max(wide - width, 0)))


def _shifted(x_BHWC: jax.Array, kernel: jax.Array, *, strides: int, padding: Padding) -> jax.Array:
    """The sum over the kernel's taps of the shifted image times the tap's weight."""
    size = kernel.shape[0]
    batch, height, width, channels = x_BHWC.shape
    last_row = (height + sum(padding[0]) - size) // strides * strides
    last_column = (width + sum(padding[1]) - size) // strides * strides
    # Padded once, outside the taps: XLA would repeat what made x in every tap's padding.
    x_BHWC = _padded(x_BHWC, size, strides, padding)
    y_BHWC = jnp.zeros((), x_BHWC.dtype)
    for i, j in _taps(size):
        limit = (batch, i + last_row + 1, j + last_column + 1, channels)
        tap_BHWC = jax.lax.slice(x_BHWC, (0, i, j, 0), limit, (1, strides, strides, 1))
        y_BHWC = y_BHWC + tap_BHWC * kernel[i, j, 0]
    return y_BHWC


def _input_gradient(
    dy_BHWC: jax.Array, kernel: jax.Array, shape: tuple[int, ...], strides: int, padding: Padding
) -> jax.Array:
    """dx[s*u + a] is the sum of dy[u + (a + padding - i) / s] * kernel[i] over whole quotients.

    `padding` is what is before. Each of the s x s phases (a, b) is a convolution with the taps
    that reach it, without the zeros that a dilated dy would hold; the phases are interleaved at
    the end.
    """
    size = kernel.shape[0]
    batch, height, width, channels = shape
    rows, columns = -(-height // strides), -(-width // strides)
    top, left = padding[0][0], padding[1][0]
    above, before = -((top - size + 1) // strides), -((left - size + 1) // strides)
    below, after = (strides - 1 + top) // strides, (strides - 1 + left) // strides
    dy_BHWC = _pad(
        dy_BHWC,
        (above, below + rows - dy_BHWC.shape[1]),
        (before, after + columns - dy_BHWC.shape[2]),
    )

    def phase(a: int, b: int) -> jax.Array:
        dx_BHWC = jnp.zeros((batch, rows, columns, channels), dy_BHWC.dtype)
        for i in range((a + top) % strides, size, strides):
            for j in range((b + left) % strides, size, strides):
                row = above + (a + top - i) // strides
                column = before + (b + left - j) // strides
                tap_BHWC = dy_BHWC[:, row : row + rows, column : column + columns]
                dx_BHWC = dx_BHWC + tap_BHWC * kernel[i, j, 0]
        return dx_BHWC

    if strides == 1:
        return phase(0, 0)
    dx = jnp.stack(
        [jnp.stack([phase(a, b) for b in range(strides)], axis=3) for a in range(strides)], axis=2
    )
    return dx.reshape(batch, rows * strides, columns * strides, channels)[:, :height, :width]


def _kernel_gradient(
    x_BHWC: jax.Array, dy_BHWC: jax.Array, size: int, strides: int, padding: Padding
) -> jax.Array:
    """(k, k, 1, C): for every tap the sum of x * dy over batch and space, in float32.

    XLA:CPU doesn't vectorise a reduction of a product, so the sum is a scan over output rows whose
    carry keeps the columns apart, with the examples written out in the loop's body.
    """
    batch, out_height, out_width, channels = dy_BHWC.shape
    examples = max(n for n in range(1, min(batch, MAX_UNROLL) + 1) if batch % n == 0)
    x_BHWC = _padded(x_BHWC, size, strides, padding)
    wide = x_BHWC.shape[2] // strides

    def add_row(sums: tuple[jax.Array, ...], step: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
        start, row = step // out_height * examples, step % out_height
        x = jax.lax.dynamic_slice(
            x_BHWC, (start, row * strides, 0, 0), (examples, size, *x_BHWC.shape[2:])
        ).astype(jnp.float32)
        # Columns of one phase are made contiguous: `strides` of them as one of more channels.
        x = x[:, :, : wide * strides].reshape(examples, size, wide, strides * channels)
        dy = jax.lax.dynamic_slice(
            dy_BHWC, (start, row, 0, 0), (examples, 1, out_width, channels)
        ).astype(jnp.float32)
        totals = []
        for j, total_KWC in enumerate(sums):
            first, channel = j // strides, j % strides * channels
            tap = jax.lax.slice(
                x,
                (0, 0, first, channel),
                (examples, size, first + out_width, channel + channels),
            )
            totals.append(total_KWC + sum(tap[e] * dy[e] for e in range(examples)))
        return tuple(totals), None

    zeros_KWC = jnp.zeros((size, out_width, channels), jnp.float32)
    steps = jnp.arange(batch // examples * out_height)
    sums, _ = jax.lax.scan(add_row, (zeros_KWC,) * size, steps)
    return jnp.stack([total_KWC.sum(1) for total_KWC in sums], axis=1)[:, :, None]
