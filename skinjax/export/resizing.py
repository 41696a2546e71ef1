"""The resizing of `skinjax.data.preprocess` in JAX, for images whose size isn't known beforehand.

Weights are made of the image's size by integer arithmetic, so that the size may be symbolic
(`jax.export`). Shapes of results are fixed: what "crop" cuts off is not computed, and "pad" has
rows of zeros.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from skinjax.data.preprocess import Preprocess

MAX_ASPECT = 16  # what "crop" keeps of a longer image, as `preprocess.crop` has it
_STEPS = 2048  # OpenCV's linear weights of uint8 images are multiples of 1 / 2048


class _Axis(NamedTuple):
    """How one axis is resized; all are int32 scalars, the image's size perhaps symbolic.

    Attributes:
      size: pixels of the image; shape-like.
      first: pixels cut off before the resizing at the start, and as many at the end.
      kept: pixels that are left of them.
      target: pixels that these become.
      start: place of the result's first pixel among them; negative is a bar of black.
      length: pixels of the result; an int.
    """

    size: int
    first: jax.Array
    kept: jax.Array
    target: jax.Array
    start: jax.Array
    length: int


def resize(image_BHWC: jax.Array, preprocess: Preprocess) -> jax.Array:
    """Resizes as `Preprocess.resized` does.

    What shrinks agrees to the bit, but for 1 in 10,000 values; of what grows, OpenCV rounds a few
    pixels at the rows' ends in another way, by a grey level. A side of "crop" or "pad" that is
    scaled to just half a pixel may be rounded in the other way than by Python's doubles.

    Args:
      image_BHWC: uint8, any size; H and W may be symbolic.
      preprocess: whose `resize`, `short_side` and `image_size`, S, are followed.

    Returns:
      float32 (B, S, S, C): whole numbers in [0, 255].
    """
    rows, columns = _axes(image_BHWC.shape[1], image_BHWC.shape[2], preprocess)

    def shrink(image_BHWC: jax.Array) -> jax.Array:
        mean_BSSC = _columns(_rows(image_BHWC, _area(rows)), _area(columns))
        # OpenCV averages 2x2 pixels in integers, where a half goes up; others to the even.
        is_halved = (rows.kept == 2 * rows.target) & (columns.kept == 2 * columns.target)
        return jnp.where(is_halved, jnp.floor(mean_BSSC + 0.5), jnp.round(mean_BSSC))

    # Where one axis shrinks and the other grows, it shrinks first, to whole grey levels.
    def shrink_rows(image_BHWC: jax.Array) -> jax.Array:
        return _grow(jnp.round(_rows(image_BHWC, _area(rows))), _done(rows), columns)

    def shrink_columns(image_BHWC: jax.Array) -> jax.Array:
        return _grow(jnp.round(_columns(image_BHWC, _area(columns))), rows, _done(columns))

    grow = functools.partial(_grow, rows=rows, columns=columns)
    rows_grow, columns_grow = rows.target > rows.kept, columns.target > columns.kept
    rows_shrink, columns_shrink = rows.target < rows.kept, columns.target < columns.kept
    case = jnp.select(
        [~rows_grow & ~columns_grow, rows_shrink, columns_shrink], [jnp.int32(0), 1, 2], 3
    )
    result_BSSC = jax.lax.switch(
        case, [shrink, shrink_rows, shrink_columns, grow], image_BHWC.astype(jnp.float32)
    )
    inside = _inside(rows)[:, None] & _inside(columns)[None, :]
    return jnp.where(inside[:, :, None], jnp.clip(result_BSSC, 0, 255), 0)


def _axes(height: int, width: int, preprocess: Preprocess) -> tuple[_Axis, _Axis]:
    """The sizes of `preprocess.crop`, `preprocess.pad` and `images.resize`."""
    size = jnp.stack([jnp.asarray(height, jnp.int32), jnp.asarray(width, jnp.int32)])
    length = preprocess.image_size
    kept = jnp.minimum(size, MAX_ASPECT * size.min()) if preprocess.resize == "crop" else size
    if preprocess.resize == "crop":
        target = _scaled(kept, preprocess.short_side or length, kept.min())
    elif preprocess.resize == "pad":
        target = jnp.maximum(1, _scaled(kept, length, kept.max()))
    else:
        target = jnp.full(2, length, jnp.int32)
    first = (size - kept) // 2
    # Rounded towards zero, as the bars of "pad" are.
    start = jax.lax.div(target - length, jnp.int32(2))
    axes = [
        _Axis(side, first[axis], kept[axis], target[axis], start[axis], length)
        for axis, side in enumerate((height, width))
    ]
    return axes[0], axes[1]


def _scaled(size: jax.Array, factor: int, divisor: jax.Array) -> jax.Array:
    """`round(size * (factor / divisor))` in whole numbers: halves to the even, as Python."""
    # In float32 or by an int32 product, large images would be off by one.
    whole, rest = size // divisor, size % divisor
    quotient, remainder = rest * factor // divisor, rest * factor % divisor
    up = (2 * remainder > divisor) | ((2 * remainder == divisor) & (quotient % 2 == 1))
    return whole * factor + quotient + up.astype(jnp.int32)


def _done(axis: _Axis) -> _Axis:
    """The axis after it has been resized: nothing more happens to it."""
    length = jnp.asarray(axis.length, jnp.int32)
    nothing = jnp.zeros((), jnp.int32)
    return _Axis(axis.length, nothing, length, length, nothing, axis.length)


def _places(axis: _Axis) -> jax.Array:
    """Place of each of the result's pixels in the resized image, (length,)."""
    return jnp.arange(axis.length, dtype=jnp.int32) + axis.start


