"""Fitting what tells images that a model does not know: features of its own data."""

from pathlib import Path

import numpy as np
from absl import logging

from skinjax import (
    run_data,
    trained,
    unknown,
)
from skinjax.data import threads
from skinjax.data.prepared import PreparedDataset
from skinjax.errors import InputError
from skinjax.predict.outputs import Prepared, Runner
from skinjax.trained import TrainedModel

_LEAST_SHRINKAGE = 1e-6


def fit(
    workdir: Path | str, which: str, method: str, max_per_class: int, moved: run_data.Moved
) -> Path:
    """`unknown.fit`; `moved` has fields of `config.data`, None where they stay as they are."""
    model = trained.load(workdir, which)
    prepared = open_data(model, moved)
    runner = Runner(model, batch_size=model.config.evaluate.batch_size or model.config.batch_size)
    label_N = prepared.labels(("train",))
    row_N = _drawn(label_N, max_per_class)
    _, train_ND = split_outputs(runner, prepared, "train", row_N)
    val_NC, val_ND = split_outputs(runner, prepared, "val")
    arrays = [array.astype(np.float32) for array in gaussians(train_ND, label_N[row_N])]
    found = with_thresholds(method, val_NC, val_ND, *arrays)
    thresholds = found.thresholds
    num_images = {"train": len(row_N), "val": len(val_ND)}
    logging.info(
        "images whose %s score is above %.6g are unknown: fitted to %d training images, set by %d"
        " of validation, of which %.0f %% are below",
        method, thresholds[method], len(row_N), len(val_ND), 100 * unknown.KNOWN_SHARE,
    )  # fmt: skip
    return unknown.save(model.workdir, model.step, found, model.classes, num_images)


def open_data(model: TrainedModel, moved: run_data.Moved) -> PreparedDataset:
    """The prepared data set that the model was trained on.

    Raises:
      InputError: as `run_data.open_data`, or it has no images for training or for validation.
    """
    _, prepared = run_data.open_data(
        model.config, model.classes, model.fingerprint, model.workdir, moved
    )
    for split in ("train", "val"):
        if not sum(prepared.counts[split]):
            raise InputError(f"{prepared.directory} has no images in the split {split}")
    return prepared


def split_outputs(
    runner: Runner, prepared: PreparedDataset, split: str, row_N: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, C) and features (N, D), float32, of a split, or of some rows of it."""
    model = runner.model
    cached = model.config.data.cache
    source = prepared.source((split,), cached=cached, encoder=model.encoder)
    rows = range(len(source)) if row_N is None else row_N.tolist()
    records = threads.map_in_order(source.__getitem__, rows)
    images = (Prepared(None, one["image"], one.get("metadata")) for one in records)
    outputs = [one for batch in runner.batches(images, with_features=True) for one in batch]
    wrong = [one.error for one in outputs if one.error]
    if wrong:
        raise InputError(f"{len(wrong)} images of {split} can't be predicted: {wrong[0]}")
    return (
        np.array([one.logits_C for one in outputs]),
        np.array([one.features_D for one in outputs]),
    )


def gaussians(
    features_ND: np.ndarray, label_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fits a normal distribution to each class, with one covariance, shrunk towards a sphere.

    How far it is shrunk follows from the data (Ledoit and Wolf, "A well-conditioned estimator for
    large-dimensional covariance matrices", J. Multivariate Analysis 88, 2004), so that it can be
    inverted though there are fewer images than features, or features that are always 0.

    Args:
      features_ND: of training images.
      label_N: their classes; those without an image have no mean.

    Returns:
      `center_D`, `whitening_DD` and `means_KD` of `Unknown`, as float64.

    Raises:
      InputError: the features are not finite, or all the same within each class.
    """
    features_ND = np.asarray(features_ND, np.float64)
    if not np.isfinite(features_ND).all():
        raise InputError("the network's features of training images are not finite; train anew")
    center_D = features_ND.mean(axis=0)
    features_ND = features_ND - center_D
    present = np.unique(label_N)
    means_KD = np.stack([features_ND[label_N == label].mean(axis=0) for label in present])
    within_ND = features_ND - means_KD[np.searchsorted(present, label_N)]
    covariance_DD = _shrunk_covariance(within_ND)
    if not covariance_DD.trace() > 0:
        raise InputError(
            "the network's features don't differ between training images of a class, so that"
            " nothing can be said of others; train it for longer"
        )
    lower_DD = np.linalg.cholesky(covariance_DD)
    whitening_DD = np.linalg.solve(lower_DD, np.eye(len(lower_DD))).T
    return center_D, whitening_DD, means_KD @ whitening_DD


def _shrunk_covariance(within_ND: np.ndarray) -> np.ndarray:
    """Ledoit and Wolf's estimate from features with mean 0."""
    num_examples, num_features = within_ND.shape
    covariance_DD = within_ND.T @ within_ND / num_examples
    variance = covariance_DD.trace() / num_features
    sphere_DD = variance * np.eye(num_features)
    apart = np.sum((covariance_DD - sphere_DD) ** 2)
    norm_N = np.sum(within_ND**2, axis=1)
    noise = (np.sum(norm_N**2) / num_examples - np.sum(covariance_DD**2)) / num_examples
    share = min(1.0, noise / apart) if apart > 0 else 1.0
    # A little in any case: with many images the noise is next to nothing, and a feature that is
    # always 0 would have no variance to divide by.
    share = max(share, _LEAST_SHRINKAGE)
    return np.asarray(share * sphere_DD + (1 - share) * covariance_DD)


def with_thresholds(
    method: str,
    val_NC: np.ndarray,
    val_ND: np.ndarray,
    center_D: np.ndarray,
    whitening_DD: np.ndarray,
    means_KD: np.ndarray,
) -> unknown.Unknown:
    """The measure with scales and thresholds of the validation images' logits and features."""
    arrays = (center_D, whitening_DD, means_KD)
    unscaled = dict.fromkeys(("mahalanobis", "energy"), (0.0, 1.0))
    scores = unknown.Unknown(method, {}, unscaled, *arrays).every_score(val_NC, val_ND)
    scales = {}
    for name in unscaled:
        zero, one = float(np.median(scores[name])), _threshold(scores[name])
        # Where all images have one score, the next number above it.
        scales[name] = (zero, max(one, float(np.nextafter(zero, np.inf))))
    scaled = unknown.Unknown(method, {}, scales, *arrays)
    thresholds = {
        name: _threshold(score_N) for name, score_N in scaled.every_score(val_NC, val_ND).items()
    }
    return unknown.Unknown(method, thresholds, scales, *arrays)


def _drawn(label_N: np.ndarray, max_per_class: int) -> np.ndarray:
    """Rows of at most so many images of each class, ascending; the same in every run."""
    generator = np.random.default_rng(0)
    shuffled_N = generator.permutation(len(label_N))
    rows = [shuffled_N[label_N[shuffled_N] == label][:max_per_class] for label in set(label_N)]
    return np.sort(np.concatenate(rows))


def _threshold(score_N: np.ndarray) -> float:
    """The least score that `KNOWN_SHARE` of these are not above."""
    return float(np.quantile(score_N, unknown.KNOWN_SHARE, method="inverted_cdf"))
