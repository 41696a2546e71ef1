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


def make_phase(trainable: tuple[str, ...], since: tuple[int, ...], num_steps: int = 100) -> Phase:
    return Phase(
        index=max(since),
        trainable=trainable,
        frozen=(),
        since=since,
        first_step=0,
        num_steps=num_steps,
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
    tx = optimizer.create(settings, phase)
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
    state = optimizer.create(settings, make_phase(("head",), (0,))).init(trainable)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 2 * 8 + 2  # moments, two counts


def test_moments_are_carried_and_newcomers_start_afresh(settings: ConfigDict) -> None:
    head = {"head": {"kernel": jnp.ones((2, 2))}}
    both = {**head, "backbone": {"block1": {"kernel": jnp.ones((3, 3))}}}
    first, second = make_phase(("head",), (0,)), make_phase(("backbone/block1", "head"), (1, 0))
    tx = optimizer.create(settings, first)
    state = tx.init(head)
    for _ in range(5):
        _, state = tx.update(jax.tree.map(lambda p: 0.1 * p, head), state, head)

    new_tx = optimizer.create(settings, second)
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
