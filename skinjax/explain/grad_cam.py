"""Grad-CAM: where in the image a network saw what speaks for a class.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017, equations 1 and 2. What is differentiated is `score.contrast`.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from skinjax.config import nearest
from skinjax.errors import InputError
from skinjax.explain import score
from skinjax.models import Classifier
from skinjax.trained import TrainedModel

MIN_CELLS = 4  # rows and columns: a coarser map says little more than left or right

_NOISE_IMAGES = 4


def find_stage(model: TrainedModel, stage: str = "") -> str:
    """The stage whose feature map is looked at: `stage`, or without one the default.

    That is the deepest stage whose map has `MIN_CELLS` rows and columns or more; where none has,
    the one with the most cells, and of several with as many the deepest. Of tokens, which stay as
    many from stage to stage, it is the last whose tokens all reach the logits.

    Raises:
      InputError: there is no such stage, or its output doesn't show where something is.
    """
    known = model.module.backbone.map_stages
    if stage:
        if stage not in known:
            raise InputError(
                f"--stage={stage} is none of {', '.join(known)}, whose outputs are maps"
                f"{nearest(stage, known)}"
            )
        return stage
    finest, most = known[-1], 0
    for name in reversed(known):
        shape = _feature_shape(model, name)
        if len(shape) == 3 or min(shape[1:3]) >= MIN_CELLS:
            return name
        if min(shape[1:3]) > most:
            finest, most = name, min(shape[1:3])
    return finest


def grad_cam(
    model: TrainedModel,
    variables: Mapping[str, Any],
    image_BHWC: jax.Array,
    class_B: jax.Array,
    metadata_BM: jax.Array | None = None,
    *,
    stage: str = "",
    shift: tuple[float, float] = (0.0, 0.0),
) -> jax.Array:
    """A map for each image, resized to it bilinearly: float32 (B, H, W) in [0, 1].

    The largest value of a map is 1; where nothing speaks for the class it is 0 everywhere.

    Args:
      model: that is explained.
      variables: `params` and `batch_stats`; the model's own, or others of the same shapes.
      image_BHWC: uint8, or floats in [0, 255].
      class_B: the class whose map is wanted, integers in [0, C).
      metadata_BM: encoded patient metadata, for a model that takes them.
      stage: whose feature map is looked at; "" is `Backbone.map_stage`. See `find_stage`.
      shift: rows and columns in pixels that the map is moved by; see `measure_shift`.
    """
    map_Bhw = coarse(model, variables, image_BHWC, class_B, metadata_BM, stage=stage)
    return to_unit(_resize(map_Bhw, image_BHWC.shape[1:3], shift))


def coarse(*arguments: Any, stage: str = "") -> jax.Array:
    """The map at the size of the feature map, before any scaling: float32 (B, h, w), 0 or more."""
    return jax.nn.relu(signed(*arguments, stage=stage))


def signed(
    model: TrainedModel,
    variables: Mapping[str, Any],
    image_BHWC: jax.Array,
    class_B: jax.Array,
    metadata_BM: jax.Array | None = None,
    *,
    stage: str = "",
) -> jax.Array:
    """`coarse` before its ReLU: below 0 is what speaks against the class. Float32 (B, h, w)."""
    feature_map = _feature_map(model, variables, image_BHWC, stage)

    def total_score(feature_map: jax.Array) -> jax.Array:
        def logits(module: Classifier) -> jax.Array:
            return module.logits(module.features_of_map(feature_map, stage), metadata_BM)

        logits_BC = nn.apply(logits, model.module)(variables)
        return jnp.sum(score.contrast(logits_BC, class_B))

    # In evaluation images don't meet, so the gradient of the sum has each image's own.
    gradient_BhwC = _as_grid(jax.grad(total_score)(feature_map))
    weight_BC = jnp.mean(gradient_BhwC, axis=(1, 2))
    return jnp.einsum("bhwc,bc->bhw", _as_grid(feature_map), weight_BC)


def measure_shift(model: TrainedModel, stage: str = "", *, key: jax.Array) -> tuple[float, float]:
    """How far the feature map lies off the image's grid: rows and columns, in pixels.

    With zeros on both sides of an image of even size a convolution of stride 2 looks at pixels
    0, 2, 4 and so on, and not at the middles between two: five of them shift the last map of a
    ResNet by 15.5 pixels to the top left, half a cell. So the middle cell's receptive field is
    measured: the centre of its squared gradients on images of noise.

    Tokens are cut out of the image without overlap, so theirs is 0.
    """
    size = model.image_size
    pixel_key, channel_key = jax.random.split(key)
    noise_BHWC = jax.random.uniform(pixel_key, (_NOISE_IMAGES, size, size, 3), maxval=255.0)

    def feature_map(image_BHWC: jax.Array) -> jax.Array:
        return _feature_map(model, model.variables, image_BHWC, stage)

    shape = jax.eval_shape(feature_map, noise_BHWC).shape
    if len(shape) == 3:
        return 0.0, 0.0
    # For an even number of cells there are two middle ones, of which one may look over the border.
    middles = sorted({((shape[1] - i) // 2, (shape[2] - i) // 2) for i in (0, 1)})

    def centres(image_BHWC: jax.Array) -> jax.Array:
        seen, pull_back = jax.vjp(feature_map, image_BHWC)
        sign = jax.random.rademacher(channel_key, (shape[0], shape[3]), seen.dtype)
        found = []
        for row, column in middles:
            (gradient_BHWC,) = pull_back(jnp.zeros_like(seen).at[:, row, column].set(sign))
            weight_HW = jnp.sum(gradient_BHWC.astype(jnp.float32) ** 2, axis=(0, 3))
            total = jnp.maximum(jnp.sum(weight_HW), jnp.finfo(jnp.float32).tiny)
            place = jnp.arange(size) / total
            found.append(jnp.stack([weight_HW.sum(1) @ place, weight_HW.sum(0) @ place]))
        return jnp.stack(found)

    centre_22 = np.asarray(jax.jit(centres)(noise_BHWC))
    cell = np.array([size / shape[1], size / shape[2]])
    shift_22 = centre_22 - ((np.array(middles) + 0.5) * cell - 0.5)
    best = np.abs(centre_22 - (size - 1) / 2).argmin(axis=0)
    rows, columns = np.clip(shift_22[best, (0, 1)], -cell / 2, cell / 2).tolist()
    return rows, columns


def to_unit(map_BHW: jax.Array) -> jax.Array:
    """Divides each map, of values of 0 or more, by its largest; one of zeros stays."""
    largest_B11 = jnp.max(map_BHW, axis=(1, 2), keepdims=True)
    return map_BHW / jnp.where(largest_B11 > 0, largest_B11, 1)


def _feature_map(
    model: TrainedModel, variables: Mapping[str, Any], image_BHWC: jax.Array, stage: str
) -> jax.Array:
    def output(module: Classifier) -> jax.Array:
        return module.feature_map(model.normalize(image_BHWC), stage)

    feature_map: jax.Array = nn.apply(output, model.module)(variables)
    return feature_map


def _feature_shape(model: TrainedModel, stage: str) -> tuple[int, ...]:
    """Of a stage's output for one image."""
    size = model.image_size
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.uint8)

    def output(image_BHWC: jax.Array) -> jax.Array:
        return _feature_map(model, model.variables, image_BHWC, stage)

    return jax.eval_shape(output, image).shape


def _resize(map_Bhw: jax.Array, size: tuple[int, ...], shift: tuple[float, float]) -> jax.Array:
    """Bilinear, with the outermost values beyond the outermost cells' centres."""
    scale = jnp.array([size[0] / map_Bhw.shape[1], size[1] / map_Bhw.shape[2]], jnp.float32)
    padded = jnp.pad(map_Bhw, ((0, 0), (1, 1), (1, 1)), mode="edge")
    shape = (len(map_Bhw), *size)
    moved = jnp.asarray(shift, jnp.float32) - scale
    return jax.image.scale_and_translate(
        padded, shape, (1, 2), scale, moved, "linear", antialias=False
    )


def _as_grid(feature_map: jax.Array) -> jax.Array:
    """Float32 (B, h, w, C) of a map, or of tokens (B, 1 + N, C) whose first is the class token."""
    feature_map = feature_map.astype(jnp.float32)
    if feature_map.ndim == 4:
        return feature_map
    batch, tokens, channels = feature_map.shape
    side = math.isqrt(tokens - 1)
    return feature_map[:, 1:].reshape(batch, side, side, channels)
