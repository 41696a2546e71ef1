"""Losses with one value per example, for integer or soft labels, and the terms of their mean."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import ml_collections

from skinjax.data.class_weights import SCALES
from skinjax.errors import InputError

REDUCTIONS = ("batch", "weights")


def from_config(settings: ml_collections.ConfigDict) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The loss that `config.loss` names: (logits_BC, labels) -> loss_B.

    Raises:
        InputError: an unknown name or reduction, or a number outside its range or not finite.
    """
    if not 0.0 <= settings.label_smoothing < 1.0:
        raise InputError(
            f"loss.label_smoothing is {settings.label_smoothing}; expected 0 <= value < 1"
        )
    if not 0.0 <= settings.focal_gamma < math.inf:
        raise InputError(
            f"loss.focal_gamma is {settings.focal_gamma}; expected a finite number, 0 or more"
        )
    _check_class_weights(settings)
    if any(not 0.0 <= alpha < math.inf for alpha in settings.focal_alpha):
        raise InputError(
            f"loss.focal_alpha is {tuple(settings.focal_alpha)}; expected finite numbers, each "
            "0 or more, or () for none"
        )
    _check_reduction(settings.reduction)
    losses = {
        "cross_entropy": functools.partial(cross_entropy, label_smoothing=settings.label_smoothing),
        "focal": functools.partial(
            focal,
            gamma=settings.focal_gamma,
            alpha=tuple(settings.focal_alpha) or None,
            label_smoothing=settings.label_smoothing,
        ),
    }
    if settings.name not in losses:
        raise InputError(f"loss.name is {settings.name!r}; expected one of {', '.join(losses)}")
    return losses[settings.name]


def cross_entropy(
    logits_BC: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0
) -> jax.Array:
    """Softmax cross-entropy.

    Args:
        logits_BC: (B, C) float.
        labels: (B,) classes, or (B, C) probabilities.
        label_smoothing: share of the label spread evenly over the C classes (Szegedy et al. 2016,
            arXiv:1512.00567, section 7).

    Returns:
        loss_B: (B,) float32, in nats.

    Raises:
        InputError: the labels' shape or dtype doesn't fit the logits.
    """
    label_BC = label_probabilities(labels, logits_BC, label_smoothing)
    return -jnp.sum(label_BC * jax.nn.log_softmax(logits_BC.astype(jnp.float32)), -1)


