"""Tests of telling images that a model does not know."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import scipy.special
import sklearn.covariance

from skinjax import fitted, predict, unknown
from skinjax.errors import InputError
from skinjax.unknown import Unknown
from skinjax.unknown import fitting as unknown_fit

CLASSES = ("a", "b", "c")


@pytest.fixture
def features() -> tuple[np.ndarray, np.ndarray]:
    """300 images of 3 classes, 6 features, of which the last is always 0."""
    rng = np.random.default_rng(0)
    label_N = rng.integers(0, 3, 300)
    mixing_DD = rng.normal(size=(6, 6))
    features_ND = rng.normal(size=(300, 6)) @ mixing_DD + 5 * rng.normal(size=(3, 6))[label_N]
    features_ND[:, 5] = 0
    return features_ND, label_N


def fit(features: tuple[np.ndarray, np.ndarray], method: str = "either") -> Unknown:
    arrays = [array.astype(np.float32) for array in unknown_fit.gaussians(*features)]
    logits_NC = np.random.default_rng(1).normal(size=(len(features[0]), 3))
    return unknown_fit.with_thresholds(method, logits_NC, features[0], *arrays)


def test_mahalanobis_as_sklearn_estimates_the_covariance(
    features: tuple[np.ndarray, np.ndarray],
) -> None:
    features_ND, label_N = features
    found = fit(features)
    mean_CD = np.stack([features_ND[label_N == label].mean(0) for label in range(3)])
    within_ND = features_ND - mean_CD[label_N]
    covariance_DD, _ = sklearn.covariance.ledoit_wolf(within_ND, assume_centered=True)
    asked_ND = np.random.default_rng(2).normal(scale=5, size=(20, 6))
    asked_ND[:10, 5] = 0
    difference_NCD = asked_ND[:, None] - mean_CD
    inverse_DD = np.linalg.inv(covariance_DD)
    expected_N = np.einsum("ncd,de,nce->nc", difference_NCD, inverse_DD, difference_NCD).min(1)
    np.testing.assert_allclose(found.mahalanobis(asked_ND), expected_N, rtol=1e-3)


def test_energy_is_minus_logsumexp() -> None:
    logits_NC = np.random.default_rng(0).normal(scale=300, size=(50, 4))
    np.testing.assert_allclose(
        unknown.energy(logits_NC), -scipy.special.logsumexp(logits_NC, axis=1), rtol=1e-12
    )


@pytest.mark.parametrize("method", unknown.METHODS)
def test_five_percent_of_validation_are_abstained_on(
    features: tuple[np.ndarray, np.ndarray], method: str
) -> None:
    found = fit(features, method)
    logits_NC = np.random.default_rng(1).normal(size=(300, 3))
    score_N = found.scores(logits_NC, features[0])
    assert found.abstains(score_N).sum() == 15
    assert found.abstains(np.array([np.nan, np.inf])).all()


def test_either_is_the_larger_on_the_scale_of_validation(
    features: tuple[np.ndarray, np.ndarray],
) -> None:
    found = fit(features)
    far_D = np.full((1, 6), 1e3)
    near_D = features[0][features[1] == 0].mean(0, keepdims=True)
    usual_C, flat_C = np.array([[0.0, 3, 0]]), np.array([[-9.0, -9, -9]])
    assert not found.abstains(found.scores(usual_C, near_D)).any()
    assert found.abstains(found.scores(usual_C, far_D)).all()
    assert found.abstains(found.scores(flat_C, near_D)).all()
    for name, (zero, one) in found.scales.items():
        scores = {"mahalanobis": found.mahalanobis(far_D), "energy": unknown.energy(flat_C)}
        larger = found.scores(*((usual_C, far_D) if name == "mahalanobis" else (flat_C, near_D)))
        np.testing.assert_allclose(larger, (scores[name] - zero) / (one - zero))


def test_features_that_can_not_be_used(features: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(InputError, match="don't differ between training images of a class"):
        unknown_fit.gaussians(np.ones((9, 2)), np.zeros(9, int))
    with pytest.raises(InputError, match="not finite"):
        unknown_fit.gaussians(np.full((9, 2), np.nan), np.zeros(9, int))


def test_training_images_are_drawn_by_class() -> None:
    label_N = np.repeat([0, 1, 2], [50, 3, 7])
    row_N = unknown_fit._drawn(label_N, 5)
    assert np.bincount(label_N[row_N]).tolist() == [5, 3, 5]
    np.testing.assert_array_equal(row_N, unknown_fit._drawn(label_N, 5))
    assert len(set(row_N)) == 13


def test_saved_and_loaded(features: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    assert unknown.load(tmp_path, 7, CLASSES) is None
    found = fit(features)
    path = unknown.save(tmp_path, 7, found, CLASSES, {"train": 300})
    assert path == fitted.path(tmp_path, 7, fitted.UNKNOWN)
    loaded = unknown.load(tmp_path, 7, CLASSES)
    assert loaded is not None
    logits_NC = np.zeros((300, 3))
    np.testing.assert_array_equal(
        loaded.scores(logits_NC, features[0]), found.scores(logits_NC, features[0])
    )
    assert (loaded.method, loaded.thresholds, loaded.scales) == (
        found.method, found.thresholds, found.scales,
    )  # fmt: skip


def rewrite(path: Path, tensors: dict[str, Any], about: dict[str, Any]) -> None:
    """Writes the file again with some tensors and some of its description changed."""
    with safetensors.safe_open(path, framework="np") as file:
        old = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        described = json.loads(file.metadata()["skinjax"])
    new = {name: array for name, array in {**old, **tensors}.items() if array is not None}
    metadata = {"skinjax": json.dumps({**described, **about})}
    path.write_bytes(safetensors.numpy.save(new, metadata=metadata))


@pytest.mark.parametrize(
    ("tensors", "about", "message"),
    [
        ({}, {"step": 8}, "its step is 8, expected 7"),
        ({}, {"format": 9}, "its format is 9"),
        ({}, {"classes": ["a", "c", "b"]}, "its classes is"),
        ({}, {"method": "guess"}, "its method is 'guess'"),
        ({}, {"thresholds": {"energy": 1}}, "its thresholds are"),
        ({}, {"thresholds": dict.fromkeys(unknown.METHODS, True)}, "has True, expected a number"),
        ({}, {"thresholds": dict.fromkeys(unknown.METHODS, np.nan)}, "has nan"),
        ({}, {"scales": {"energy": [0, 1], "mahalanobis": [1, 1]}}, "expected growing ones"),
        ({}, {"scales": {"energy": [0, 1], "mahalanobis": 3}}, "expected two numbers"),
        ({"means": np.zeros((4, 6), np.float32)}, {}, "its arrays are"),
        ({"whitening": np.zeros((6, 5), np.float32)}, {}, "its arrays are"),
        ({"center": np.zeros(6)}, {}, "F32, F64"),
        ({"center": np.full(6, np.inf, np.float32)}, {}, "not finite"),
        ({"center": None}, {}, "it holds means, whitening"),
    ],
)
def test_files_that_can_not_be_right(
    features: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    tensors: dict[str, Any],
    about: dict[str, Any],
    message: str,
) -> None:
    path = unknown.save(tmp_path, 7, fit(features), CLASSES, {})
    rewrite(path, tensors, about)
    with pytest.raises(InputError, match=message) as raised:
        unknown.load(tmp_path, 7, CLASSES)
    assert "fit it again" in str(raised.value)


@pytest.mark.parametrize(
    "content", [b"", b"no safetensors", b"\xff" * 64, (2).to_bytes(8, "little") + b"{}"]
)
def test_broken_files(tmp_path: Path, content: bytes) -> None:
    path = fitted.path(tmp_path, 7, fitted.UNKNOWN)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(InputError, match="can't be used"):
        unknown.load(tmp_path, 7, CLASSES)


def test_fitted_to_a_run_and_used_by_the_predictor(trained_run: Path) -> None:
    path = unknown.fit(trained_run, method="mahalanobis", max_per_class=4)
    predictor = predict.Predictor(trained_run)
    assert predictor.unknown is not None
    assert predictor.unknown.method == "mahalanobis"
    model = predictor.model
    assert path == fitted.path(trained_run, model.step, fitted.UNKNOWN)
    # The validation images, in their shards, are those that the threshold lets pass.
    prepared = unknown_fit.open_data(model, {})
    images = [one["image"] for one in map(prepared.source(("val",)).__getitem__, range(14))]
    found = predictor.predict(images)
    assert sum(bool(one.abstained) for one in found) <= 1
    with pytest.raises(InputError, match="the method is 'x'"):
        unknown.fit(trained_run, method="x")
    with pytest.raises(InputError, match="max_per_class is 0"):
        unknown.fit(trained_run, max_per_class=0)
    model.config.data.train_on = "all"
    with pytest.raises(InputError, match="no split is left"):
        unknown_fit.open_data(model, {})
