"""Dense convolution, its padding, and how it is lowered on the CPU."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Padding = tuple[tuple[int, int], tuple[int, int]]  # zeros before and after, in rows and columns

_TINY = 3  # rows and columns of a result up to which the CPU takes the patches


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

    On the CPU a 1x1 one is a matrix product of flat operands, without which XLA transposes whole
    images for the gradient of the kernel: 1.7 times the speed in training ResNet-50
    (`scripts/benchmarks/models.py --models=resnet50 --lowerings=cpu,xla`). One with a tiny result
    is a matrix product of its patches: on maps of 2x2 XLA's own is tens of times slower
    (`--models=resnet18 --size=64 --lowerings=cpu,xla`).

    Args:
      lowering: "auto" by platform, "xla" XLA's own convolution, "cpu" the one for the CPU.
    """
    xla = functools.partial(_convolve_general, strides=strides, padding=padding)
    if kernel.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0)):
        cpu = functools.partial(_convolve_pointwise, strides=strides)
    elif max(_outputs(x_BHWC.shape, kernel.shape, strides, padding)) <= _TINY:
        cpu = functools.partial(_convolve_patches, strides=strides, padding=padding)
    else:
        return xla(x_BHWC, kernel)
    return lower(lowering, cpu, xla, x_BHWC, kernel)


def _outputs(
    image: Sequence[int], kernel: Sequence[int], strides: int, padding: Padding
) -> tuple[int, int]:
    """Rows and columns of the result."""
    rows, columns = (
        (image[1 + axis] + sum(padding[axis]) - kernel[axis]) // strides + 1 for axis in (0, 1)
    )
    return rows, columns


def _convolve_general(
    x_BHWC: jax.Array, kernel: jax.Array, *, strides: int, padding: Padding
) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x_BHWC, kernel, (strides, strides), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _convolve_pointwise(x_BHWC: jax.Array, kernel: jax.Array, *, strides: int) -> jax.Array:
    x_BHWC = x_BHWC[:, ::strides, ::strides]
    y_PC = jnp.dot(x_BHWC.reshape(-1, x_BHWC.shape[-1]), kernel[0, 0])
    return y_PC.reshape(*x_BHWC.shape[:-1], -1)


def _convolve_patches(
    x_BHWC: jax.Array, kernel: jax.Array, *, strides: int, padding: Padding
) -> jax.Array:
    batch, _, _, channels = x_BHWC.shape
    rows, columns = _outputs(x_BHWC.shape, kernel.shape, strides, padding)
    padded = jnp.pad(x_BHWC, ((0, 0), *padding, (0, 0)))
    taps = [
        jax.lax.slice(
            padded,
            (0, i, j, 0),
            (batch, i + strides * (rows - 1) + 1, j + strides * (columns - 1) + 1, channels),
            (1, strides, strides, 1),
        )
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    ]
    patches_PK = jnp.concatenate(taps, axis=-1).reshape(batch * rows * columns, -1)
    y_PC = jnp.dot(patches_PK, kernel.reshape(patches_PK.shape[1], -1))
    return y_PC.reshape(batch, rows, columns, -1)
