"""Mixup and CutMix of pairs of images, with their labels: pure JAX, run inside the train step."""

import functools
import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from skinjax.errors import InputError

_MIXING = 2**31 - 1  # folded into an example's key, which augmentation splits


def check(settings: ConfigDict) -> None:
    """Checks the fields of `config.augment` about mixing.

    Raises:
        InputError: a field is outside its range or not finite.
    """
    for name in ("mixup_alpha", "cutmix_alpha"):
        if not 0.0 <= settings[name] < math.inf:  # also refuses NaN
            raise InputError(
                f"augment.{name} is {settings[name]}; expected a finite number, 0 or larger: 0.2 "
                "mixes little, 1 evenly, and 0 turns it off"
            )
    for name in ("mix_probability", "cutmix_share"):
        if not 0.0 <= settings[name] <= 1.0:
            raise InputError(
                f"augment.{name} is {settings[name]}; expected a probability, from 0 to 1; set "
                "mixup_alpha and cutmix_alpha to 0 to turn mixing off"
            )


def is_on(settings: ConfigDict) -> bool:
    """Whether `config.augment` has images mixed at all."""
    return settings.mix_probability > 0 and (settings.mixup_alpha > 0 or settings.cutmix_alpha > 0)


def mix(
    image_BHWC: jax.Array,
    label_BC: jax.Array,
    metadata_BM: jax.Array | None,
    key_B: jax.Array,
    *,
    settings: ConfigDict,
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Mixes each pair (2i, 2i + 1) of images with each other, and their labels alike.

    Mixup (Zhang et al. 2018, arXiv:1710.09412) is lambda * own + (1 - lambda) * other. CutMix
    (Yun et al. 2019, arXiv:1905.04899) puts a box of the other image into the own one, at the
    same place in both; lambda is the share of the area that is the image's own, after the box
    was cut off at the edges. Both members of a pair have one lambda, drawn from Beta(alpha, alpha)
    and turned to be 0.5 or more, so that an image's own label has the larger share. Mixup's pair as
    a whole is distributed as with the lambda drawn; CutMix's boxes are never of more than half of
    the image, where the paper's may be.

    `check` the settings first; where `is_on` is False everything is returned as it came.

    Args:
        image_BHWC: float32, B even.
        label_BC: float32, probabilities.
        metadata_BM: float32, mixed linearly with lambda, or None.
        key_B: the keys of the examples (`augment.example_keys`). A pair's result depends on its
            images and its first key alone.
        settings: `config.augment`.

    Returns:
        The images, labels and metadata, of the same shapes.

    Raises:
        InputError: B is odd.
    """
    if not is_on(settings):
        return image_BHWC, label_BC, metadata_BM
    batch_size, height, width = image_BHWC.shape[:3]
    if batch_size % 2:
        raise InputError(
            f"a batch of {batch_size} images cannot be mixed in pairs; expected an even number on "
            "each device; change batch_size or turn mixup and cutmix off"
        )
    own_PHW, share_P = jax.vmap(lambda key: draw(key, height, width, settings))(key_B[::2])
    image_BHWC = _mix_pairs(image_BHWC, own_PHW[..., None])
    label_BC = _mix_pairs(label_BC, share_P[:, None])
    if metadata_BM is not None:
        metadata_BM = _mix_pairs(metadata_BM, share_P[:, None])
    return image_BHWC, label_BC, metadata_BM


def draw(
    key: jax.Array, height: int, width: int, settings: ConfigDict
) -> tuple[jax.Array, jax.Array]:
    """Draws how a pair is mixed.

    Returns:
        own_HW: float32, each pixel's share of an image's own; (1, 1) where no box is ever cut.
        share: float32 (), their mean, at least 0.5.
    """
    keys = jax.random.split(jax.random.fold_in(key, _MIXING), 4)
    cutmix_share = settings.cutmix_share
    if not (settings.mixup_alpha > 0 and settings.cutmix_alpha > 0):
        cutmix_share = float(settings.cutmix_alpha > 0)
    cut = jax.random.uniform(keys[0]) < cutmix_share
    alpha = jnp.where(cut, settings.cutmix_alpha, settings.mixup_alpha)
    share = jax.random.beta(keys[1], alpha, alpha)
    share = jnp.maximum(share, 1 - share)
    share = jnp.where(jax.random.uniform(keys[2]) < settings.mix_probability, share, 1.0)
    if cutmix_share == 0:
        return share[None, None], share
    in_box_HW = _box(keys[3], height, width, share)
    own_HW = jnp.where(cut, jnp.where(in_box_HW, 0.0, 1.0), share)
    outside = jnp.sum(~in_box_HW) / (height * width)
    return own_HW, jnp.where(cut, outside, share)


def _box(key: jax.Array, height: int, width: int, share: jax.Array) -> jax.Array:
    """A box with 1 - share of the area, the image's aspect and a uniform centre: bool (H, W).

    Its sides are cut to whole pixels, and what lies outside of the image is cut off.
    """
    side = jnp.sqrt(1 - share)
    centre_2 = jax.random.uniform(key, (2,))

    def along(size: int, centre: jax.Array) -> jax.Array:
        length = jnp.floor(size * side)
        first = jnp.floor(size * centre) - jnp.floor(length / 2)
        place = jnp.arange(size)
        return (place >= first) & (place < first + length)

    return along(height, centre_2[0])[:, None] & along(width, centre_2[1])[None, :]


def _mix_pairs(own_B: jax.Array, share_P: jax.Array) -> jax.Array:
    """share * own + (1 - share) * other, with the share of each pair for both of its members."""

    def mixed(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        own_2, share = pair
        return share * own_2 + (1 - share) * own_2[::-1]

    # On a CPU a loop, since a loop takes whole images. Without one XLA fuses an image's
    # augmentation into both of the images that it goes into, ten times as slow.
    mixed_P2 = jax.lax.platform_dependent(
        (own_B.reshape(-1, 2, *own_B.shape[1:]), share_P),
        cpu=functools.partial(jax.lax.map, mixed),
        default=jax.vmap(mixed),
    )
    return mixed_P2.reshape(own_B.shape)
