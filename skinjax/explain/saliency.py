"""Saliency: how much each pixel counts for a class, by gradients with respect to the image.

Simonyan et al. 2013 (arXiv:1312.6034, the gradient), Smilkov et al. 2017 (arXiv:1706.03825,
SmoothGrad), Sundararajan et al. 2017 (arXiv:1703.01365, integrated gradients). What is
differentiated is `score.contrast`. An attribution is signed and has a value per colour channel;
`pixel_map` makes of it what is shown.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from skinjax.explain import score
from skinjax.explain.grad_cam import to_unit
from skinjax.trained import TrainedModel

_SHOWN = 99  # percentile of a map from which on all is shown alike


def gradient(
    model: TrainedModel,
    variables: Mapping[str, Any],
    image_BHWC: jax.Array,
    class_B: jax.Array,
    metadata_BM: jax.Array | None = None,
) -> jax.Array:
    """The score's derivative by each value of the image: float32 (B, H, W, 3).

    Per step of the 256 of a channel. The arguments are those of `grad_cam.grad_cam`.
    """

    def total_score(image_BHWC: jax.Array) -> jax.Array:
        # In evaluation images don't meet, so the gradient of the sum has each image's own.
        return jnp.sum(score.of_images(model, variables, image_BHWC, class_B, metadata_BM))

    return jax.grad(total_score)(image_BHWC.astype(jnp.float32))


def smooth_grad(
    model: TrainedModel,
    variables: Mapping[str, Any],
    image_BHWC: jax.Array,
    class_B: jax.Array,
    metadata_BM: jax.Array | None = None,
    *,
    key: jax.Array,
    samples: int = 32,
    noise: float = 0.15,
) -> jax.Array:
    """The mean `gradient` of noisy copies of the image: float32 (B, H, W, 3).

    All images of a batch get the same draws, so that an image's result doesn't depend on the
    others.

    Args:
      model, variables, image_BHWC, class_B, metadata_BM: as in `grad_cam.grad_cam`.
      key: of the noise.
      samples: copies; one at a time is in memory.
      noise: standard deviation, as a share of each image's range of values (0.1 to 0.2 in the
        paper).
    """
    image_BHWC = image_BHWC.astype(jnp.float32)
    axes = (1, 2, 3)
    range_B111 = jnp.max(image_BHWC, axes, keepdims=True) - jnp.min(image_BHWC, axes, keepdims=True)

    def noisy(sample: jax.Array) -> jax.Array:
        draw_HWC = jax.random.normal(jax.random.fold_in(key, sample), image_BHWC.shape[1:])
        return image_BHWC + noise * range_B111 * draw_HWC

    return _mean_gradient(
        lambda index: gradient(model, variables, noisy(index), class_B, metadata_BM),
        samples,
        image_BHWC.shape,
    )


def integrated_gradients(
    model: TrainedModel,
    variables: Mapping[str, Any],
    image_BHWC: jax.Array,
    class_B: jax.Array,
    metadata_BM: jax.Array | None = None,
    *,
    steps: int = 32,
    baseline_BHWC: jax.Array | None = None,
) -> jax.Array:
    """The gradients along the line from a baseline, times the way: float32 (B, H, W, 3).

    They add up to the score of the image less that of the baseline, but for the error of the sum
    over the midpoints of `steps` equal parts (the paper's axiom of completeness).

    Args:
      model, variables, image_BHWC, class_B, metadata_BM: as in `grad_cam.grad_cam`.
      steps: parts of the line; one at a time is in memory.
      baseline_BHWC: an image without what is to be explained, in [0, 255]; None is
        `mean_colour`. Against the usual black one, nothing dark, such as a lesion, can count.
    """
    image_BHWC = image_BHWC.astype(jnp.float32)
    start_BHWC = mean_colour(image_BHWC) if baseline_BHWC is None else baseline_BHWC
    way_BHWC = image_BHWC - start_BHWC

    def along(index: jax.Array) -> jax.Array:
        return start_BHWC + (index + 0.5) / steps * way_BHWC

    return way_BHWC * _mean_gradient(
        lambda index: gradient(model, variables, along(index), class_B, metadata_BM),
        steps,
        image_BHWC.shape,
    )


def mean_colour(image_BHWC: jax.Array) -> jax.Array:
    """Each image's mean colour on all of its pixels: float32, of the image's shape."""
    mean_B11C = jnp.mean(image_BHWC, axis=(1, 2), keepdims=True, dtype=jnp.float32)
    return jnp.broadcast_to(mean_B11C, image_BHWC.shape)


def pixel_map(attribution_BHWC: jax.Array) -> jax.Array:
    """What is shown of an attribution: float32 (B, H, W) in [0, 1].

    The sum over the channels of what counts for or against the class, capped at the map's 99th
    percentile, above which a few pixels would leave the rest dark (Smilkov et al., section 3.1).
    """
    map_BHW = jnp.sum(jnp.abs(attribution_BHWC), axis=3)
    cap_B11 = jnp.percentile(map_BHW, _SHOWN, axis=(1, 2), keepdims=True)
    # Where nearly all is 0, so is the percentile.
    return to_unit(jnp.where(cap_B11 > 0, jnp.minimum(map_BHW, cap_B11), map_BHW))


def _mean_gradient(
    gradient_at: Callable[[jax.Array], jax.Array], count: int, shape: tuple[int, ...]
) -> jax.Array:
    """The mean of `gradient_at(0)` to `gradient_at(count - 1)`, one after the other."""

    def add(total: jax.Array, index: jax.Array) -> tuple[jax.Array, None]:
        return total + gradient_at(index), None

    total, _ = jax.lax.scan(add, jnp.zeros(shape, jnp.float32), jnp.arange(count))
    return total / count
