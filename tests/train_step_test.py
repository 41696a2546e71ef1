"""Tests of the steps: by hand, on 1 and 8 devices, frozen, overflowing, padded."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from skinjax import models, parallel, phases
from skinjax.config import phase
from skinjax.experiment import Experiment

CLASSES = ("a", "b", "c")
WEIGHTS = np.array([1.0, 2.0, 0.5], np.float32)


def make_experiment(
    config: ConfigDict, classifier: type[nn.Module], devices: int = 1
) -> Experiment:
    return Experiment(
        config=config,
        classes=CLASSES,
        class_weights_C=WEIGHTS,
        model=classifier(num_classes=3, dtype=jnp.dtype(config.model.dtype)),
        mapper=parallel.Mapper(config.parallel.mode, jax.devices()[:devices]),
    )


@pytest.fixture
def plain(config: ConfigDict) -> ConfigDict:
    """Nothing random, and a loss with weights."""
    config.augment.update(
        flip_horizontal=0.0, rotation_degrees=0.0, crop_scale=(1.0, 1.0), brightness=0.0,
        contrast=0.0, saturation=0.0, hue=0.0, noise_std=0.0,
    )  # fmt: skip
    config.optimizer.update(warmup_fraction=0.0, weight_decay=0.1)
    config.batch_size = 16
    return config


@pytest.fixture
def batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (16, 16, 16, 3), dtype=np.uint8),
        "label": rng.integers(0, 3, 16).astype(np.int32),
        "mask": np.ones(16, bool),
    }


def run(experiment: Experiment, batch: dict[str, np.ndarray], steps: int = 1) -> tuple[Any, Any]:
    """Runs steps of the first phase and returns state and outputs on the host."""
    (first, *_) = phases.resolve(experiment.config, experiment.layers, steps_per_epoch=10)
    state = experiment.init_state(first, experiment.init_variables())
    state = experiment.mapper.replicate(state)
    step = experiment.train_step(first)
    for _ in range(steps):
        state, outputs = step(state, experiment.mapper.shard(batch), jax.random.key(0))
    return jax.device_get((state, outputs))


def assert_close(one: Any, other: Any, **tolerance: float) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, other)


@pytest.mark.parametrize("reduction", ["batch", "weights"])
def test_one_step_is_what_a_page_of_jax_computes(
    plain: ConfigDict, batch: dict[str, np.ndarray], tiny_classifier: Any, reduction: str
) -> None:
    plain.loss.reduction = reduction
    experiment = make_experiment(plain, tiny_classifier)
    variables = experiment.init_variables()
    state, outputs = run(experiment, batch)

    image = (batch["image"] / np.float32(255) - np.array(plain.normalize.mean)) / np.array(
        plain.normalize.std
    )
    weight = WEIGHTS[batch["label"]]

    def loss(params: Any, x: jax.Array) -> Any:
        logits, updated = experiment.model.apply(
            {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
        )
        each = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        total = weight.sum() if reduction == "weights" else len(weight)
        return (each * weight).sum() / total, updated

    # A mapped axis of one, for the batch norm.
    step = jax.vmap(
        jax.value_and_grad(loss, has_aux=True), in_axes=(None, 0), axis_name=parallel.AXIS
    )
    of_one = step(variables["params"], jnp.asarray(image, jnp.float32)[None])
    (value, updated), grads = jax.tree.map(lambda x: x[0], of_one)
    norm = optax.tree.norm(grads)
    grads = jax.tree.map(lambda g: g * jnp.minimum(1, 1 / norm), grads)
    tx = optax.adamw(1e-3, weight_decay=0.1, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p))
    updates, _ = tx.update(grads, tx.init(variables["params"]), variables["params"])
    assert_close(outputs["loss"], value, rtol=1e-5)
    assert_close(outputs["grad_norm"], norm, rtol=1e-4)
    assert_close(state.params, optax.apply_updates(variables["params"], updates), atol=2e-6)
    assert_close(state.batch_stats, updated["batch_stats"], atol=1e-5)
    assert int(state.step) == 1


@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
def test_one_and_eight_devices_agree(
    config: ConfigDict, batch: dict[str, np.ndarray], tiny_classifier: Any, mode: str
) -> None:
    """With augmentation on, and weights that differ between the replicas' shares."""
    config.parallel.mode = mode
    config.loss.reduction = "weights"
    one_state, one = run(make_experiment(config, tiny_classifier, 1), batch, steps=3)
    eight_state, eight = run(make_experiment(config, tiny_classifier, 8), batch, steps=3)
    np.testing.assert_array_equal(one["label_B"], eight["label_B"])
    assert_close(one["probability_BC"], eight["probability_BC"], atol=1e-5)
    assert_close(one["loss"], eight["loss"], rtol=1e-5)
    assert_close(one_state.batch_stats, eight_state.batch_stats, atol=1e-5)
    assert_close(one_state.params, eight_state.params, atol=1e-4)


