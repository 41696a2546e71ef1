"""RandAugment (Cubuk et al. 2019, arXiv:1909.13719) with the operations and ranges of timm.

The operations and what a magnitude means are those of timm's `rand-m9-mstd0.5-inc1`
(timm/data/auto_augment.py), where a larger magnitude is always a stronger change. Different from
timm: every drawn operation is carried out, as in the paper, where timm leaves out half of them;
images are reflected at their edge, where timm fills with grey; shears keep the centre in place,
where timm's keep the top left corner; posterising leaves one bit at least, where timm's magnitude
10 makes the image black; and all colour operations come before all geometric ones, which are
joined into one matrix and sampled once.
"""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from skinjax import image_ops
from skinjax.errors import InputError

# By kind: lookup tables, of a channel's values; other operations on colours; geometric ones.
OPERATIONS = (
    *("auto_contrast", "equalize", "invert", "posterize"),
    *("solarize", "solarize_add", "contrast", "brightness"),
    *("color", "sharpness"),
    *("rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
)
_COLOR = OPERATIONS.index("color")
_ROTATE = OPERATIONS.index("rotate")

_MOST_OPERATIONS = 10


def check(settings: ConfigDict) -> None:
    """Checks the fields of `config.augment` that begin with `randaugment_`.

    Raises:
        InputError: a field is outside its range or not finite.
    """
    count = settings.randaugment_operations
    if type(count) is not int or not 0 <= count <= _MOST_OPERATIONS:
        raise InputError(
            f"augment.randaugment_operations is {count}; expected a whole number from 0 to "
            f"{_MOST_OPERATIONS}; 2 is usual, and 0 turns RandAugment off"
        )
    for name, usual in (("randaugment_magnitude", 9), ("randaugment_magnitude_std", 0.5)):
        value = settings[name]
        if not 0.0 <= value <= 10.0:  # also refuses NaN and infinity
            raise InputError(
                f"augment.{name} is {value}; expected a number from 0 to 10; {usual:g} is usual, "
                "and --config.augment.randaugment_operations=0 turns RandAugment off"
            )


def draw(key: jax.Array, settings: ConfigDict) -> tuple[jax.Array, jax.Array]:
    """Draws an image's operations, with replacement, and their levels.

    Returns:
        operation_N: int32, places in `OPERATIONS`.
        level_N: float32, the magnitude, normal and clipped to [0, 10], with a random sign.
    """
    operation_key, level_key, sign_key = jax.random.split(key, 3)
    shape = (settings.randaugment_operations,)
    operation_N = jax.random.randint(operation_key, shape, 0, len(OPERATIONS))
    noise_N = settings.randaugment_magnitude_std * jax.random.normal(level_key, shape)
    level_N = jnp.clip(settings.randaugment_magnitude + noise_N, 0, 10)
    return operation_N, level_N * jax.random.rademacher(sign_key, shape, jnp.float32)


def geometry(shape: tuple[int, ...], operation_N: jax.Array, level_N: jax.Array) -> jax.Array:
    """The geometric ones of an image's operations as one matrix for `image_ops.warp_affine`.

    At level 10 they are 30 degrees, a shear of 0.3 and a shift of 0.45 of the side.
    """

    def one(operation: jax.Array, level: jax.Array) -> jax.Array:
        rotate, shear_x, shear_y, shift_x, shift_y = (
            jnp.where(operation == _ROTATE + place, level / 10, 0.0) for place in range(5)
        )
        angle = jnp.deg2rad(30 * rotate)
        # Only one of them differs from 0, so their sum is that one.
        matrix_22 = jnp.stack(
            [
                jnp.stack([jnp.cos(angle), 0.3 * shear_x - jnp.sin(angle)]),
                jnp.stack([0.3 * shear_y + jnp.sin(angle), jnp.cos(angle)]),
            ]
        )
        return image_ops.about_centre(shape, matrix_22, 0.45 * shift_x, 0.45 * shift_y)

    matrix_N23 = jax.vmap(one)(operation_N, level_N)
    return functools.reduce(image_ops.compose, matrix_N23)


def colour(image_BHWC: jax.Array, operation_BN: jax.Array, level_BN: jax.Array) -> jax.Array:
    """Carries out the colour operations of each image, in their order: uint8 to uint8.

    The geometric ones among them change nothing here.
    """

    def one(example: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        image_HWC, operation_N, level_N = example
        step = lambda image, drawn: (colour_operation(image, *drawn), None)  # noqa: E731
        return jax.lax.scan(step, image_HWC, (operation_N, level_N))[0]

    # One after the other, each image pays only for the operations that it drew: on a CPU this is
    # fastest. Side by side every image goes through all kinds, and the drawn one is kept.
    one_by_one, side_by_side = functools.partial(jax.lax.map, one), jax.vmap(one)
    return jax.lax.platform_dependent(
        (image_BHWC, operation_BN, level_BN),
        cpu=one_by_one,
        default=side_by_side,
    )


def colour_operation(image_HWC: jax.Array, operation: jax.Array, level: jax.Array) -> jax.Array:
    """One operation of `OPERATIONS` on the colours of a uint8 image, as Pillow carries it out.

    A geometric one returns the image as it is. The blends (contrast, brightness, color, sharpness)
    have the factor 1 + 0.09 * level; the others take the level without its sign.
    """
    factor = 1 + 0.09 * level

    def by_table(image_HWC: jax.Array) -> jax.Array:
        table_C256 = _table(image_HWC, operation, jnp.abs(level), factor)
        # One flat table, since indexing it takes half the time of indexing by channel and value.
        place_HWC = image_HWC.astype(jnp.int32) + 256 * jnp.arange(3)
        return table_C256.astype(jnp.uint8).ravel().at[place_HWC].get(mode="promise_in_bounds")

    def color(image_HWC: jax.Array) -> jax.Array:
        return _blend(_grey(image_HWC)[..., None], image_HWC, factor)

    def sharpness(image_HWC: jax.Array) -> jax.Array:
        return _blend(_smooth(image_HWC), image_HWC, factor)

    kind = jnp.clip(operation - _COLOR + 1, 0, 3)
    return jax.lax.switch(kind, (by_table, color, sharpness, lambda image: image), image_HWC)


def _table(
    image_HWC: jax.Array, operation: jax.Array, level: jax.Array, factor: jax.Array
) -> jax.Array:
    """The channels' lookup tables, (3, 256) int32, of one of the first eight operations."""
    # With the operation in it, so that under shard_map all tables vary over the devices alike.
    value_256 = jnp.arange(256) + 0 * operation

    def auto_contrast() -> jax.Array:
        low_3, high_3 = jnp.min(image_HWC, (0, 1)), jnp.max(image_HWC, (0, 1))
        low_31, high_31 = low_3[:, None].astype(jnp.int32), high_3[:, None].astype(jnp.int32)
        stretched = (value_256 - low_31) * 255 // jnp.maximum(high_31 - low_31, 1)
        return jnp.where(high_31 > low_31, jnp.clip(stretched, 0, 255), value_256)

    def equalize() -> jax.Array:
        place_HWC = image_HWC.astype(jnp.int32) + 256 * jnp.arange(3)
        count_C256 = jnp.zeros(768, jnp.int32).at[place_HWC].add(1, mode="promise_in_bounds")
        count_C256 = count_C256.reshape(3, 256)
        below_C256 = jnp.cumsum(count_C256, 1) - count_C256
        # Pixels below the largest value that there is, shared evenly among 255 steps.
        largest_C1 = jnp.max(jnp.where(count_C256 > 0, value_256, 0), 1, keepdims=True)
        step_C1 = jnp.take_along_axis(below_C256, largest_C1, 1) // 255
        level_C256 = (step_C1 // 2 + below_C256) // jnp.maximum(step_C1, 1)
        return jnp.where(step_C1 > 0, jnp.minimum(level_C256, 255), value_256)

    def invert() -> jax.Array:
        return 255 - value_256

    def posterize() -> jax.Array:
        lost_bits = 8 - jnp.maximum(1, 4 - (0.4 * level).astype(jnp.int32))
        return (value_256 >> lost_bits) << lost_bits

    def solarize() -> jax.Array:
        threshold = 256 - (25.6 * level).astype(jnp.int32)
        return jnp.where(value_256 < threshold, value_256, 255 - value_256)

    def solarize_add() -> jax.Array:
        more_256 = jnp.minimum(255, value_256 + (11 * level).astype(jnp.int32))
        return jnp.where(value_256 < 128, more_256, value_256)

    def contrast() -> jax.Array:
        mean = jnp.floor(jnp.mean(_grey(image_HWC).astype(jnp.float32)) + 0.5)
        return _blend(mean, value_256, factor)

    def brightness() -> jax.Array:
        return _blend(jnp.float32(0), value_256, factor)

    tables = auto_contrast, equalize, invert, posterize, solarize, solarize_add
    branches = [
        lambda table=table: jnp.broadcast_to(table(), (3, 256)).astype(jnp.int32)
        for table in (*tables, contrast, brightness)
    ]
    return jax.lax.switch(jnp.clip(operation, 0, len(branches) - 1), branches)


def _grey(image_HWC: jax.Array) -> jax.Array:
    """BT.601 luma as Pillow rounds it: int32 (H, W), 0 to 255."""
    red_HW, green_HW, blue_HW = jnp.moveaxis(image_HWC.astype(jnp.int32), -1, 0)
    return (19595 * red_HW + 38470 * green_HW + 7471 * blue_HW + 32768) >> 16


def _smooth(image_HWC: jax.Array) -> jax.Array:
    """The mean over 3 x 3 pixels, the middle one five times, as Pillow's SMOOTH: int32.

    The image's edge stays as it is.
    """
    pixel_HWC = image_HWC.astype(jnp.int32)
    rows_HWC = pixel_HWC[:-2] + pixel_HWC[1:-1] + pixel_HWC[2:]
    total_HWC = rows_HWC[:, :-2] + rows_HWC[:, 1:-1] + rows_HWC[:, 2:]
    middle_HWC = (2 * (total_HWC + 4 * pixel_HWC[1:-1, 1:-1]) + 13) // 26
    return pixel_HWC.at[1:-1, 1:-1].set(middle_HWC)


def _blend(other: jax.Array, image: jax.Array, factor: jax.Array) -> jax.Array:
    """other + factor * (image - other), clipped and cut to whole numbers as in Pillow: uint8."""
    other = other.astype(jnp.float32)
    mixed = other + factor * (image.astype(jnp.float32) - other)
    return jnp.clip(mixed, 0, 255).astype(jnp.uint8)
