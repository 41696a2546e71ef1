"""Deterministic operations on images: affine warp, colour map, normalisation."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

# BT.601 luma and the chroma axes of NTSC (FCC 1953): rows Y, I, Q.
_RGB_TO_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
)
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)


def affine_matrix(
    shape: Sequence[int],
    *,
    flip_x: jax.typing.ArrayLike,
    flip_y: jax.typing.ArrayLike,
    degrees: jax.typing.ArrayLike,
    crop_side: float | jax.Array,
    crop_x: float | jax.Array,
    crop_y: float | jax.Array,
) -> jax.Array:
    """The matrix that flips, rotates about the centre, crops, and enlarges to the same size.

    Args:
        shape: the image's (H, W, ...).
        flip_x, flip_y: mirror left-right, top-bottom.
        degrees: angle of rotation, counter-clockwise as seen.
        crop_side: the crop's side over the image's side, in (0, 1].
        crop_x, crop_y: the crop's place, from 0 (left, top) to 1 (right, bottom).

    Returns:
        (2, 3) float32: output pixel (x, y, 1) to input pixel (x, y), pixel centres at whole
        numbers, as `cv2.warpAffine` takes with WARP_INVERSE_MAP.
    """
    height, width = shape[:2]
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    angle = jnp.deg2rad(jnp.asarray(degrees, jnp.float32))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    # Output pixel (x, y) is the rotated image's (crop_side * x + left, crop_side * y + top), from
    # its centre.
    left = (1 - crop_side) * width * (crop_x - 0.5) - crop_side * centre_x
    top = (1 - crop_side) * height * (crop_y - 0.5) - crop_side * centre_y
    sign_x, sign_y = jnp.where(flip_x, -1.0, 1.0), jnp.where(flip_y, -1.0, 1.0)
    row_x = [cos * crop_side, -sin * crop_side, cos * left - sin * top]
    row_y = [sin * crop_side, cos * crop_side, sin * left + cos * top]
    matrix_23 = jnp.stack([sign_x * jnp.stack(row_x), sign_y * jnp.stack(row_y)])
    return matrix_23.at[:, 2].add(jnp.array([centre_x, centre_y]))


def about_centre(
    shape: Sequence[int],
    matrix_22: jax.Array,
    shift_x: jax.typing.ArrayLike = 0.0,
    shift_y: jax.typing.ArrayLike = 0.0,
) -> jax.Array:
    """The matrix for `warp_affine` that is linear about the centre, and then shifts.

    Args:
        shape: the image's (H, W, ...).
        matrix_22: output to input, from the centre.
        shift_x, shift_y: what is sampled lies so much further right and down, over the side.

    Returns:
        (2, 3) float32.
    """
    height, width = shape[:2]
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    (m00, m01), (m10, m11) = matrix_22
    offset_x = centre_x - m00 * centre_x - m01 * centre_y + width * shift_x
    offset_y = centre_y - m10 * centre_x - m11 * centre_y + height * shift_y
    return jnp.concatenate([matrix_22, jnp.stack([offset_x, offset_y])[:, None]], 1)


def compose(first_23: jax.Array, second_23: jax.Array) -> jax.Array:
    """The matrix of warping by `first_23` and then warping the result by `second_23`.

    Sampled once, and reflected only at the edge of the image itself.
    """
    # Written out: a product of small matrices would run in TF32 on a GPU.
    rows = [row[0] * second_23[0] + row[1] * second_23[1] for row in first_23]
    return jnp.stack(rows).at[:, 2].add(first_23[:, 2])


def warp_affine(image_HWC: jax.Array, matrix_23: jax.Array) -> jax.Array:
    """Samples the image bilinearly at matrix_23 @ (x, y, 1) for every output pixel (x, y).

    Outside, the image is reflected about its edge, which repeats the edge pixel (cba|abc|cba):
    OpenCV's BORDER_REFLECT, SciPy's mode='reflect'.

    Args:
        image_HWC: (H, W, C), any real dtype; H and W at least 2.
        matrix_23: (2, 3), output pixel to input pixel (`affine_matrix`).

    Returns:
        (H, W, C) float32, on the input's scale.
    """
    height, width, channels = image_HWC.shape
    y_H1 = jnp.arange(height, dtype=jnp.float32)[:, None]
    x_1W = jnp.arange(width, dtype=jnp.float32)[None, :]
    (m00, m01, m02), (m10, m11, m12) = matrix_23
    x_HW = _reflect(m00 * x_1W + m01 * y_H1 + m02, width)
    y_HW = _reflect(m10 * x_1W + m11 * y_H1 + m12, height)
    # The top left one of the four neighbours; on the last row and column the one before it, with
    # a weight of zero, so that all four are always inside.
    left_HW = jnp.minimum(jnp.floor(x_HW), width - 2)
    top_HW = jnp.minimum(jnp.floor(y_HW), height - 2)
    right_weight_HW, bottom_weight_HW = x_HW - left_HW, y_HW - top_HW
    place_HW = top_HW.astype(jnp.int32) * width + left_HW.astype(jnp.int32)

    pixel_CN = image_HWC.reshape(-1, channels).T.astype(jnp.float32)

    def at(index_HW: jax.Array) -> jax.Array:
        return pixel_CN.at[:, index_HW].get(mode="promise_in_bounds")

    def between(first: jax.Array, second: jax.Array, weight_HW: jax.Array) -> jax.Array:
        return first * (1 - weight_HW) + second * weight_HW

    top_CHW = between(at(place_HW), at(place_HW + 1), right_weight_HW)
    bottom_CHW = between(at(place_HW + width), at(place_HW + width + 1), right_weight_HW)
    return between(top_CHW, bottom_CHW, bottom_weight_HW).transpose(1, 2, 0)


def _reflect(position: jax.Array, size: int) -> jax.Array:
    """Folds positions on the pixel axis into [0, size - 1] by reflection about the edges."""
    # Written with floor: XLA's remainder is several times slower on a CPU.
    edge = position + 0.5
    edge = edge - 2 * size * jnp.floor(edge / (2 * size))
    edge = jnp.minimum(edge, 2 * size - edge)
    # Within half a pixel of an edge both neighbours are the edge pixel.
    return jnp.clip(edge - 0.5, 0, size - 1)


def colour_matrix(
    mean_3: jax.Array,
    *,
    brightness: float | jax.Array,
    contrast: float | jax.Array,
    saturation: float | jax.Array,
    hue: float | jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Brightness, then contrast, then saturation, then hue, as one affine map of RGB.

    The first three are torchvision's: scale the image; blend it with its mean grey; blend every
    pixel with its grey (BT.601 luma). Hue turns the chroma plane of YIQ, which keeps the grey and
    is linear, where torchvision shifts HSV's hue; positive is from red towards green in both.
    Nothing is clipped in between, where torchvision clips after each.

    Args:
        mean_3: the image's mean colour (contrast keeps its grey).
        brightness, contrast, saturation: factors; 1 changes nothing, 0 is black, flat, grey.
        hue: shift in turns; 0 changes nothing.

    Returns:
        matrix_33 and offset, on the image's scale: see `adjust_colour`.
    """
    angle = -2 * jnp.pi * jnp.asarray(hue, jnp.float32)  # I to Q runs from red to magenta
    cos, sin = saturation * jnp.cos(angle), saturation * jnp.sin(angle)
    to_yiq, to_rgb = jnp.asarray(_RGB_TO_YIQ, jnp.float32), jnp.asarray(_YIQ_TO_RGB, jnp.float32)
    y, i, q = to_yiq
    # Written out: a product of small matrices would run in TF32 on a GPU.
    turned = jnp.stack([y, cos * i - sin * q, sin * i + cos * q])
    matrix_33 = jnp.sum(to_rgb[:, :, None] * turned[None], 1) * brightness * contrast
    offset = (1 - contrast) * brightness * jnp.sum(mean_3 * y)
    return matrix_33, offset


def adjust_colour(image_HWC: jax.Array, matrix_33: jax.Array, offset: jax.Array) -> jax.Array:
    """matrix_33 @ rgb + offset for every pixel: float32 on the image's scale, not clipped."""
    pixel_3N = image_HWC.reshape(-1, 3).T.astype(jnp.float32)
    pixel_3N = jnp.matmul(matrix_33, pixel_3N, precision=jax.lax.Precision.HIGHEST) + offset
    return pixel_3N.T.reshape(image_HWC.shape)


def normalize(image_BHWC: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """(image - mean) / std per channel, with all three on the [0, 1] scale."""
    dtype = image_BHWC.dtype
    return (image_BHWC - jnp.asarray(mean, dtype)) / jnp.asarray(std, dtype)
