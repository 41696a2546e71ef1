"""Random augmentation of image batches: pure JAX, run inside the train step."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from skinjax import image_ops, mixing, randaugment
from skinjax.errors import InputError

# Largest value of each field: a probability, or where draws would repeat or lose the image.
_LARGEST = {
    "flip_horizontal": 1.0,
    "flip_vertical": 1.0,
    "rotation_degrees": 180.0,
    "shear_degrees": 60.0,
    "shift": 1.0,
    "zoom": 0.9,
    "brightness": 1.0,
    "contrast": 1.0,
    "saturation": 1.0,
    "hue": 0.5,
    "channel_shift": 1.0,
    "noise_std": 1.0,
    "erasing": 1.0,
}

# Folded into an example's key. Folding in i gives the i-th of the keys that splitting does, so
# these come after those, and after the six draws of `random_affine`.
_RANDAUGMENT, _CHANNEL_SHIFT, _ERASING = 3, 4, 5
_MORE_GEOMETRY = 6

_ERASING_TRIES = 10  # as in timm


def check(settings: ml_collections.ConfigDict) -> None:
    """Checks the ranges of `config.augment`.

    Raises:
        InputError: a field is outside its range or not finite.
    """
    for name, largest in _LARGEST.items():
        value = settings[name]
        if not 0.0 <= value <= largest:  # also refuses NaN and infinity
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
    area, aspect = tuple(settings.erasing_area), tuple(settings.erasing_aspect)
    if len(area) != 2 or not 0.0 < area[0] <= area[1] < 1.0:
        raise InputError(
            f"augment.erasing_area is {area}; expected (low, high) with 0 < low <= high < 1, the "
            "erased share of the image's area; set erasing to 0 to turn it off"
        )
    if len(aspect) != 2 or not 0.0 < aspect[0] <= aspect[1] < math.inf:
        raise InputError(
            f"augment.erasing_aspect is {aspect}; expected (low, high) with 0 < low <= high, the "
            "rectangle's height over its width; set erasing to 0 to turn it off"
        )
    randaugment.check(settings)
    mixing.check(settings)


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


def augment(
    image_BHWC: jax.Array, key_B: jax.Array, *, settings: ml_collections.ConfigDict
) -> jax.Array:
    """Every random change of `config.augment` but mixing, drawn anew for every example.

    In this order: RandAugment's colour operations; channel shift; brightness, contrast, saturation
    and hue; flips, rotation, crop, shift, shear, zoom and RandAugment's geometric operations, all
    in one sampling; noise; erasing. What has zero strength in `settings` adds nothing to the
    compiled program. `check` the settings first.

    Args:
        image_BHWC: (B, H, W, 3) uint8 RGB.
        key_B: (B,) keys, one per example (`example_keys`). An example's result depends on its
            own image and key alone.
        settings: `config.augment`.

    Returns:
        (B, H, W, 3) float32 in [0, 1].
    """
    if settings.randaugment_operations == 0:
        one = functools.partial(_augment_one, settings=settings)
        return jax.vmap(one)(image_BHWC, key_B)

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return randaugment.draw(jax.random.fold_in(key, _RANDAUGMENT), settings)

    def warped(image_HWC: jax.Array, key: jax.Array, *drawn: jax.Array) -> jax.Array:
        matrix_23 = randaugment.geometry(image_HWC.shape, *drawn)
        return _augment_one(image_HWC, key, matrix_23, settings=settings)

    drawn_BN = jax.vmap(draw)(key_B)
    image_BHWC = randaugment.colour(image_BHWC, *drawn_BN)
    return jax.vmap(warped)(image_BHWC, key_B, *drawn_BN)


def _augment_one(
    image_HWC: jax.Array,
    key: jax.Array,
    matrix_23: jax.Array | None = None,
    *,
    settings: ml_collections.ConfigDict,
) -> jax.Array:
    """All but RandAugment's colour operations, on one image; `matrix_23` is a warp to add."""
    geometry_key, colour_key, noise_key = jax.random.split(key, 3)
    image = image_HWC
    if settings.channel_shift > 0:
        image = random_channel_shift(jax.random.fold_in(key, _CHANNEL_SHIFT), image, settings)
    # Colour comes before geometry, since its matrix product then stays apart from the sampling:
    # fused into it by XLA, every channel would sample all three again (three times slower on a
    # CPU). Both are linear, so the order only says that contrast keeps the whole image's mean.
    jitter = any(settings[name] for name in ("brightness", "contrast", "saturation", "hue"))
    if jitter:
        image = image_ops.adjust_colour(image, *random_colour(colour_key, image, settings))
    if settings.erasing > 0:  # before the warp, which would be computed again for it
        mean_3 = jnp.clip(jnp.mean(image, (0, 1), dtype=jnp.float32) / 255, 0, 1)
    more_geometry = any(settings[name] for name in ("shear_degrees", "shift", "zoom"))
    cropped = tuple(settings.crop_scale) != (1.0, 1.0)
    if settings.rotation_degrees > 0 or cropped or more_geometry or matrix_23 is not None:
        drawn_23 = random_affine(geometry_key, image.shape, settings)
        if matrix_23 is not None:
            drawn_23 = image_ops.compose(drawn_23, matrix_23)
        image = image_ops.warp_affine(image, drawn_23)
    else:
        image = random_flips(geometry_key, image, settings)
    image = image * np.float32(1 / 255)  # XLA turns a division into this anyway
    if settings.noise_std > 0:
        image = image + settings.noise_std * gaussian(noise_key, image.shape)
    if jitter or settings.noise_std > 0:
        image = jnp.clip(image, 0.0, 1.0)
    if settings.erasing > 0:
        erasing_key = jax.random.fold_in(key, _ERASING)
        erased_HW = random_rectangle(erasing_key, image.shape, settings)
        image = jnp.where(erased_HW[..., None], mean_3, image)
    return image


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
    """Draws flips, rotation, crop, shift, shear and zoom as one matrix for `warp_affine`.

    The angle is uniform in +-rotation_degrees, the crop's area uniform in crop_scale (times the
    image's area) with the image's aspect kept, and its place uniform inside the image. Then, in
    Keras's order (`ImageDataGenerator.apply_affine_transform`), about the centre: a shift, uniform
    in +-shift times each side; a shear along x, whose angle is uniform in +-shear_degrees; and a
    zoom as Keras's `zoom_range`, where each axis has a factor of its own, uniform in 1 +- zoom. A
    factor below 1 makes things larger, and one above 1 smaller. Keras's shear shortens the other
    axis besides; this one keeps every area.
    """
    draw_6 = jax.random.uniform(key, (6,))
    low, high = settings.crop_scale
    matrix_23 = image_ops.affine_matrix(
        shape,
        flip_x=draw_6[0] < settings.flip_horizontal,
        flip_y=draw_6[1] < settings.flip_vertical,
        degrees=settings.rotation_degrees * (2 * draw_6[2] - 1),
        crop_side=jnp.sqrt(low + (high - low) * draw_6[3]),
        crop_x=draw_6[4],
        crop_y=draw_6[5],
    )
    if not any(settings[name] for name in ("shear_degrees", "shift", "zoom")):
        return matrix_23
    more_key = jax.random.fold_in(key, _MORE_GEOMETRY)
    draw_5 = jax.random.uniform(more_key, (5,), minval=-1.0)
    shear = jnp.tan(jnp.deg2rad(settings.shear_degrees * draw_5[0]))
    zoom_x, zoom_y = 1 + settings.zoom * draw_5[1], 1 + settings.zoom * draw_5[2]
    more_22 = jnp.stack([jnp.stack([zoom_x, shear * zoom_y]), jnp.stack([0 * zoom_x, zoom_y])])
    shift_x, shift_y = settings.shift * draw_5[3], settings.shift * draw_5[4]
    more_23 = image_ops.about_centre(shape, more_22, shift_x, shift_y)
    return image_ops.compose(matrix_23, more_23)