def _inside(axis: _Axis) -> jax.Array:
    place_S = _places(axis)
    return (place_S >= 0) & (place_S < axis.target)


def _area(axis: _Axis) -> jax.Array:
    """Share of each of the image's pixels in each of the result's, (length, size) float32.

    Pixel i of the result covers [i, i + 1) / target of the axis, pixel j of the image
    [j, j + 1) / kept: their overlap is a whole number over kept * target.
    """
    place_S1 = _places(axis)[:, None]
    place_1N = jnp.arange(axis.size, dtype=jnp.int32)[None, :] - axis.first
    end = jnp.minimum((place_S1 + 1) * axis.kept, (place_1N + 1) * axis.target)
    overlap = end - jnp.maximum(place_S1 * axis.kept, place_1N * axis.target)
    is_kept = (place_1N >= 0) & (place_1N < axis.kept)
    return jnp.where(is_kept, jnp.maximum(overlap, 0), 0).astype(jnp.float32) / axis.kept


# Full precision: a product in TF32 would be off by whole grey levels.
def _rows(image_BHWC: jax.Array, weight_SH: jax.Array) -> jax.Array:
    return jnp.einsum("sh,bhwc->bswc", weight_SH, image_BHWC, precision=jax.lax.Precision.HIGHEST)


def _columns(image_BHWC: jax.Array, weight_SW: jax.Array) -> jax.Array:
    return jnp.einsum("sw,bhwc->bhsc", weight_SW, image_BHWC, precision=jax.lax.Precision.HIGHEST)


def _grow(image_BHWC: jax.Array, rows: _Axis, columns: _Axis) -> jax.Array:
    """Linear interpolation as OpenCV does it in integers (`VResizeLinearVec_32s8u`)."""
    image_BHWC = image_BHWC.astype(jnp.int32)
    left, right, left_S, right_S = _taps(columns)
    row_BHSC = image_BHWC[:, :, left] * left_S[:, None] + image_BHWC[:, :, right] * right_S[:, None]
    row_BHSC = row_BHSC >> 4
    top, bottom, top_S, bottom_S = _taps(rows)
    above = (row_BHSC[:, top] * top_S[:, None, None]) >> 16
    below = (row_BHSC[:, bottom] * bottom_S[:, None, None]) >> 16
    return ((above + below + 2) >> 2).astype(jnp.float32)


def _taps(axis: _Axis) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The two neighbours of each pixel of the result, and their weights in 1 / 2048."""
    # Pixel i lies at (2i + 1) * kept / (2 * target) - 1/2.
    numerator_S = (2 * _places(axis) + 1) * axis.kept - axis.target
    low_S = numerator_S // (2 * axis.target)
    share_S = (numerator_S % (2 * axis.target)).astype(jnp.float32) / (2 * axis.target)
    share_S = jnp.where((low_S < 0) | (low_S >= axis.kept - 1), 0, share_S)
    low_S = jnp.clip(low_S, 0, axis.kept - 1)
    high_S = jnp.minimum(low_S + 1, axis.kept - 1)
    weights = [jnp.round(part * _STEPS).astype(jnp.int32) for part in (1 - share_S, share_S)]
    return low_S + axis.first, high_S + axis.first, weights[0], weights[1]