def focal(
    logits_BC: jax.Array,
    labels: jax.Array,
    *,
    gamma: float,
    alpha: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> jax.Array:
    """Focal loss over a softmax: sum_c label_c alpha_c (1 - p_c)**gamma (-log p_c).

    With integer labels one term is left, FL(p_t) = -alpha_t (1 - p_t)**gamma log(p_t), which is
    equation 5 of Lin et al. 2017 (arXiv:1708.02002) with the softmax's probability of the true
    class for p_t; two classes with logits (0, x) give the paper's sigmoid form, alpha being (1 -
    alpha, alpha). gamma = 0 without alpha is `cross_entropy`. The gradient is finite for every
    gamma >= 0 and finite logits.

    Args:
        logits_BC: (B, C) float, C at least 2.
        labels: (B,) classes, or (B, C) probabilities.
        gamma: focusing exponent, 0 or more.
        alpha: one weight per class; None for 1 everywhere.
        label_smoothing: as in `cross_entropy`.

    Returns:
        loss_B: (B,) float32.

    Raises:
        InputError: labels or alpha don't fit the logits.
    """
    label_BC = label_probabilities(labels, logits_BC, label_smoothing)
    logits_BC = logits_BC.astype(jnp.float32)
    num_classes = logits_BC.shape[-1]
    log_p_BC = jax.nn.log_softmax(logits_BC)
    # log(1 - p_c) from the other classes' logits: 1 - p_c rounds to 0 for a sure prediction, where
    # the power's gradient is infinite for gamma < 1.
    other_CC = ~jnp.eye(num_classes, dtype=bool)
    log_rest_BC = jax.nn.logsumexp(
        jnp.broadcast_to(logits_BC[:, None, :], (*logits_BC.shape, num_classes)),
        axis=-1,
        where=other_CC,
    ) - jax.nn.logsumexp(logits_BC, axis=-1, keepdims=True)
    loss_BC = -label_BC * jnp.exp(gamma * log_rest_BC) * log_p_BC
    if alpha is not None:
        if len(alpha) != num_classes:
            raise InputError(
                f"loss.focal_alpha has {len(alpha)} numbers; expected one for each of the "
                f"{num_classes} classes, or () for none"
            )
        loss_BC = loss_BC * jnp.asarray(alpha, jnp.float32)
    return jnp.sum(loss_BC, -1)


def label_probabilities(
    labels: jax.Array, logits_BC: jax.Array, label_smoothing: float = 0.0
) -> jax.Array:
    """Labels of either kind as smoothed probabilities (B, C) float32.

    Raises:
        InputError: the labels are neither (B,) integers nor (B, C) floats.
    """
    integer = jnp.issubdtype(labels.dtype, jnp.integer)
    if labels.shape != (logits_BC.shape[:1] if integer else logits_BC.shape):
        raise InputError(
            f"labels are {labels.dtype} {labels.shape} for logits {logits_BC.shape}; expected one "
            "integer class per example, or one float probability per example and class"
        )
    num_classes = logits_BC.shape[-1]
    label_BC = jax.nn.one_hot(labels, num_classes) if integer else labels.astype(jnp.float32)
    return (1.0 - label_smoothing) * label_BC + label_smoothing / num_classes


def example_weights(labels: jax.Array, class_weights_C: jax.Array) -> jax.Array:
    """The weight of each example: its class's weight, or for soft labels their expectation.

    The weight multiplies the example's whole loss, as in Keras (class_weight); with soft or
    smoothed labels PyTorch weights each class's term instead, which is `focal` with gamma = 0 and
    alpha.

    Args:
        labels: (B,) integer classes, or (B, C) probabilities.
        class_weights_C: (C,) float.

    Returns:
        weight_B: (B,) float32.
    """
    class_weights_C = jnp.asarray(class_weights_C, jnp.float32)
    if jnp.issubdtype(labels.dtype, jnp.integer):
        return class_weights_C[labels]
    return jnp.sum(labels.astype(jnp.float32) * class_weights_C, -1)


def reduce_terms(
    loss_B: jax.Array, weight_B: jax.Array, mask_B: jax.Array, reduction: str
) -> tuple[jax.Array, jax.Array]:
    """Numerator and denominator of the mean loss, as sums that devices can add up first.

    Args:
        loss_B: (B,) float; values where the mask is False don't matter.
        weight_B: (B,) float (`example_weights`).
        mask_B: (B,) bool, False on padding.
        reduction: 'batch' divides the weighted sum by the number of examples (Keras), 'weights'
            by the sum of their weights (PyTorch).

    Returns:
        Two float32 scalars. The denominator is 0 where the mask is all False.

    Raises:
        InputError: an unknown reduction.
    """
    _check_reduction(reduction)
    numerator = jnp.sum(jnp.where(mask_B, loss_B * weight_B, 0.0), dtype=jnp.float32)
    counted_B = jnp.ones_like(weight_B) if reduction == "batch" else weight_B
    return numerator, jnp.sum(jnp.where(mask_B, counted_B, 0.0), dtype=jnp.float32)


def _check_class_weights(settings: ml_collections.ConfigDict) -> None:
    exponent, beta = settings.class_weight_exponent, settings.class_weight_beta
    if not 0.0 <= exponent < math.inf:
        raise InputError(
            f"loss.class_weight_exponent is {exponent}; expected 0 (no weights) or a larger finite"
            " number, such as 0.5 or 1"
        )
    if not 0.0 <= beta < 1.0:
        raise InputError(
            f"loss.class_weight_beta is {beta}; expected 0 (off) or a number below 1, such as 0.999"
        )
    if beta and not exponent:
        raise InputError(
            f"loss.class_weight_beta is {beta}, and loss.class_weight_exponent is 0, which is no"
            " weights; expected an exponent above 0, such as 1"
        )
    if settings.class_weight_scale not in SCALES:
        raise InputError(
            f"loss.class_weight_scale is {settings.class_weight_scale!r}; expected one of"
            f" {', '.join(SCALES)}"
        )
    weights = tuple(settings.class_weights)
    numbers = all(isinstance(w, int | float) and 0.0 <= w < math.inf for w in weights)
    if weights and not (numbers and any(weights)):
        raise InputError(
            f"loss.class_weights is {weights}; expected finite numbers, each 0 or more and one of"
            " them above 0, or () for weights made from the counts"
        )


def _check_reduction(reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise InputError(
            f"loss.reduction is {reduction!r}; expected one of {', '.join(REDUCTIONS)}"
        )