def random_colour(
    key: jax.Array, image_HWC: jax.Array, settings: ml_collections.ConfigDict
) -> tuple[jax.Array, jax.Array]:
    """Draws brightness, contrast, saturation and hue as one map for `image_ops.adjust_colour`.

    Factors are uniform in 1 +- strength, the shift of hue in +-hue turns, as in torchvision's
    ColorJitter.
    """
    draw_4 = 2 * jax.random.uniform(key, (4,)) - 1
    mean_3 = jnp.mean(image_HWC, (0, 1), dtype=jnp.float32)
    return image_ops.colour_matrix(
        mean_3,
        brightness=1 + settings.brightness * draw_4[0],
        contrast=1 + settings.contrast * draw_4[1],
        saturation=1 + settings.saturation * draw_4[2],
        hue=settings.hue * draw_4[3],
    )


def random_channel_shift(
    key: jax.Array, image_HWC: jax.Array, settings: ml_collections.ConfigDict
) -> jax.Array:
    """Adds one number, uniform in +-channel_shift, to every channel: float32 on the image's scale.

    Clipped to the smallest and largest value of the image, as Keras's `random_channel_shift`.
    """
    shift = 255 * settings.channel_shift * jax.random.uniform(key, minval=-1.0)
    low, high = jnp.min(image_HWC), jnp.max(image_HWC)
    return jnp.clip(image_HWC + shift, low.astype(jnp.float32), high.astype(jnp.float32))


def random_rectangle(
    key: jax.Array, shape: Sequence[int], settings: ml_collections.ConfigDict
) -> jax.Array:
    """Draws what random erasing erases (Zhong et al. 2017, arXiv:1708.04896): bool (H, W).

    With probability `erasing` a rectangle inside of the image, as timm draws it: its share of the
    area uniform in erasing_area, the logarithm of height over width uniform in that of
    erasing_aspect, the place uniform. Of ten draws the first that is smaller than the image is
    taken, and nothing is erased where none is. `augment` fills it with the mean colour of the
    image, which stands for timm's zero after normalisation.
    """
    height, width = shape[:2]
    erase_key, size_key, place_key = jax.random.split(key, 3)
    draw_2T = jax.random.uniform(size_key, (2, _ERASING_TRIES))
    low, high = settings.erasing_area
    area_T = height * width * (low + (high - low) * draw_2T[0])
    low, high = (math.log(bound) for bound in settings.erasing_aspect)
    aspect_T = jnp.exp(low + (high - low) * draw_2T[1])
    height_T = jnp.round(jnp.sqrt(area_T * aspect_T))
    width_T = jnp.round(jnp.sqrt(area_T / aspect_T))
    fits_T = (height_T < height) & (width_T < width)
    first = jnp.argmax(fits_T)
    place_2 = jax.random.uniform(place_key, (2,))

    def along(size: int, length: jax.Array, place: jax.Array) -> jax.Array:
        start = jnp.floor(place * (size - length + 1))
        return (jnp.arange(size) >= start) & (jnp.arange(size) < start + length)

    rows_H = along(height, height_T[first], place_2[0])
    columns_W = along(width, width_T[first], place_2[1])
    erase = (jax.random.uniform(erase_key) < settings.erasing) & fits_T[first]
    return erase & rows_H[:, None] & columns_W[None, :]


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
