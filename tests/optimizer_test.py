"""Tests of the optimizer, its schedule, and moments carried over phases."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from skinjax import optimizer
from skinjax.config import default_config
from skinjax.phases import Phase

STAGES = ("stem", "block1", "head")


def make_phase(trainable: tuple[str, ...], since: tuple[int, ...], num_steps: int = 100) -> Phase:
    return Phase(
        index=max(since),
        trainable=trainable,
        frozen=(),
        since=since,
        num_steps=num_steps,
        steps_per_epoch=10,
        learning_rate=1e-2,
    )


@pytest.fixture
def settings() -> ConfigDict:
    settings = default_config().optimizer
    settings.update({"warmup_fraction": 0.2, "start_factor": 0.1, "end_factor": 0.01})
    return settings


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 0.1), (10, 0.55), (20, 1.0), (60, 0.01 + 0.99 * 0.5), (100, 0.01), (200, 0.01)],
)
def test_the_learning_rate_warms_up_and_follows_a_cosine(
    settings: ConfigDict, step: int, factor: float
) -> None:
    rate = optimizer.schedule(settings, make_phase(("head",), (0,)))
    assert float(rate(step)) == pytest.approx(1e-2 * factor, rel=1e-5)


def test_without_warmup_it_starts_at_the_peak(settings: ConfigDict) -> None:
    settings.warmup_fraction = 0.0
    assert float(optimizer.schedule(settings, make_phase(("head",), (0,)))(0)) == pytest.approx(
        1e-2
    )


def test_weight_decay_spares_biases_and_norm_parameters() -> None:
    params = {
        "backbone": {
            "stem": {
                "bn": {"scale": jnp.ones(4), "bias": jnp.ones(4)},
                "pos_embed": jnp.ones((1, 5, 4)),
            }
        },
        "head": {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)},
    }
    assert optimizer.is_decayed(params) == {
        "backbone": {"stem": {"bn": {"scale": False, "bias": False}, "pos_embed": False}},
        "head": {"kernel": True, "bias": False},
    }


def test_one_step_is_adamw_with_clipping_by_hand(settings: ConfigDict) -> None:
    settings.update({"clip_norm": 1.0, "weight_decay": 0.1})
    phase = make_phase(("head",), (0,))
    params = {"head": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([0.5])}}
    grads = {"head": {"kernel": jnp.array([[3.0, 4.0]]), "bias": jnp.array([12.0])}}  # norm 13
    tx = optimizer.create(settings, phase, STAGES)
    updates, _ = tx.update(grads, tx.init(params), params)
    rate = 1e-2 * 0.1
    # Adam's first update is the sign of the gradient, up to epsilon.
    np.testing.assert_allclose(
        updates["head"]["kernel"], [[-rate * (1 + 0.1), -rate * (1 - 0.2)]], rtol=1e-5
    )
    np.testing.assert_allclose(updates["head"]["bias"], [-rate], rtol=1e-5)
    # The moments show the clipping.
    mu = jax.tree.leaves(tx.update(grads, tx.init(params), params)[1])
    assert any(np.allclose(leaf, 0.1 * 12 / 13) for leaf in mu)


def test_frozen_parameters_have_no_optimizer_state(settings: ConfigDict) -> None:
    trainable = {"head": {"kernel": jnp.ones((4, 2))}}
    state = optimizer.create(settings, make_phase(("head",), (0,)), STAGES).init(trainable)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 2 * 8 + 2  # moments, two counts


def test_moments_are_carried_and_newcomers_start_afresh(settings: ConfigDict) -> None:
    head = {"head": {"kernel": jnp.ones((2, 2))}}
    both = {**head, "backbone": {"block1": {"kernel": jnp.ones((3, 3))}}}
    first, second = make_phase(("head",), (0,)), make_phase(("backbone/block1", "head"), (1, 0))
    tx = optimizer.create(settings, first, STAGES)
    state = tx.init(head)
    for _ in range(5):
        _, state = tx.update(jax.tree.map(lambda p: 0.1 * p, head), state, head)

    new_tx = optimizer.create(settings, second, STAGES)
    carried = optimizer.carry_moments(state, new_tx.init(both))
    adam = carried[1].inner_states
    assert int(adam["phase_0"].inner_state.count) == 5
    assert int(adam["phase_1"].inner_state.count) == 0
    old_mu = state[1].inner_states["phase_0"].inner_state.mu["head"]["kernel"]
    np.testing.assert_array_equal(adam["phase_0"].inner_state.mu["head"]["kernel"], old_mu)
    assert float(jnp.abs(old_mu).sum()) > 0
    assert jax.tree.structure(carried) == jax.tree.structure(new_tx.init(both))

    # Both groups take a first step of the learning rate's size: bias correction is right for each.
    updates, _ = new_tx.update(jax.tree.map(lambda p: 0.1 * p, both), carried, both)
    step_sizes = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(updates)]
    np.testing.assert_allclose(step_sizes, 1e-2 * 0.1, rtol=1e-2)
    assert optax.tree_utils.tree_get(carried, "count", filtering=_is_schedule) == 0


def _is_schedule(path: tuple, value: object) -> bool:
    del value
    return "ScaleByScheduleState" in str(path)


def test_warm_restarts_begin_anew_after_longer_and_longer_cycles(settings: ConfigDict) -> None:
    settings.update(schedule="warm_restarts", warmup_fraction=0.0)
    settings.update(restart_epochs=2, restart_factor=2.0)
    rates = optimizer.learning_rates(settings, make_phase(("head",), (0,), num_steps=100))
    restarts = [0, *(np.flatnonzero(np.diff(rates) > 0) + 1)]
    assert restarts == [0, 20, 60]  # ten steps an epoch: cycles of 20, 40, 80
    np.testing.assert_allclose(rates[restarts], 1e-2, rtol=1e-6)
    np.testing.assert_allclose(rates[10], 1e-2 * (0.01 + 0.99 / 2), rtol=1e-5)


def test_a_constant_schedule_stays_at_the_peak_after_the_warm_up(settings: ConfigDict) -> None:
    settings.schedule = "constant"
    rates = optimizer.learning_rates(settings, make_phase(("head",), (0,)))
    assert rates[0] == pytest.approx(1e-3)
    np.testing.assert_allclose(rates[20:], 1e-2, rtol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "lamb", "lion"])
def test_each_optimizer_does_what_optax_s_own_of_that_name_does(
    settings: ConfigDict, name: str
) -> None:
    settings.update(name=name, clip_norm=0.0, weight_decay=0.1, warmup_fraction=0.0)
    settings.update(schedule="constant", b1=0.8, b2=0.9, momentum=0.7, nesterov=True)
    params = {"head": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([3.0, 0.5])}}
    mask = optimizer.is_decayed
    by_optax = {
        "adamw": optax.adamw(1e-2, 0.8, 0.9, weight_decay=0.1, mask=mask),
        "adam": optax.chain(optax.add_decayed_weights(0.1, mask), optax.adam(1e-2, 0.8, 0.9)),
        "sgd": optax.chain(optax.add_decayed_weights(0.1, mask), optax.sgd(1e-2, 0.7, True)),
        "lamb": optax.lamb(1e-2, 0.8, 0.9, eps=1e-8, weight_decay=0.1, mask=mask),
        "lion": optax.lion(1e-2, 0.8, 0.9, weight_decay=0.1, mask=mask),
    }[name]
    ours = optimizer.create(settings, make_phase(("head",), (0,)), STAGES)
    after = []
    for tx in (ours, by_optax):
        moved, state = params, tx.init(params)
        for step in range(3):
            grads = jax.tree.map(lambda leaf, step=step: jnp.cos(leaf * (step + 1)), moved)
            updates, state = tx.update(grads, state, moved)
            moved = optax.apply_updates(moved, updates)
        after.append(moved)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *after)
    assert not np.allclose(after[0]["head"]["bias"], params["head"]["bias"])


def test_layer_decay_slows_stages_by_their_distance_from_the_head(settings: ConfigDict) -> None:
    settings.update(layer_decay=0.5, weight_decay=0.0, clip_norm=0.0, warmup_fraction=0.0)
    layers = ("backbone/stem/conv", "backbone/block1/conv", "head/logits")
    params = {
        "backbone": {"stem": {"conv": {"kernel": jnp.ones(2)}},
                     "block1": {"conv": {"kernel": jnp.ones(2)}}},
        "head": {"logits": {"kernel": jnp.ones(2)}},
    }  # fmt: skip
    tx = optimizer.create(settings, make_phase(layers, (0, 0, 0)), STAGES)
    updates, _ = tx.update(params, tx.init(params), params)
    moved = [updates["backbone"]["stem"], updates["backbone"]["block1"], updates["head"]]
    whole = [jax.tree.leaves(one)[0][0] for one in moved]
    np.testing.assert_allclose(whole, [-2.5e-3, -5e-3, -1e-2], rtol=1e-5)


@pytest.mark.parametrize(
    ("field", "expected"),
    [("clip_value", [1.0, 1.0]), ("clip_norm", [0.6, 0.8]), ("clip_adaptive", [0.6, 0.8])],
)
def test_gradients_are_clipped_by_value_norm_or_the_parameters_norm(
    settings: ConfigDict, field: str, expected: list[float]
) -> None:
    settings.update(clip_norm=0.0, name="sgd", momentum=0.0, nesterov=False, weight_decay=0.0)
    settings.update(schedule="constant", warmup_fraction=0.0)
    settings[field] = 1.0
    params = {"head": {"kernel": jnp.array([0.6, 0.8])}}
    grads = {"head": {"kernel": jnp.array([3.0, 4.0])}}
    tx = optimizer.create(settings, make_phase(("head",), (0,)), STAGES)
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["head"]["kernel"], -1e-2 * np.array(expected), rtol=1e-5)
