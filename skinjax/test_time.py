"""Test-time augmentation: predicting several fixed views of an image, and taking the mean."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from skinjax import image_ops
from skinjax.errors import InputError

KINDS = ("none", "flips", "crops")
_CROPS_PER_SIDE = 3
CROP_SIDE = 0.85  # of a crop, over the image's: 72 % of its area


def check(kind: str) -> None:
    """Checks that there are such views; raises InputError if not."""
    if kind not in KINDS:
        raise InputError(f"--tta={kind} is none of {', '.join(KINDS)}")


def num_views(kind: str) -> int:
    """How many views of each image are predicted."""
    return {"none": 1, "flips": 8, "crops": _CROPS_PER_SIDE**2}[kind]


def view(image_BHWC: jax.Array, kind: str, index: jax.typing.ArrayLike) -> jax.Array:
    """One view of each image.

    "flips" are the eight ways to lay a square: 0 is the image itself, and the index's bits say,
    from the lowest, left-right, top-bottom, and mirrored at the diagonal; no pixel is computed
    anew. "crops" are the crops of `CROP_SIDE` in a 3 x 3 grid from edge to edge, row by row, each
    enlarged to the image's size as training's random crops are: what Gessert et al. call ordered
    multi-crop evaluation ("Skin Lesion Diagnosis using Ensembles, Unscaled Multi-Crop Evaluation
    and Loss Weighting", 2018, and "Skin lesion classification using ensembles of multi-resolution
    EfficientNets with meta data", MethodsX 2020), with fewer crops that see more of the image.

    Args:
      image_BHWC: square images, on any scale.
      kind: one of `KINDS`.
      index: from 0, below `num_views(kind)`; may be traced.

    Returns:
      (B, H, W, C), of the same dtype for "none" and "flips", float32 for "crops".
    """
    index = jnp.asarray(index)
    if kind == "none":
        return image_BHWC
    if kind == "flips":
        changes = (lambda x: x[:, :, ::-1], lambda x: x[:, ::-1], lambda x: x.swapaxes(1, 2))
        for bit, change in enumerate(changes):
            image_BHWC = jnp.where(index >> bit & 1, change(image_BHWC), image_BHWC)
        return image_BHWC
    last = _CROPS_PER_SIDE - 1
    matrix_23 = image_ops.affine_matrix(
        image_BHWC.shape[1:],
        flip_x=False,
        flip_y=False,
        degrees=0.0,
        crop_side=CROP_SIDE,
        crop_x=index % _CROPS_PER_SIDE / last,
        crop_y=index // _CROPS_PER_SIDE / last,
    )
    return jax.vmap(partial(image_ops.warp_affine, matrix_23=matrix_23))(image_BHWC)


def mean_logits(
    forward: Callable[[jax.Array], jax.Array], image_BHWC: jax.Array, kind: str
) -> jax.Array:
    """The logits whose softmax is the mean of the softmax over an image's views.

    The views go through the network one after the other, so memory is that of one.

    Args:
      forward: from images to logits (B, C).
      image_BHWC: square images.
      kind: one of `KINDS`; "none" is `forward` alone, with its own logits.

    Returns:
      (B, C): for other kinds the logarithm of the mean probability.
    """
    if kind == "none":
        return forward(image_BHWC)

    def of_view(index: jax.Array) -> jax.Array:
        return jax.nn.log_softmax(forward(view(image_BHWC, kind, index)))

    log_probability_VBC = lax.map(of_view, jnp.arange(num_views(kind)))
    return jax.nn.logsumexp(log_probability_VBC, axis=0) - jnp.log(num_views(kind))
