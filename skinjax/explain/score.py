"""The score that maps explain: how much a network holds for a class, against the others."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from skinjax.trained import TrainedModel


def contrast(logits_BC: jax.Array, class_B: jax.Array) -> jax.Array:
    """One class's logit less the mean of the other classes' logits, per example: (B,).

    The published methods take the logit itself. Of a head with a sigmoid, whose logits are (0, z),
    that says nothing for the first class: its gradient is zero everywhere. The contrast is -z
    there and z for the second, and for any two classes it is the log-odds. Like softmax it stays
    the same when all logits grow by a constant; and other than that of the log-probability, its
    gradient neither fades where the network is sure nor is all about the one strongest class.

    Args:
      logits_BC: float32, of two classes or more.
      class_B: integers in [0, C).
    """
    num_classes = logits_BC.shape[1]
    is_class_BC = class_B[:, None] == jnp.arange(num_classes)
    return jnp.sum(logits_BC * jnp.where(is_class_BC, 1, -1 / (num_classes - 1)), axis=1)


def of_images(
    model: TrainedModel,
    variables: Mapping[str, Any],
    image_BHWC: jax.Array,
    class_B: jax.Array,
    metadata_BM: jax.Array | None = None,
) -> jax.Array:
    """The `contrast` of images (B, S, S, 3), uint8 or floats in [0, 255]."""
    outputs = model.forward()(variables, image_BHWC, metadata_BM)
    return contrast(outputs["logits_BC"], class_B)
