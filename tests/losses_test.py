"""Losses against hand values, scikit-learn, SciPy, optax and finite differences."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from skinjax import losses
from skinjax.config import default_config
from skinjax.data import splits
from skinjax.errors import InputError

LOG2 = math.log(2.0)


def _logits(seed: int, num_examples: int = 9, num_classes: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=2, size=(num_examples, num_classes))


def _focal_float64(
    logits_BC: np.ndarray, label_BC: np.ndarray, gamma: float, alpha_C: np.ndarray
) -> np.ndarray:
    """The definition as it stands, in float64."""
    p_BC = scipy.special.softmax(logits_BC, -1)
    return -(label_BC * alpha_C * (1 - p_BC) ** gamma * np.log(p_BC)).sum(-1)


def test_cross_entropy_by_hand():
    logits_BC = jnp.array([[0.0, 0.0, LOG2], [LOG2, 0.0, 0.0]])
    # Probabilities 1/4, 1/4, 1/2 and 1/2, 1/4, 1/4.
    np.testing.assert_allclose(
        losses.cross_entropy(logits_BC, jnp.array([2, 1])), [LOG2, 2 * LOG2], rtol=1e-6
    )
    # Smoothing 0.3 over three classes: 0.8, 0.1, 0.1.
    smoothed = 0.8 * LOG2 + 0.1 * 2 * LOG2 + 0.1 * 2 * LOG2
    np.testing.assert_allclose(
        losses.cross_entropy(logits_BC, jnp.array([2, 0]), label_smoothing=0.3),
        [smoothed, smoothed],
        rtol=1e-6,
    )


def test_cross_entropy_is_sklearns_log_loss():
    logits_BC, label_B = _logits(0), np.arange(9) % 4
    expected = reference.log_loss(label_B, scipy.special.softmax(logits_BC, -1))
    loss_B = losses.cross_entropy(jnp.asarray(logits_BC), jnp.asarray(label_B))
    assert loss_B.dtype == jnp.float32
    assert float(loss_B.mean()) == pytest.approx(expected, rel=1e-6)


@given(seed=st.integers(0, 1000), smoothing=st.floats(0, 0.9))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_cross_entropy_is_optaxs(seed: int, smoothing: float):
    logits_BC, label_B = jnp.asarray(_logits(seed)), jnp.arange(9) % 4
    label_BC = optax.smooth_labels(jax.nn.one_hot(label_B, 4), smoothing)
    expected = optax.softmax_cross_entropy(logits_BC, label_BC)
    for labels in (label_B, jax.nn.one_hot(label_B, 4)):
        result = losses.cross_entropy(logits_BC, labels, label_smoothing=smoothing)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_focal_by_hand():
    logits_BC = jnp.array([[0.0, 0.0, LOG2], [LOG2, 0.0, 0.0]])
    result = losses.focal(logits_BC, jnp.array([2, 1]), gamma=2.0, alpha=(1.0, 3.0, 0.5))
    expected = [0.5 * (1 / 2) ** 2 * LOG2, 3.0 * (3 / 4) ** 2 * 2 * LOG2]
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    # Half of the first class, half of the last; probabilities 1/4 and 1/2.
    result = losses.focal(logits_BC[:1], jnp.array([[0.5, 0.0, 0.5]]), gamma=1.0)
    expected = [0.5 * (3 / 4) * 2 * LOG2 + 0.5 * (1 / 2) * LOG2]
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_focal_of_two_classes_is_the_papers():
    x_B, label_B = np.linspace(-6, 6, 13), np.arange(13) % 2
    alpha, gamma = 0.25, 2.0
    p_B = scipy.special.expit(x_B)
    p_t = np.where(label_B == 1, p_B, 1 - p_B)
    alpha_t = np.where(label_B == 1, alpha, 1 - alpha)
    expected = -alpha_t * (1 - p_t) ** gamma * np.log(p_t)
    logits_BC = jnp.stack([jnp.zeros(13), jnp.asarray(x_B)], -1)
    result = losses.focal(logits_BC, jnp.asarray(label_B), gamma=gamma, alpha=(1 - alpha, alpha))
    np.testing.assert_allclose(result, expected, rtol=2e-5, atol=1e-8)


@given(
    seed=st.integers(0, 1000),
    gamma=st.sampled_from([0.0, 0.3, 1.0, 2.0, 5.0]),
    smoothing=st.sampled_from([0.0, 0.1]),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_focal_is_its_definition_in_float64(seed: int, gamma: float, smoothing: float):
    logits_BC = _logits(seed)
    rng = np.random.default_rng(seed)
    label_BC, alpha_C = rng.dirichlet(np.ones(4), size=9), rng.uniform(0.1, 3, size=4)
    smoothed_BC = (1 - smoothing) * label_BC + smoothing / 4
    result = losses.focal(
        jnp.asarray(logits_BC),
        jnp.asarray(label_BC),
        gamma=gamma,
        alpha=tuple(alpha_C),
        label_smoothing=smoothing,
    )
    expected = _focal_float64(logits_BC, smoothed_BC, gamma, alpha_C)
    np.testing.assert_allclose(result, expected, rtol=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_focal_without_gamma_and_alpha_is_cross_entropy(smoothing: float):
    logits_BC, label_B = jnp.asarray(_logits(3)), jnp.arange(9) % 4

    def focal(logits_BC: jax.Array) -> jax.Array:
        return losses.focal(logits_BC, label_B, gamma=0.0, label_smoothing=smoothing)

    def plain(logits_BC: jax.Array) -> jax.Array:
        return losses.cross_entropy(logits_BC, label_B, label_smoothing=smoothing)

    np.testing.assert_array_equal(focal(logits_BC), plain(logits_BC))
    np.testing.assert_allclose(
        jax.grad(lambda x: focal(x).sum())(logits_BC),
        jax.grad(lambda x: plain(x).sum())(logits_BC),
        atol=1e-7,
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_gradients_are_finite_differences(gamma: float):
    logits_BC = _logits(4, num_examples=3)
    label_BC = np.random.default_rng(0).dirichlet(np.ones(4), size=3)
    alpha_C = np.array([0.5, 1.0, 2.0, 1.5])

    def total(logits_BC: jax.Array) -> jax.Array:
        return losses.focal(
            logits_BC, jnp.asarray(label_BC), gamma=gamma, alpha=tuple(alpha_C)
        ).sum()

    gradient_BC = np.asarray(jax.jit(jax.grad(total))(jnp.asarray(logits_BC)))
    step, expected_BC = 1e-6, np.zeros_like(logits_BC)
    for place in np.ndindex(logits_BC.shape):
        change_BC = np.zeros_like(logits_BC)
        change_BC[place] = step
        above, below = (
            _focal_float64(logits_BC + sign * change_BC, label_BC, gamma, alpha_C).sum()
            for sign in (1, -1)
        )
        expected_BC[place] = (above - below) / (2 * step)
    np.testing.assert_allclose(gradient_BC, expected_BC, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [20.0, 100.0, 1e4])
@pytest.mark.parametrize("gamma", [None, 0.0, 0.1, 0.5, 1.0, 2.0])
def test_extreme_logits_are_finite(size: float, gamma: float | None):
    # Sure and right, sure and wrong, all alike at both ends; hard and soft labels.
    logits_BC = size * jnp.array([[1.0, -1, -1], [-1, 1, -1], [1, 1, 1], [-1, -1, -1], [1, 1, -1]])
    label_B = jnp.zeros(5, jnp.int32)
    for labels in (label_B, jnp.full((5, 3), 1 / 3), jax.nn.one_hot(label_B, 3)):

        def total(logits_BC: jax.Array, labels: jax.Array = labels) -> tuple[jax.Array, jax.Array]:
            if gamma is None:
                loss_B = losses.cross_entropy(logits_BC, labels)
            else:
                loss_B = losses.focal(logits_BC, labels, gamma=gamma)
            return loss_B.sum(), loss_B

        gradient_BC, loss_B = jax.grad(total, has_aux=True)(logits_BC)
        assert np.isfinite(gradient_BC).all()
        assert np.isfinite(loss_B).all()
    gradient_BC, loss_B = jax.grad(lambda x: total(x, label_B), has_aux=True)(logits_BC)
    assert loss_B[0] == pytest.approx(0.0, abs=1e-6)
    assert loss_B[1] == pytest.approx(2 * size, rel=1e-5)
    # What is surely wrong is still pulled right, with full strength.
    np.testing.assert_allclose(gradient_BC[1], [-1.0, 1.0, 0.0], atol=1e-4)


def test_focal_keeps_the_gradient_of_sure_predictions():
    # 1 - p = 2e-13 rounds to 0 next to 1: the power must not lose it or blow up.
    logits_BC, gamma = jnp.array([[30.0, 0.0, 0.0]]), 0.5
    smoothed = jnp.array([[0.8, 0.1, 0.1]])
    result = losses.focal(logits_BC, smoothed, gamma=gamma)
    rest = 2 * np.exp(-30.0)
    expected = 0.8 * rest**gamma * rest + 2 * 0.1 * 30.0
    np.testing.assert_allclose(result, [expected], rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "seen"),
    [
        (jnp.zeros((3,), jnp.int32), r"int32 \(3,\)"),
        (jnp.zeros((2,), jnp.float32), r"float32 \(2,\)"),
        (jnp.zeros((2, 4), jnp.int32), r"int32 \(2, 4\)"),
        (jnp.zeros((2, 3), jnp.float32), r"float32 \(2, 3\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: jax.Array, seen: str):
    for loss in (losses.cross_entropy, lambda x, y: losses.focal(x, y, gamma=2.0)):
        with pytest.raises(InputError, match=seen):
            loss(jnp.zeros((2, 4)), labels)


def test_alpha_of_another_length_is_refused():
    with pytest.raises(InputError, match=r"focal_alpha has 2 numbers; expected .* 4 classes"):
        losses.focal(jnp.zeros((2, 4)), jnp.zeros(2, jnp.int32), gamma=2.0, alpha=(1.0, 2.0))


def test_example_weights():
    weights_C = jnp.array([0.5, 1.0, 4.0])
    weight_B = losses.example_weights(jnp.array([2, 0, 0]), weights_C)
    np.testing.assert_allclose(weight_B, [4.0, 0.5, 0.5])
    soft = jnp.array([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(losses.example_weights(soft, weights_C), [2.25, 1.0])


def test_reduce_terms_by_hand():
    loss_B, weight_B = jnp.array([1.0, 2.0, 5.0, jnp.nan]), jnp.array([0.5, 3.0, 1.0, 9.0])
    mask_B = jnp.array([True, True, True, False])
    numerator, denominator = losses.reduce_terms(loss_B, weight_B, mask_B, "batch")
    assert (float(numerator), float(denominator)) == (11.5, 3.0)
    numerator, denominator = losses.reduce_terms(loss_B, weight_B, mask_B, "weights")
    assert (float(numerator), float(denominator)) == (11.5, 4.5)
    numerator, denominator = losses.reduce_terms(loss_B, weight_B, mask_B & False, "weights")
    assert (float(numerator), float(denominator)) == (0.0, 0.0)
    with pytest.raises(InputError, match="'mean'; expected one of batch, weights"):
        losses.reduce_terms(loss_B, weight_B, mask_B, "mean")


def test_mean_by_weights_is_sklearns_weighted_log_loss():
    logits_BC, label_B = _logits(5), np.arange(9) % 4
    weights_C = splits.class_weights(np.bincount(label_B), 1.0)
    expected = reference.log_loss(
        label_B, scipy.special.softmax(logits_BC, -1), sample_weight=weights_C[label_B]
    )
    loss_B = losses.cross_entropy(jnp.asarray(logits_BC), jnp.asarray(label_B))
    weight_B = losses.example_weights(jnp.asarray(label_B), jnp.asarray(weights_C))
    numerator, denominator = losses.reduce_terms(loss_B, weight_B, jnp.ones(9, bool), "weights")
    assert float(numerator / denominator) == pytest.approx(expected, rel=1e-5)


@given(parts=st.integers(1, 8), seed=st.integers(0, 100))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_terms_add_up_over_devices(parts: int, seed: int):
    rng = np.random.default_rng(seed)
    loss_B, weight_B = rng.uniform(size=(2, 16))
    mask_B = rng.uniform(size=16) > 0.3
    for reduction in losses.REDUCTIONS:
        whole = losses.reduce_terms(*map(jnp.asarray, (loss_B, weight_B, mask_B)), reduction)
        pieces = [
            losses.reduce_terms(*map(jnp.asarray, piece), reduction)
            for piece in zip(
                *(np.array_split(x, parts) for x in (loss_B, weight_B, mask_B)), strict=True
            )
        ]
        np.testing.assert_allclose(np.sum(pieces, 0), whole, rtol=1e-5)


def test_from_config():
    logits_BC, label_B = jnp.asarray(_logits(6)), jnp.arange(9) % 4
    config = default_config().loss
    np.testing.assert_array_equal(
        losses.from_config(config)(logits_BC, label_B), losses.cross_entropy(logits_BC, label_B)
    )
    config.label_smoothing = 0.1
    np.testing.assert_array_equal(
        losses.from_config(config)(logits_BC, label_B),
        losses.cross_entropy(logits_BC, label_B, label_smoothing=0.1),
    )
    config.name, config.focal_gamma, config.focal_alpha = "focal", 1.5, (1.0, 2.0, 3.0, 4.0)
    np.testing.assert_array_equal(
        losses.from_config(config)(logits_BC, label_B),
        losses.focal(
            logits_BC, label_B, gamma=1.5, alpha=(1.0, 2.0, 3.0, 4.0), label_smoothing=0.1
        ),
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"class_weights": (1.0, 0.0, 2.0)},
        {"class_weight_exponent": 1.0, "class_weight_beta": 0.9999, "class_weight_scale": "sum"},
        {"class_weight_exponent": 1.0, "class_weight_scale": "majority"},
    ],
)
def test_from_config_takes_class_weights_of_all_kinds(fields: dict[str, object]):
    config = default_config().loss
    config.update(fields)
    losses.from_config(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "hinge"),
        ("label_smoothing", 1.0),
        ("label_smoothing", math.nan),
        ("label_smoothing", math.inf),
        ("focal_gamma", -1.0),
        ("focal_gamma", math.nan),
        ("focal_gamma", math.inf),
        ("focal_alpha", (1.0, -1.0)),
        ("focal_alpha", (1.0, math.nan)),
        ("focal_alpha", (math.inf, 1.0)),
        ("class_weight_exponent", -0.5),
        ("class_weight_exponent", math.nan),
        ("class_weight_exponent", math.inf),
        ("class_weight_beta", 0.999),  # without an exponent
        ("class_weight_beta", 1.0),
        ("class_weight_beta", -0.1),
        ("class_weight_beta", math.nan),
        ("class_weight_scale", "minority"),
        ("class_weights", (1.0, -1.0)),
        ("class_weights", (1.0, math.inf)),
        ("class_weights", (0.0, 0.0)),
        ("class_weights", ("1", "2")),
        ("reduction", "mean"),
    ],
)
def test_from_config_names_the_field(field: str, value: object):
    config = default_config().loss
    config[field] = value
    with pytest.raises(InputError, match=rf"loss\.{field} is .*expected") as error:
        losses.from_config(config)
    assert "\n" not in str(error.value)
