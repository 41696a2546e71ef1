"""The pure steps: one of training, one of evaluation, written for one replica."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from flax.training.dynamic_scale import DynamicScale
from jax import lax
from ml_collections import ConfigDict

from skinjax import augment, image_ops, losses
from skinjax.layer_paths import Params
from skinjax.phases import Phase, frozen_batch_norm, merge_params, split_params

Batch = dict[str, jax.Array]
Outputs = dict[str, jax.Array]

_DROPOUT = 2**31 - 1  # folded into the key in place of a step, which augmentation folds in


class TrainState(struct.PyTreeNode):
    """All that changes during training.

    Attributes:
      step: finished steps, int32 ().
      params: float32 parameters, `{"backbone": {stage: ...}, "head": ...}`.
      batch_stats: running statistics of batch norm, of the same form.
      opt_state: of the phase's optimizer, over the trainable parameters.
      loss_scale: dynamic loss scale, for float16 only.
      skipped: steps left out because their gradients overflowed float16, int32 ().
    """

    step: jax.Array
    params: Params
    batch_stats: Params
    opt_state: Any
    loss_scale: DynamicScale | None
    skipped: jax.Array


def train_step(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    *,
    model: nn.Module,
    tx: optax.GradientTransformation,
    phase: Phase,
    config: ConfigDict,
    class_weights_C: Any,
    axis_name: str,
) -> tuple[TrainState, Outputs]:
    """Takes one optimizer step on this replica's part of the global batch.

    Args:
      state: replicated.
      batch: image uint8 (b, H, W, 3), label int32 (b,), mask bool (b,); b is the replica's share.
      key: the run's key; the step and the example's place in the global batch are folded in.
      model: the classifier, whose batch norm reduces over `axis_name`.
      tx: the phase's optimizer over `split_params(params, phase)[0]`.
      phase: says what is trainable and what is frozen.
      config: the resolved config.
      class_weights_C: weight of each class in the loss.
      axis_name: the mapped axis.

    Returns:
      The next state, and over the global batch: `loss`, `grad_norm` of what is trained, `finite`
      (False where a float16 step was skipped), `skipped` so far, `loss_scale`, `probability_BC`
      and `label_B`.
    """
    local_batch_size = batch["label"].shape[0]
    replica = lax.axis_index(axis_name)
    keys_B = augment.example_keys(key, state.step, replica * local_batch_size, local_batch_size)
    image_BHWC = augment.augment(batch["image"], keys_B, settings=config.augment)
    image_BHWC = image_ops.normalize(image_BHWC, config.normalize.mean, config.normalize.std)
    # Dropout's masks are drawn for a replica's whole batch, so they depend on how many there are.
    dropout_key = jax.random.fold_in(jax.random.fold_in(key, _DROPOUT), state.step)
    dropout_key = jax.random.fold_in(dropout_key, replica)
    trainable, frozen = split_params(state.params, phase)

    def objective(trainable: Params) -> tuple[jax.Array, tuple[Params, jax.Array]]:
        logits_BC, updated = model.apply(
            {"params": merge_params(trainable, frozen), "batch_stats": state.batch_stats},
            image_BHWC,
            train=True,
            frozen=frozen_batch_norm(config, phase),
            rngs={"dropout": dropout_key},
            mutable=["batch_stats"],
        )
        loss = _mean_loss(logits_BC, batch, config, class_weights_C, axis_name)
        return loss, (updated.get("batch_stats", state.batch_stats), logits_BC)

    loss_scale, finite, (loss, (batch_stats, logits_BC)), grads = _gradients(
        objective, trainable, state.loss_scale, axis_name
    )
    updates, opt_state = tx.update(grads, state.opt_state, trainable)
    params = merge_params(optax.apply_updates(trainable, updates), frozen)
    new = (params, batch_stats, opt_state)
    if state.loss_scale is not None:
        old = (state.params, state.batch_stats, state.opt_state)
        new = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
    skipped = state.skipped + jnp.where(finite, 0, 1).astype(jnp.int32)
    outputs = {
        "loss": lax.pmean(loss, axis_name),
        "grad_norm": optax.tree.norm(grads),
        "finite": finite,
        "skipped": skipped,
        "loss_scale": jnp.float32(1) if loss_scale is None else loss_scale.scale,
        "probability_BC": lax.all_gather(nn.softmax(logits_BC), axis_name, tiled=True),
        "label_B": lax.all_gather(batch["label"], axis_name, tiled=True),
    }
    return TrainState(
        step=state.step + 1,
        params=new[0],
        batch_stats=new[1],
        opt_state=new[2],
        loss_scale=loss_scale,
        skipped=skipped,
    ), outputs


def eval_step(
    variables: dict[str, Params],
    batch: Batch,
    *,
    model: nn.Module,
    config: ConfigDict,
    class_weights_C: Any,
    axis_name: str,
) -> Outputs:
    """Predicts this replica's part of a padded batch.

    Args:
      variables: `params` and `batch_stats`, replicated.
      batch: as in `train_step`, with index int32 (b,).
      model, config, class_weights_C, axis_name: as in `train_step`.

    Returns:
      Over the global batch, padding included: `probability_BC`, `index_B`, `mask_B`, `label_B`,
      and the loss's `numerator` and `denominator`, to be summed over batches and divided once.
    """
    image_BHWC = batch["image"] / jnp.float32(255)
    image_BHWC = image_ops.normalize(image_BHWC, config.normalize.mean, config.normalize.std)
    logits_BC: Any = model.apply(variables, image_BHWC, train=False)
    numerator, denominator = _loss_sums(logits_BC, batch, config, class_weights_C)
    gathered = {
        "probability_BC": nn.softmax(logits_BC),
        "index_B": batch["index"],
        "mask_B": batch["mask"],
        "label_B": batch["label"],
    }
    return {name: lax.all_gather(a, axis_name, tiled=True) for name, a in gathered.items()} | {
        "numerator": lax.psum(numerator, axis_name),
        "denominator": lax.psum(denominator, axis_name),
    }


def _loss_sums(
    logits_BC: jax.Array, batch: Batch, config: ConfigDict, class_weights_C: Any
) -> tuple[jax.Array, jax.Array]:
    loss_B = losses.from_config(config.loss)(logits_BC, batch["label"])
    weight_B = losses.example_weights(batch["label"], jnp.asarray(class_weights_C))
    return losses.reduce_terms(loss_B, weight_B, batch["mask"], config.loss.reduction)


def _mean_loss(
    logits_BC: jax.Array, batch: Batch, config: ConfigDict, class_weights_C: Any, axis_name: str
) -> jax.Array:
    """The replica's share of the global loss, scaled so that the mean over replicas is the loss."""
    numerator, denominator = _loss_sums(logits_BC, batch, config, class_weights_C)
    return numerator * lax.axis_size(axis_name) / lax.psum(denominator, axis_name)


def _gradients(
    objective: Any, trainable: Params, loss_scale: DynamicScale | None, axis_name: str
) -> tuple[DynamicScale | None, jax.Array, Any, Params]:
    """Returns the next loss scale, whether the gradients are finite, the value, the gradients."""
    if loss_scale is not None:
        scaled = loss_scale.value_and_grad(objective, has_aux=True, axis_name=axis_name)
        loss_scale, finite, value, grads = scaled(trainable)
        return loss_scale, finite, value, grads
    value, grads = jax.value_and_grad(objective, has_aux=True)(trainable)
    return None, jnp.bool_(True), value, lax.pmean(grads, axis_name)
