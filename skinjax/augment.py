"""Augmentation and normalisation of image batches: pure JAX, run inside the train step."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from skinjax.errors import InputError

# BT.601 luma and the chroma axes of NTSC (FCC 1953): rows Y, I, Q.
_RGB_TO_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
)
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)

# Largest value of each field: a probability, or where draws would repeat or lose the image.
_LARGEST = {
    "flip_horizontal": 1.0,
    "flip_vertical": 1.0,
    "rotation_degrees": 180.0,
    "brightness": 1.0,
    "contrast": 1.0,
    "saturation": 1.0,
    "hue": 0.5,
    "noise_std": 1.0,
}


def check(settings: ml_collections.ConfigDict) -> None:
    """Checks the ranges of `config.augment`.

    Raises:
        InputError: a field is outside its range.
    """
    for name, largest in _LARGEST.items():
        value = settings[name]
        if not 0.0 <= value <= largest:  # also refuses NaN
            raise InputError(
                f"augment.{name} is {value}; expected a number from 0 to {largest:g}; "
                f"set --config.augment.{name}=0 to turn it off"
            )
    scale = tuple(settings.crop_scale)
    if len(scale) != 2 or not 0.0 < scale[0] <= scale[1] <= 1.0:
        raise InputError(
            f"augment.crop_scale is {scale}; expected (low, high) with 0 < low <= high <= 1, the "
            "share of the image's area that is kept; set it to (1.0, 1.0) to turn cropping off"
        )


def example_keys(
    key: jax.Array, step: jax.typing.ArrayLike, first_index: jax.typing.ArrayLike, batch_size: int
) -> jax.Array:
    """Keys for consecutive examples of the global batch, whichever device holds them.

    Args:
        key: the run's key.
        step: the step's number.
        first_index: place in the global batch of this slice's first example.
        batch_size: number of examples in this slice.

    Returns:
        key_B: (batch_size,) keys that depend on (key, step, place in the global batch) alone.
    """
    step_key = jax.random.fold_in(key, step)
    place_B = first_index + jnp.arange(batch_size)
    return jax.vmap(lambda place: jax.random.fold_in(step_key, place))(place_B)


def normalize(image_BHWC: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """(image - mean) / std per channel, with all three on the [0, 1] scale."""
    dtype = image_BHWC.dtype
    return (image_BHWC - jnp.asarray(mean, dtype)) / jnp.asarray(std, dtype)


def augment(
    image_BHWC: jax.Array, key_B: jax.Array, *, settings: ml_collections.ConfigDict
) -> jax.Array:
    """Random colour jitter, flips, rotation, crop and noise, drawn anew for every example.

    What has zero strength in `settings` adds nothing to the compiled program. `check` the settings
    first.

    Args:
        image_BHWC: (B, H, W, 3) uint8 RGB.
        key_B: (B,) keys, one per example (`example_keys`). An example's result depends on its
            own image and key alone.
        settings: `config.augment`.

    Returns:
        (B, H, W, 3) float32 in [0, 1].
    """
    # Colour comes before geometry, since its matrix product then stays apart from the sampling:
    # fused into it by XLA, every channel would sample all three again (three times slower on a
    # CPU). Both are linear, so the order only says that contrast keeps the whole image's mean.
    jitter = any(settings[name] for name in ("brightness", "contrast", "saturation", "hue"))
    warp = settings.rotation_degrees > 0 or tuple(settings.crop_scale) != (1.0, 1.0)

    def one(image_HWC: jax.Array, key: jax.Array) -> jax.Array:
        geometry_key, colour_key, noise_key = jax.random.split(key, 3)
        image = image_HWC
        if jitter:
            image = adjust_colour(image, *random_colour(colour_key, image, settings))
        if warp:
            image = warp_affine(image, random_affine(geometry_key, image.shape, settings))
        else:
            image = random_flips(geometry_key, image, settings)
        image = image * np.float32(1 / 255)  # XLA turns a division into this anyway
        if settings.noise_std > 0:
            image = image + settings.noise_std * gaussian(noise_key, image.shape)
        return jnp.clip(image, 0.0, 1.0) if jitter or settings.noise_std > 0 else image

    return jax.vmap(one)(image_BHWC, key_B)


# Geometry


def random_flips(
    key: jax.Array, image_HWC: jax.Array, settings: ml_collections.ConfigDict
) -> jax.Array:
    """Mirrors left-right and top-bottom, each with its probability. Exact: no pixel changes."""
    draw_2 = jax.random.uniform(key, (2,))
    if settings.flip_horizontal > 0:
        flip = draw_2[0] < settings.flip_horizontal
        image_HWC = jnp.where(flip, image_HWC[:, ::-1], image_HWC)
    if settings.flip_vertical > 0:
        flip = draw_2[1] < settings.flip_vertical
        image_HWC = jnp.where(flip, image_HWC[::-1], image_HWC)
    return image_HWC


def random_affine(
    key: jax.Array, shape: Sequence[int], settings: ml_collections.ConfigDict
) -> jax.Array:
    """Draws flips, rotation and crop as one matrix for `warp_affine`.

    The angle is uniform in +-rotation_degrees, the crop's area uniform in crop_scale (times the
    image's area) with the image's aspect kept, and its place uniform inside the image.
    """
    draw_6 = jax.random.uniform(key, (6,))
    low, high = settings.crop_scale
    return affine_matrix(
        shape,
        flip_x=draw_6[0] < settings.flip_horizontal,
        flip_y=draw_6[1] < settings.flip_vertical,
        degrees=settings.rotation_degrees * (2 * draw_6[2] - 1),
        crop_side=jnp.sqrt(low + (high - low) * draw_6[3]),
        crop_x=draw_6[4],
        crop_y=draw_6[5],
    )


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


# Colour


def random_colour(
    key: jax.Array, image_HWC: jax.Array, settings: ml_collections.ConfigDict
) -> tuple[jax.Array, jax.Array]:
    """Draws brightness, contrast, saturation and hue as one map for `adjust_colour`.

    Factors are uniform in 1 +- strength, the shift of hue in +-hue turns, as in torchvision's
    ColorJitter.
    """
    draw_4 = 2 * jax.random.uniform(key, (4,)) - 1
    mean_3 = jnp.mean(image_HWC, (0, 1), dtype=jnp.float32)
    return colour_matrix(
        mean_3,
        brightness=1 + settings.brightness * draw_4[0],
        contrast=1 + settings.contrast * draw_4[1],
        saturation=1 + settings.saturation * draw_4[2],
        hue=settings.hue * draw_4[3],
    )


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


# Noise


def gaussian(key: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Standard normal float32 noise, some 30 times as fast on a CPU as `jax.random.normal`.

    A SplitMix sequence (Steele, Lea and Flood, OOPSLA 2014; start and increment from the key) with
    MurmurHash3's 32-bit finaliser. The sum of a word's four bytes is nearly normal (Irwin-Hall);
    an odd polynomial, fitted to the normal quantiles by least squares, takes its distribution
    function to within 0.0008 of the normal one, with variance 1.0000 and |x| < 4.5.
    """
    start, increment = jax.random.bits(key, (2,), jnp.uint32)
    count = int(np.prod(shape))
    word = start + (increment | 1) * jnp.arange(count, dtype=jnp.uint32)
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    word = word ^ (word >> 16)
    total = (word & 255) + ((word >> 8) & 255) + ((word >> 16) & 255) + (word >> 24)
    scale = np.float32(1 / np.sqrt(4 * (256**2 - 1) / 12))
    value = (total.astype(jnp.float32) - 510) * scale
    square = value * value
    return (value * (0.967752 + square * (0.00400187 + square * 0.0019047))).reshape(shape)
