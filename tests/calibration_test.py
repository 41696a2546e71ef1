"""Calibration: fitted by likelihood, applied to probabilities, kept and read back."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from skinjax import calibration, fitted
from skinjax.calibration import Calibration
from skinjax.errors import InputError

CLASSES = ("bcc", "mel", "nv")
TWICE = Calibration("temperature", (0.5, 0.5, 0.5), (0.0, 0.0, 0.0))


def _draw(logits_NC, seed=1):
    """A label for each row, from the distribution of its logits."""
    gumbel_NC = np.random.default_rng(seed).gumbel(size=logits_NC.shape)
    return np.argmax(logits_NC + gumbel_NC, axis=1)


def _log_loss(logits_NC, label_N):
    return -log_softmax(logits_NC, axis=1)[np.arange(len(label_N)), label_N].mean()


def _table(num_examples=4000, num_classes=3, seed=0):
    return np.random.default_rng(seed).normal(0, 3, (num_examples, num_classes))


def test_the_temperature_is_that_of_the_logits():
    logits_NC = _table()
    label_N = _draw(logits_NC / 2.5)
    fit = calibration.fit(softmax(logits_NC, axis=1), label_N)
    best = minimize_scalar(
        lambda log_t: _log_loss(logits_NC / np.exp(log_t), label_N),
        bounds=(-2, 2),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert fit.method == "temperature"
    assert fit.temperature == pytest.approx(np.exp(best.x), rel=1e-6)
    assert fit.temperature == pytest.approx(2.5, rel=0.08)
    np.testing.assert_allclose(
        fit.apply(softmax(logits_NC, axis=1)),
        softmax(logits_NC / fit.temperature, axis=1),
        rtol=1e-12,
    )


def test_vector_scaling_finds_scales_and_biases():
    logits_NC = _table(20000)
    log_NC = log_softmax(logits_NC, axis=1)
    scale_C, bias_C = np.array([0.5, 1.0, 0.8]), np.array([-0.6, 1.0, -0.4])
    label_N = _draw(scale_C * log_NC + bias_C)
    fit = calibration.fit(np.exp(log_NC), label_N, "vector")
    assert fit.temperature is None
    np.testing.assert_allclose(fit.scale_C, scale_C, atol=0.06)
    np.testing.assert_allclose(fit.bias_C, bias_C, atol=0.12)
    np.testing.assert_allclose(
        fit.apply(np.exp(log_NC)),
        softmax(np.array(fit.scale_C) * log_NC + np.array(fit.bias_C), axis=1),
        rtol=1e-12,
    )


def test_the_prior_of_vector_scaling_is_normal_about_the_temperature():
    logits_NC = _table(200)
    label_N = _draw(logits_NC * [1, 1, 0.3] + [0, 1, -1])
    probability_NC = softmax(logits_NC, axis=1)
    common = calibration.fit(probability_NC, label_N).scale_C[0]
    fit = calibration.fit(probability_NC, label_N, "vector")

    def loss(ratio_C, bias_C):
        prior = (np.sum(ratio_C**2) + np.sum(bias_C**2)) / 2 / 200
        scale_C = common * np.exp(ratio_C)
        return _log_loss(scale_C * np.log(probability_NC) + bias_C, label_N) + prior

    ratio_C, bias_C = np.log(np.array(fit.scale_C) / common), np.array(fit.bias_C)
    assert np.ptp(ratio_C) > 0.1
    for index in range(3):
        for step in (-1e-3, 1e-3):
            moved_C = step * np.eye(3)[index]
            assert loss(ratio_C, bias_C) < loss(ratio_C + moved_C, bias_C)
            assert loss(ratio_C, bias_C) < loss(ratio_C, bias_C + moved_C)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.sampled_from(("temperature", "vector")))
def test_fitting_never_makes_the_log_loss_worse(seed, num_classes, method):
    rng = np.random.default_rng(seed)
    label_N = np.repeat(np.arange(num_classes), 10 + rng.integers(0, 20, num_classes))
    # Ties, certainty that is right or wrong, and probabilities of 0.
    logits_NC = np.round(rng.normal(0, rng.choice([0.3, 3, 40]), (len(label_N), num_classes)))
    logits_NC[np.arange(len(label_N)), label_N] += rng.choice([-5, 0, 5, 200])
    probability_NC = softmax(logits_NC, axis=1)
    fit = calibration.fit(probability_NC, label_N, method)
    after_NC = fit.apply(probability_NC)
    np.testing.assert_allclose(after_NC.sum(axis=1), 1, rtol=1e-12)
    least = np.finfo(np.float32).tiny
    rows_N = np.arange(len(label_N))
    before = -np.log(np.maximum(probability_NC[rows_N, label_N], least)).mean()
    assert -np.log(np.maximum(after_NC[rows_N, label_N], 1e-300)).mean() <= before + 1e-9
    again = calibration.from_json(json.loads(json.dumps(fit.to_json())), "abcde"[:num_classes])
    assert again == fit


def test_certainty_stays_within_the_bounds():
    certain_NC = np.eye(3)[[0, 1, 2] * 10]
    right, wrong = np.array([0, 1, 2] * 10), np.array([1, 2, 0] * 10)
    assert calibration.fit(certain_NC, right).temperature == pytest.approx(0.05)
    assert calibration.fit(certain_NC, wrong).temperature == pytest.approx(20)
    unsure_NC = np.array([[0.5, 0.25, 0.25]] * 30)
    assert calibration.fit(unsure_NC, np.zeros(30, int)).temperature == pytest.approx(0.05)
    assert calibration.fit(unsure_NC, np.ones(30, int)).temperature == pytest.approx(20)
    softened_NC = calibration.fit(certain_NC, wrong).apply(certain_NC)
    assert softened_NC.min() > 0.01
    assert softened_NC.argmax(axis=1).tolist() == right.tolist()


def test_none_changes_nothing():
    probability_NC = np.array([[0.2, 0.8, 0.0]])
    assert calibration.fit(probability_NC, np.array([1]), "none") == calibration.identity(3)
    np.testing.assert_array_equal(calibration.identity(3).apply(probability_NC), probability_NC)
    assert calibration.identity(3).temperature is None


def test_apply_is_golden():
    half = TWICE.apply(np.array([[0.64, 0.32, 0.04]], np.float32))
    root = np.sqrt([0.64, 0.32, 0.04])
    np.testing.assert_allclose(half, [root / root.sum()], rtol=1e-6)
    assert half.dtype == np.float64
    assert TWICE.temperature == 2
    assert TWICE.apply(np.zeros((0, 3))).shape == (0, 3)
    with pytest.raises(ValueError, match=r"shape \(1, 2\), expected \(N, 3\)"):
        TWICE.apply(np.array([[0.5, 0.5]]))


def test_what_can_not_be_fitted_is_refused():
    probability_NC = np.full((29, 3), 1 / 3)
    label_N = np.array([0] * 10 + [1] * 10 + [2] * 9)
    with pytest.raises(InputError, match=r"needs 10 validation images of each class, and one has"):
        calibration.fit(probability_NC, label_N, "vector")
    with pytest.raises(InputError, match="no predictions to fit"):
        calibration.fit(np.zeros((0, 3)), np.zeros(0, int))
    with pytest.raises(InputError, match="--method=isotonic is none of none, temperature, vector"):
        calibration.fit(probability_NC, label_N, "isotonic")


def test_saved_beside_its_checkpoint_and_read_back(tmp_path):
    assert calibration.load(tmp_path, 7, CLASSES) is None
    path = calibration.save(tmp_path, 7, TWICE, CLASSES, 120)
    assert path == fitted.path(tmp_path, 7, fitted.CALIBRATION)
    assert calibration.load(tmp_path, 7, CLASSES) == TWICE
    assert calibration.load(tmp_path, 8, CLASSES) is None
    with pytest.raises(InputError, match=r"is of the classes \['bcc', 'mel', 'nv'\]"):
        calibration.load(tmp_path, 7, CLASSES[::-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "isotonic"}, "method 'isotonic' is none of"),
        ({"method": ["vector"]}, "is none of"),
        ({"scale": [0.5, 0.5]}, "expected 3 numbers from 0.05 to 20"),
        ({"scale": [0.5, 0.5, "0.5"]}, "expected 3 numbers"),
        ({"scale": [0.5, 0.5, True]}, "expected 3 numbers"),
        ({"scale": {"0": 1}}, "expected 3 numbers"),
        ({"scale": [0.5, 0.5, 0.7]}, "has one scale and no bias"),
        ({"scale": [0.0, 0.0, 0.0]}, "expected 3 numbers"),
        ({"scale": [-1, -1, -1]}, "expected 3 numbers"),
        ({"scale": [10**400] * 3}, "expected 3 numbers"),
        ({"bias": [0, 0, 1]}, "has one scale and no bias"),
        ({"bias": [0, 0, 1e9], "method": "vector"}, "expected 3 numbers from -20 to 20"),
        ({"method": "none"}, "has one scale and no bias"),
        ({"bias": None}, "expected 3 numbers"),
        ({"num_examples": -1}, "expected a count"),
        ({"num_examples": 2.5}, "expected a count"),
        ({"temperature": 2}, "has method, scale and bias"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, changes, message):
    path = calibration.save(tmp_path, 7, TWICE, CLASSES, 120)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=message) as caught:
        calibration.load(tmp_path, 7, CLASSES)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(("method", "scale", "bias")), inner)
        ),
    )
)
def test_any_json_gives_a_calibration_or_an_input_error(values):
    try:
        found = calibration.from_json(values, CLASSES)
    except InputError:
        return
    np.testing.assert_allclose(found.apply(np.full((1, 3), 1 / 3)).sum(), 1)


def test_applying_needs_neither_jax_nor_scipy():
    code = (
        "import sys; from skinjax import calibration, threshold; "
        "calibration.identity(2).apply([[0.5, 0.5]]); "
        "print([name for name in ('jax', 'scipy.optimize') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
