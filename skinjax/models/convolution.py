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

    The gains are those of `scripts/benchmarks/compare.py --kinds=step --lowerings=cpu,xla` with
    what is named here. On the CPU a 1x1 one is a matrix product of flat operands, without which XLA
    transposes whole images for the gradient of the kernel: 1.7 times the speed in training
    ResNet-50 (`--models=resnet50`). One with a tiny result is a matrix product of its patches: on
    maps of 2x2 XLA's own is tens of times slower (`--models=resnet18 --size=64`). For some numbers
    of channels XLA's gradient of the kernel takes two or three times what a matrix product for each
    row of the kernel does: those of EfficientNetV2's first stages (`--models=efficientnetv2_s`).

    Args:
      lowering: "auto" by platform, "xla" XLA's own convolution, "cpu" the one for the CPU.
    """
    xla = functools.partial(_convolve_general, strides=strides, padding=padding)
    if kernel.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0)):
        cpu = functools.partial(_convolve_pointwise, strides=strides)
    elif max(_outputs(x_BHWC.shape, kernel.shape, strides, padding)) <= _TINY:
        cpu = functools.partial(_convolve_patches, strides=strides, padding=padding)
    elif _wants_rows(kernel.shape):
        return _convolve_general_by_rows(x_BHWC, kernel, strides, padding, lowering)
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


def _wants_rows(kernel: Sequence[int]) -> bool:
    """Says whether the CPU takes the gradient of a kernel (kh, kw, in, out) row by row.

    As measured at 16 x 28 x 28 to 16 x 112 x 112: odd numbers of channels, and expansions.
    """
    inputs, outputs = kernel[2:]
    return inputs >= 16 and (inputs % 32 != 0 or outputs > 2 * inputs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve_general_by_rows(
    x_BHWC: jax.Array, kernel: jax.Array, strides: int, padding: Padding, lowering: str
) -> jax.Array:
    """XLA's convolution, but for how the CPU takes the gradient of its kernel."""
    return _convolve_general(x_BHWC, kernel, strides=strides, padding=padding)


def _forward_by_rows(
    x_BHWC: jax.Array, kernel: jax.Array, strides: int, padding: Padding, lowering: str
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y_BHWC = _convolve_general_by_rows(x_BHWC, kernel, strides, padding, lowering)
    return y_BHWC, (x_BHWC, kernel)


def _backward_by_rows(
    strides: int,
    padding: Padding,
    lowering: str,
    residuals: tuple[jax.Array, jax.Array],
    dy_BHWC: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    x_BHWC, kernel = residuals
    general = functools.partial(_convolve_general, strides=strides, padding=padding)

    def cpu(x_BHWC: jax.Array, kernel: jax.Array, dy_BHWC: jax.Array) -> jax.Array:
        gradient = _kernel_gradient(x_BHWC, dy_BHWC, kernel.shape, strides, padding)
        return gradient.astype(kernel.dtype)

    def xla(x_BHWC: jax.Array, kernel: jax.Array, dy_BHWC: jax.Array) -> jax.Array:
        return jax.vjp(lambda kernel: general(x_BHWC, kernel), kernel)[1](dy_BHWC)[0]

    dx_BHWC = jax.vjp(lambda x_BHWC: general(x_BHWC, kernel), x_BHWC)[1](dy_BHWC)[0]
    return dx_BHWC, lower(lowering, cpu, xla, x_BHWC, kernel, dy_BHWC)


_convolve_general_by_rows.defvjp(_forward_by_rows, _backward_by_rows)


def _kernel_gradient(
    x_BHWC: jax.Array, dy_BHWC: jax.Array, kernel: Sequence[int], strides: int, padding: Padding
) -> jax.Array:
    """(kh, kw, in, out) in float32: for each row a matrix product of its taps and dy."""
    batch, rows, columns, outputs = dy_BHWC.shape
    height, width, inputs, _ = kernel
    padded = jnp.pad(x_BHWC, ((0, 0), *padding, (0, 0)))
    last = strides * (columns - 1) + 1
    taps_BHQK = jnp.concatenate(
        [padded[:, :, j : j + last : strides] for j in range(width)], axis=-1
    )
    dy_PO = dy_BHWC.reshape(-1, outputs)
    last = strides * (rows - 1) + 1
    by_row = [
        jax.lax.dot_general(
            taps_BHQK[:, i : i + last : strides].reshape(batch * rows * columns, -1),
            dy_PO,
            (((0,), (0,)), ((), ())),
            preferred_element_type=jnp.float32,
        )
        for i in range(height)
    ]
    return jnp.stack(by_row).reshape(height, width, inputs, outputs)
