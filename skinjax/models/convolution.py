"""Dense convolution, its padding, and how it is lowered on the CPU."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Padding = tuple[tuple[int, int], tuple[int, int]]  # zeros before and after, in rows and columns


def pads(
    size: Sequence[int], kernel_size: Sequence[int], strides: int, padding: int | str
) -> Padding:
    """Zeros before and after, in rows and in columns.

    Args:
      size: rows and columns of the image.
      kernel_size: rows and columns of the kernel.
      strides: in both directions.
      padding: zeros on every side, "valid" for none, "symmetric" for (k - 1) // 2, or "same",
        TensorFlow's, which depends on the image's size and the stride.
    """
    if padding == "same":
        missing = [
            max((-(-n // strides) - 1) * strides + k - n, 0)
            for n, k in zip(size, kernel_size, strict=True)
        ]
        before = [n // 2 for n in missing]
        after = [n - b for n, b in zip(missing, before, strict=True)]
    elif padding == "symmetric":
        before = after = [(k - 1) // 2 for k in kernel_size]
    elif padding == "valid":
        before = after = [0, 0]
    elif isinstance(padding, int):
        before = after = [padding, padding]
    else:
        raise ValueError(f"unknown padding {padding!r}")
    return (before[0], after[0]), (before[1], after[1])


def lower(
    lowering: str,
    cpu: Callable[..., jax.Array],
    xla: Callable[..., jax.Array],
    *operands: jax.Array,
) -> jax.Array:
    """Calls `cpu` or `xla`: "auto" by the platform that it is compiled for, or the one named."""
    if lowering == "auto":
        return jax.lax.platform_dependent(*operands, cpu=cpu, default=xla)
    if lowering not in ("cpu", "xla"):
        raise ValueError(f"unknown lowering {lowering!r}; expected auto, cpu or xla")
    return (cpu if lowering == "cpu" else xla)(*operands)


def convolve(
    x_BHWC: jax.Array, kernel: jax.Array, strides: int, padding: Padding, lowering: str = "auto"
) -> jax.Array:
    """Dense convolution of (B, H, W, in) with a kernel (kh, kw, in, out).

    On the CPU a 1x1 one is a matrix product, which XLA runs at about twice the speed, and a large
    one with stride 2 on few channels (a stem) goes over 2x2 blocks of pixels as channels.

    Args:
      lowering: "auto" by platform, "xla" XLA's own convolution, "cpu" the one for the CPU.
    """
    xla = functools.partial(_convolve_general, strides=strides, padding=padding)
    rows, columns, channels, _ = kernel.shape
    even = x_BHWC.shape[1] % 2 == 0 and x_BHWC.shape[2] % 2 == 0
    cpu: Callable[[jax.Array, jax.Array], jax.Array] = xla
    if rows == columns == 1 and padding == ((0, 0), (0, 0)):
        cpu = functools.partial(_convolve_pointwise, strides=strides)
    elif rows == columns == 7 and strides == 2 and padding == ((3, 3), (3, 3)) and even:
        cpu = _convolve_stem if channels <= 4 else xla
    return lower(lowering, cpu, xla, x_BHWC, kernel)


def _convolve_general(
    x_BHWC: jax.Array, kernel: jax.Array, *, strides: int, padding: Padding
) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x_BHWC, kernel, (strides, strides), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
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
    return _convolve_general(
        blocks, taps.reshape(4, 4, -1, features), strides=1, padding=((2, 1), (2, 1))
    )