def test_both_modes_agree(
    config: ConfigDict, batch: dict[str, np.ndarray], tiny_classifier: Any
) -> None:
    states = []
    for mode in ("pmap", "shard_map"):
        config.parallel.mode = mode
        states.append(run(make_experiment(config, tiny_classifier, 8), batch, steps=2)[0])
    assert_close(states[0].params, states[1].params, atol=1e-6)


def test_a_step_depends_on_seed_and_step_alone(
    config: ConfigDict, batch: dict[str, np.ndarray], tiny_classifier: Any
) -> None:
    experiment = make_experiment(config, tiny_classifier)
    one, other = run(experiment, batch, steps=2)[0], run(experiment, batch, steps=2)[0]
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("frozen_batch_norm", ["running", "batch"])
def test_what_is_frozen_keeps_its_bits(
    config: ConfigDict, batch: dict[str, np.ndarray], tiny_classifier: Any, frozen_batch_norm: str
) -> None:
    config.model.frozen_batch_norm = frozen_batch_norm
    config.phases_from_scratch = True
    config.phases = (phase(("block1", "head"), epochs=1),)
    experiment = make_experiment(config, tiny_classifier)
    before = jax.device_get(experiment.init_variables())
    state, _ = run(experiment, batch, steps=3)

    def same(name: str, stage: str) -> list[bool]:
        old, new = before[name]["backbone"][stage], getattr(state, name)["backbone"][stage]
        return jax.tree.leaves(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), old, new))

    assert all(same("params", "stem"))
    assert not any(same("params", "block1"))
    assert all(same("batch_stats", "stem")) == (frozen_batch_norm == "running")
    assert not any(same("batch_stats", "block1"))


def test_what_is_frozen_has_no_backward_pass(
    plain: ConfigDict, batch: dict[str, np.ndarray], tiny_classifier: Any
) -> None:
    def flops(trainable: tuple[str, ...]) -> float:
        plain.phases_from_scratch = True
        plain.phases = (phase(trainable, epochs=1),)
        experiment = make_experiment(plain, tiny_classifier)
        (only,) = phases.resolve(plain, experiment.layers, steps_per_epoch=10)
        state = experiment.mapper.replicate(
            experiment.init_state(only, experiment.init_variables())
        )
        lowered = experiment.train_step(only).lower(
            state, experiment.mapper.shard(batch), jax.random.key(0)
        )
        return lowered.compile().cost_analysis()["flops"]

    assert flops(("head",)) < 0.6 * flops(("*",))


def test_an_overflow_of_float16_is_skipped_and_counted(
    plain: ConfigDict, batch: dict[str, np.ndarray], tiny_classifier: Any
) -> None:
    plain.model.dtype = "float16"
    plain.ema.decay = 0.9
    experiment = make_experiment(plain, tiny_classifier)
    (only,) = phases.resolve(plain, experiment.layers, steps_per_epoch=10)
    state = experiment.init_state(only, experiment.init_variables())
    state = state.replace(loss_scale=state.loss_scale.replace(scale=jnp.float32(2**60)))
    before = jax.device_get(state)
    step = experiment.train_step(only)
    sharded = experiment.mapper.shard(batch)
    after, outputs = step(experiment.mapper.replicate(state), sharded, jax.random.key(0))
    assert not outputs["finite"]
    assert np.isfinite(outputs["loss"])
    assert (int(after.step), int(after.skipped)) == (1, 1)
    assert float(after.loss_scale.scale) == 2**59
    for name in ("params", "batch_stats", "opt_state", "ema"):
        jax.tree.map(np.testing.assert_array_equal, getattr(before, name), getattr(after, name))
    mended = after.replace(loss_scale=after.loss_scale.replace(scale=jnp.float32(1024)))
    after, outputs = step(experiment.mapper.replicate(mended), sharded, jax.random.key(0))
    assert outputs["finite"]
    assert int(after.skipped) == 1
    kernels = [state.params["head"]["logits"]["kernel"] for state in (before, after)]
    assert not np.array_equal(*kernels)


