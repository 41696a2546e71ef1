"""The pure steps: one of training, one of evaluation, written for one replica."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from flax.training.dynamic_scale import DynamicScale
from jax import lax
from ml_collections import ConfigDict

from skinjax import augment, image_ops, losses, mixing, test_time
from skinjax.data import metadata
from skinjax.layer_paths import Params
from skinjax.phases import Phase, frozen_batch_norm, merge_params, split_params

Batch = dict[str, jax.Array]
Outputs = dict[str, jax.Array]

# Folded into the key in place of a step, which augmentation folds in.
_DROPOUT = 2**31 - 1
_METADATA = 2**31 - 2


class TrainState(struct.PyTreeNode):
    """All that changes during training.

    Attributes:
      step: finished steps, int32 ().
      params: float32 parameters, `{"backbone": {stage: ...}, "head": ...}`.
      batch_stats: running statistics of batch norm, of the same form.
      opt_state: of the phase's optimizer, over the trainable parameters.
      loss_scale: dynamic loss scale, for float16 only.
      skipped: steps left out because their gradients overflowed float16, int32 ().
      learning_rate_scale: what a plateau has made of the learning rate, float32 ().
      ema: moving averages of `params` and `batch_stats`, by these names; None without.
    """

    step: jax.Array
    params: Params
    batch_stats: Params
    opt_state: Any
    loss_scale: DynamicScale | None
    skipped: jax.Array
    learning_rate_scale: jax.Array
    ema: dict[str, Params] | None

    @property
    def variables(self) -> dict[str, Params]:
        """The `params` and `batch_stats` to evaluate and to use: the averages, where there are."""
        if self.ema is not None:
            return self.ema
        return {"params": self.params, "batch_stats": self.batch_stats}


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
    metadata_sizes: Sequence[int] = (),
) -> tuple[TrainState, Outputs]:
    """Takes one optimizer step on this replica's part of the global batch.

    Args:
      state: replicated.
      batch: image uint8 (b, H, W, 3), label int32 (b,), mask bool (b,); b is the replica's share.
        For a model that takes patient metadata also metadata float32 (b, M).
      key: the run's key; the step and the example's place in the global batch are folded in.
      model: the classifier, whose batch norm reduces over `axis_name`.
      tx: the phase's optimizer over `split_params(params, phase)[0]`.
      phase: says what is trainable and what is frozen.
      config: the resolved config.
      class_weights_C: weight of each class in the loss.
      axis_name: the mapped axis.
      metadata_sizes: columns of each feature of the metadata, `Encoder.sizes`.

    Returns:
      The next state, and over the global batch: `loss`, `grad_norm` of what is trained, `finite`
      (False where a float16 step was skipped), `skipped` so far, `loss_scale`, `probability_BC`
      and `label_B`.
    """
    replica = lax.axis_index(axis_name)
    trainable, frozen = split_params(state.params, phase)
    batch = _with_missing_features(batch, key, state.step, config, metadata_sizes, axis_name)
    inputs = _augmented(batch, key, state.step, config, len(class_weights_C), axis_name)
    denominator = lax.psum(_weight_sum(inputs, config, class_weights_C), axis_name)
    denominator = jnp.where(denominator > 0, denominator, 1)  # all of weight 0: then so is the loss
    # Dropout's masks are drawn for a replica's whole part, so they depend on how many there are.
    dropout_key = jax.random.fold_in(jax.random.fold_in(key, _DROPOUT), state.step)
    dropout_key = jax.random.fold_in(dropout_key, replica)

    def objective(
        trainable: Params, batch_stats: Params, part: Batch, number: Any
    ) -> tuple[jax.Array, tuple[Params, jax.Array]]:
        """A part's share of the replica's loss, whose mean over the replicas is the loss."""
        logits_BC, updated = model.apply(
            {"params": merge_params(trainable, frozen), "batch_stats": batch_stats},
            part["image"],
            part.get("metadata"),
            train=True,
            frozen=frozen_batch_norm(config, phase),
            rngs={"dropout": jax.random.fold_in(dropout_key, number) if parts > 1 else dropout_key},
            mutable=["batch_stats"],
        )
        numerator, _ = _loss_sums(logits_BC, part, config, class_weights_C)
        loss = numerator * lax.axis_size(axis_name) / denominator
        return loss, (updated.get("batch_stats", batch_stats), logits_BC)

    parts = config.optimizer.accumulate
    gradients = _gradients if parts == 1 else _accumulated_gradients
    loss_scale, finite, loss, batch_stats, logits_BC, grads = gradients(
        objective, trainable, state.batch_stats, inputs, state.loss_scale, parts, axis_name
    )
    updates, opt_state = tx.update(grads, state.opt_state, trainable)
    if config.plateau.patience:
        updates = jax.tree.map(lambda update: update * state.learning_rate_scale, updates)
    params = merge_params(optax.apply_updates(trainable, updates), frozen)
    ema = state.ema
    if ema is not None:
        ema = _moved(ema, {"params": params, "batch_stats": batch_stats}, state.step, config.ema)
    new = (params, batch_stats, opt_state, ema)
    if state.loss_scale is not None:
        old = (state.params, state.batch_stats, state.opt_state, state.ema)
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
    return state.replace(
        step=state.step + 1,
        params=new[0],
        batch_stats=new[1],
        opt_state=new[2],
        ema=new[3],
        loss_scale=loss_scale,
        skipped=skipped,
    ), outputs


def _with_missing_features(
    batch: Batch,
    key: jax.Array,
    step: jax.Array,
    config: ConfigDict,
    sizes: Sequence[int],
    axis: str,
) -> Batch:
    """The batch with features of its metadata missing at random, where it has any."""
    if "metadata" not in batch or config.metadata.dropout == 0:
        return batch
    metadata_BM = batch["metadata"]
    size = len(metadata_BM)
    # Not augmentation's keys, so that what is missing doesn't go with how an image is changed.
    key = jax.random.fold_in(key, _METADATA)
    keys_B = augment.example_keys(key, step, lax.axis_index(axis) * size, size)
    metadata_BM = metadata.drop_features(
        metadata_BM, keys_B, sizes=sizes, rate=config.metadata.dropout
    )
    return batch | {"metadata": metadata_BM}


def _augmented(
    batch: Batch, key: jax.Array, step: jax.Array, config: ConfigDict, num_classes: int, axis: str
) -> Batch:
    """The batch as the network sees it: images augmented, mixed, normalised; all else mixed."""
    size = batch["label"].shape[0]
    keys_B = augment.example_keys(key, step, lax.axis_index(axis) * size, size)
    image_BHWC = augment.augment(batch["image"], keys_B, settings=config.augment)
    label, metadata_BM = batch["label"], batch.get("metadata")
    if mixing.is_on(config.augment):
        label_BC = jax.nn.one_hot(label, num_classes)
        image_BHWC, label, metadata_BM = mixing.mix(
            image_BHWC, label_BC, metadata_BM, keys_B, settings=config.augment
        )
    image_BHWC = image_ops.normalize(image_BHWC, config.normalize.mean, config.normalize.std)
    inputs = batch | {"image": image_BHWC, "label": label}
    return inputs if metadata_BM is None else inputs | {"metadata": metadata_BM}


def _moved(
    ema: dict[str, Params], new: dict[str, Params], step: jax.Array, settings: ConfigDict
) -> dict[str, Params]:
    """The moving averages after a step; what does not change keeps its bits."""
    decay = jnp.float32(settings.decay)
    if settings.warmup:
        decay = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda e, n: e + (1 - decay) * (n - e), ema, new)


def eval_step(
    variables: dict[str, Params],
    batch: Batch,
    *,
    model: nn.Module,
    config: ConfigDict,
    class_weights_C: Any,
    axis_name: str,
    tta: str = "none",
) -> Outputs:
    """Predicts this replica's part of a padded batch.

    Args:
      variables: `params` and `batch_stats`, replicated.
      batch: as in `train_step`, with index int32 (b,).
      model, config, class_weights_C, axis_name: as in `train_step`.
      tta: the views to take the mean over, one of `test_time.KINDS`.

    Returns:
      Over the global batch, padding included: `probability_BC`, `index_B`, `mask_B`, `label_B`,
      and the loss's `numerator` and `denominator`, to be summed over batches and divided once.
    """

    def forward(image_BHWC: jax.Array) -> Any:
        image_BHWC = image_ops.normalize(image_BHWC, config.normalize.mean, config.normalize.std)
        return model.apply(variables, image_BHWC, batch.get("metadata"), train=False)

    logits_BC = test_time.mean_logits(forward, batch["image"] / jnp.float32(255), tta)
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


def _weight_sum(inputs: Batch, config: ConfigDict, class_weights_C: Any) -> jax.Array:
    """What the loss's numerator is divided by, which the labels alone tell."""
    weight_B = losses.example_weights(inputs["label"], jnp.asarray(class_weights_C))
    zero_B = jnp.zeros_like(weight_B)
    return losses.reduce_terms(zero_B, weight_B, inputs["mask"], config.loss.reduction)[1]


