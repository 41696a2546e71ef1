"""Random augmentation of image batches: pure JAX, run inside the train step."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from skinjax import image_ops
from skinjax.errors import InputError

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
            image = image_ops.adjust_colour(image, *random_colour(colour_key, image, settings))
        if warp:
            image = image_ops.warp_affine(image, random_affine(geometry_key, image.shape, settings))
        else:
            image = random_flips(geometry_key, image, settings)
        image = image * np.float32(1 / 255)  # XLA turns a division into this anyway
        if settings.noise_std > 0:
            image = image + settings.noise_std * gaussian(noise_key, image.shape)
        return jnp.clip(image, 0.0, 1.0) if jitter or settings.noise_std > 0 else image

    return jax.vmap(one)(image_BHWC, key_B)


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
    """Draws flips, rotation and crop as one matrix for `image_ops.warp_affine`.

    The angle is uniform in +-rotation_degrees, the crop's area uniform in crop_scale (times the
    image's area) with the image's aspect kept, and its place uniform inside the image.
    """
    draw_6 = jax.random.uniform(key, (6,))
    low, high = settings.crop_scale
    return image_ops.affine_matrix(
        shape,
        flip_x=draw_6[0] < settings.flip_horizontal,
        flip_y=draw_6[1] < settings.flip_vertical,
        degrees=settings.rotation_degrees * (2 * draw_6[2] - 1),
        crop_side=jnp.sqrt(low + (high - low) * draw_6[3]),
        crop_x=draw_6[4],
        crop_y=draw_6[5],
    )


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