@pytest.mark.parametrize("devices", [1, 8])
def test_evaluation_does_not_see_the_padding(
    plain: ConfigDict, batch: dict[str, np.ndarray], tiny_classifier: Any, devices: int
) -> None:
    experiment = make_experiment(plain, tiny_classifier, devices)
    variables = experiment.mapper.replicate(experiment.init_variables())
    step = experiment.eval_step()
    mask = np.arange(16) < 11
    padded = {**batch, "mask": mask, "index": np.arange(16, dtype=np.int32)}
    one = jax.device_get(step(variables, experiment.mapper.shard(padded)))
    padded["image"] = np.where(mask[:, None, None, None], batch["image"], 255 - batch["image"])
    other = jax.device_get(step(variables, experiment.mapper.shard(padded)))
    np.testing.assert_array_equal(one["index_B"], np.arange(16))
    np.testing.assert_array_equal(one["mask_B"], mask)
    assert_close(one["numerator"], other["numerator"], rtol=1e-6)
    assert float(one["denominator"]) == 11
    assert_close(one["probability_BC"][:11], other["probability_BC"][:11], atol=1e-6)
    weight = WEIGHTS[batch["label"][:11]]
    by_hand = -np.log(one["probability_BC"][np.arange(11), batch["label"][:11]]) * weight
    assert_close(one["numerator"], by_hand.sum(), rtol=1e-5)


def make_simple(config: ConfigDict, devices: int = 1) -> Experiment:
    """SimpleCNN without dropout: nothing in it depends on how a batch is cut."""
    config.model.name = "simple_cnn"
    config.model.head = ()
    config.batch_size = 16
    experiment = make_experiment(config, lambda **_: None, devices)
    model = models.create(config.model, num_classes=3, axis_name=parallel.AXIS)
    return dataclasses.replace(experiment, model=model)