def _gradients(
    objective: Any,
    trainable: Params,
    batch_stats: Params,
    inputs: Batch,
    loss_scale: DynamicScale | None,
    number: Any,
    axis_name: str,
) -> tuple[DynamicScale | None, jax.Array, jax.Array, Params, jax.Array, Params]:
    """One forward and backward pass.

    Returns:
      The next loss scale, whether the gradients are finite, the replica's loss, batch statistics,
      logits, and the gradients' mean over the replicas.
    """

    def of_part(trainable: Params) -> Any:
        return objective(trainable, batch_stats, inputs, number)

    if loss_scale is not None:
        scaled = loss_scale.value_and_grad(of_part, has_aux=True, axis_name=axis_name)
        loss_scale, finite, (loss, (batch_stats, logits_BC)), grads = scaled(trainable)
        return loss_scale, finite, loss, batch_stats, logits_BC, grads
    (loss, (batch_stats, logits_BC)), grads = jax.value_and_grad(of_part, has_aux=True)(trainable)
    grads = lax.pmean(grads, axis_name)
    return None, jnp.bool_(True), loss, batch_stats, logits_BC, grads


def _accumulated_gradients(
    objective: Any,
    trainable: Params,
    batch_stats: Params,
    inputs: Batch,
    loss_scale: DynamicScale | None,
    parts: int,
    axis_name: str,
) -> tuple[DynamicScale | None, jax.Array, jax.Array, Params, jax.Array, Params]:
    """As `_gradients`, of one part of the batch after the other: less memory, the same sums.

    Batch norm sees each part by itself, as it does in other frameworks.
    """
    split = {name: a.reshape(parts, -1, *a.shape[1:]) for name, a in inputs.items()}

    def add(carry: Any, part: Any) -> Any:
        batch_stats, sums = carry
        next_scale, finite, loss, batch_stats, logits_BC, grads = _gradients(
            objective, trainable, batch_stats, part[0], loss_scale, part[1], axis_name
        )
        sums = jax.tree.map(jnp.add, sums, (loss, grads))
        return (batch_stats, sums), (next_scale, finite, logits_BC)

    zeros = jax.tree.map(jnp.zeros_like, (jnp.float32(0), trainable))
    (batch_stats, (loss, grads)), (scale_P, finite_P, logits_PBC) = lax.scan(
        add, (batch_stats, zeros), (split, jnp.arange(parts))
    )
    # Each part starts from the same scale: all grow it alike, or those that overflow shrink it.
    loss_scale = jax.tree.map(lambda value_P: value_P[jnp.argmin(finite_P)], scale_P)
    logits_BC = logits_PBC.reshape(-1, logits_PBC.shape[-1])
    return loss_scale, jnp.all(finite_P), loss, batch_stats, logits_BC, grads
