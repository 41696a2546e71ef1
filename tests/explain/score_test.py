"""The score: against values by hand, and what it promises of two classes."""

import jax
import jax.numpy as jnp
import numpy as np

from skinjax.explain import score


def test_by_hand() -> None:
    logits_BC = jnp.array([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
    np.testing.assert_allclose(score.contrast(logits_BC, jnp.array([2, 0])), [4.5, -1.5])


def test_of_two_classes_it_is_the_log_odds_and_a_sigmoids_first_class_has_a_gradient() -> None:
    z = jnp.array([0.7, -1.2])
    logits_BC = jnp.stack([jnp.zeros(2), z], axis=1)
    probability_BC = jax.nn.softmax(logits_BC)
    for label in (0, 1):
        p_B = probability_BC[:, label]
        wanted = jnp.log(p_B / (1 - p_B))
        np.testing.assert_allclose(score.contrast(logits_BC, jnp.full(2, label)), wanted, rtol=1e-5)

    def total(z: jax.Array) -> jax.Array:
        return score.contrast(jnp.stack([jnp.zeros(2), z], axis=1), jnp.array([0, 1])).sum()

    np.testing.assert_allclose(jax.grad(total)(z), [-1, 1])


def test_a_constant_on_all_logits_changes_nothing() -> None:
    logits_BC = jax.random.normal(jax.random.key(0), (5, 4))
    class_B = jnp.array([0, 1, 2, 3, 1])
    np.testing.assert_allclose(
        score.contrast(logits_BC + 3, class_B), score.contrast(logits_BC, class_B), atol=1e-5
    )