@pytest.mark.parametrize("reduction", ["batch", "weights"])
@pytest.mark.parametrize("devices", [1, 2])
def test_a_batch_in_parts_takes_the_step_of_the_whole(
    config: ConfigDict, batch: dict[str, np.ndarray], reduction: str, devices: int
) -> None:
    config.loss.reduction = reduction
    config.augment.mixup_alpha = 0.4
    whole_state, whole = run(make_simple(config, devices), batch, steps=2)
    config.optimizer.accumulate = 4
    parts_state, parts = run(make_simple(config, devices), batch, steps=2)
    for name in ("loss", "grad_norm", "probability_BC"):
        assert_close(whole[name], parts[name], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(whole["label_B"], parts["label_B"])
    assert_close(whole_state.params, parts_state.params, atol=1e-5)


def test_parts_move_batch_statistics_one_after_the_other(
    plain: ConfigDict, batch: dict[str, np.ndarray], tiny_classifier: Any
) -> None:
    plain.optimizer.accumulate = 2
    plain.optimizer.learning_rate = 0.0
    state, _ = run(make_experiment(plain, tiny_classifier), batch)
    plain.optimizer.accumulate = 1
    experiment = make_experiment(plain, tiny_classifier)
    (first, *_) = phases.resolve(plain, experiment.layers, steps_per_epoch=10)
    one_by_one = experiment.mapper.replicate(
        experiment.init_state(first, experiment.init_variables())
    )
    step = experiment.train_step(first)
    for part in (slice(0, 8), slice(8, 16)):
        half = {name: array[part] for name, array in batch.items()}
        one_by_one, _ = step(one_by_one, experiment.mapper.shard(half), jax.random.key(0))
    assert_close(state.batch_stats, jax.device_get(one_by_one.batch_stats), atol=1e-6)


@pytest.mark.parametrize("scale", [1024.0, 2.0**60])
def test_float16_in_parts_skips_a_step_where_any_part_overflows(
    plain: ConfigDict, batch: dict[str, np.ndarray], tiny_classifier: Any, scale: float
) -> None:
    plain.model.dtype = "float16"
    plain.optimizer.accumulate = 2
    experiment = make_experiment(plain, tiny_classifier)
    (only,) = phases.resolve(plain, experiment.layers, steps_per_epoch=10)
    state = experiment.init_state(only, experiment.init_variables())
    state = state.replace(loss_scale=state.loss_scale.replace(scale=jnp.float32(scale)))
    before = jax.device_get(state.params)
    replicated, sharded = experiment.mapper.replicate(state), experiment.mapper.shard(batch)
    after, outputs = experiment.train_step(only)(replicated, sharded, jax.random.key(0))
    overflows = scale > 1024
    assert bool(outputs["finite"]) is not overflows
    assert float(after.loss_scale.scale) == (scale / 2 if overflows else scale)
    same = jax.tree.map(np.array_equal, before, jax.device_get(after.params))
    assert all(jax.tree.leaves(same)) is overflows


@pytest.mark.parametrize("warmup", [True, False])
def test_the_moving_averages_follow_parameters_and_batch_statistics(
    config: ConfigDict, batch: dict[str, np.ndarray], tiny_classifier: Any, warmup: bool
) -> None:
    config.ema.update(decay=0.15, warmup=warmup)
    experiment = make_experiment(config, tiny_classifier)
    states = [run(experiment, batch, steps=steps)[0] for steps in (1, 2)]
    by_hand = jax.device_get(experiment.init_variables())
    for step, state in enumerate(states):
        decay = min(0.15, (1 + step) / (10 + step)) if warmup else 0.15
        new = {"params": state.params, "batch_stats": state.batch_stats}
        by_hand = jax.tree.map(lambda e, n, d=decay: d * e + (1 - d) * n, by_hand, new)
        assert_close(state.ema, by_hand, rtol=1e-5, atol=1e-7)
    assert states[1].variables is states[1].ema
    without = {"params": states[1].params, "batch_stats": states[1].batch_stats}
    assert states[1].replace(ema=None).variables == without


def test_the_averages_of_what_is_frozen_keep_their_bits(
    config: ConfigDict, batch: dict[str, np.ndarray], tiny_classifier: Any
) -> None:
    config.ema.decay = 0.9
    config.phases_from_scratch = True
    config.phases = (phase(("head",), epochs=1),)
    experiment = make_experiment(config, tiny_classifier)
    before = jax.device_get(experiment.init_variables())["params"]["backbone"]
    state, _ = run(experiment, batch, steps=3)
    jax.tree.map(np.testing.assert_array_equal, before, state.ema["params"]["backbone"])


def test_a_plateau_scales_the_whole_update(
    plain: ConfigDict, batch: dict[str, np.ndarray], tiny_classifier: Any
) -> None:
    plain.plateau.patience = 1
    experiment = make_experiment(plain, tiny_classifier)
    (only,) = phases.resolve(plain, experiment.layers, steps_per_epoch=10)
    state = jax.device_get(experiment.init_state(only, experiment.init_variables()))
    step, moved = experiment.train_step(only), []
    for scale in (1.0, 0.25):
        scaled = experiment.mapper.replicate(state.replace(learning_rate_scale=np.float32(scale)))
        after, _ = step(scaled, experiment.mapper.shard(batch), jax.random.key(0))
        moved.append(jax.tree.map(lambda a, b: np.array(a) - b, after.params, state.params))
    assert_close(jax.tree.map(lambda leaf: leaf / 4, moved[0]), moved[1], atol=1e-7)


def test_mixing_gives_one_and_eight_devices_the_same(
    config: ConfigDict, batch: dict[str, np.ndarray], tiny_classifier: Any
) -> None:
    config.augment.update(mixup_alpha=0.5, cutmix_alpha=1.0)
    one, _ = run(make_experiment(config, tiny_classifier, 1), batch, steps=2)
    eight, _ = run(make_experiment(config, tiny_classifier, 8), batch, steps=2)
    assert_close(one.params, eight.params, atol=1e-4)
    config.augment.update(mixup_alpha=0.0, cutmix_alpha=0.0)
    unmixed, _ = run(make_experiment(config, tiny_classifier, 1), batch, steps=2)
    difference = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), one.params, unmixed.params)
    assert max(jax.tree.leaves(difference)) > 1e-3
