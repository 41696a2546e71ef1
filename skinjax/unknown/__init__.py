"""How unlike the training images an image is, and from where on a prediction means nothing.

Two scores and one of both, all higher for images that the network does not know:

- "energy": -logsumexp of the logits (Liu, Wang, Owens, Li, "Energy-based Out-of-distribution
  Detection", NeurIPS 2020, equation 4 with a temperature of 1);
- "mahalanobis": the squared Mahalanobis distance of the features to the nearest class mean, with
  one covariance for all classes (Lee, Lee, Lee, Shin, "A Simple Unified Framework for Detecting
  Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018, section 2.1);
- "either": the larger of the two, after each is put on a scale on which the validation images'
  median is 0 and their 95th percentile is 1. The first finds images of classes that the network
  does not have, and the second images of no skin at all, and hardly the other way round:
  scripts/unknown_images.py has the figures.

An image whose score is above that of 95 % of the validation images is abstained on. So 5 % of
images like these are too: neither score is a proof that an image is or isn't of a known kind.
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skinjax import fitted, logs
from skinjax.errors import InputError

METHODS = ("either", "mahalanobis", "energy")
KNOWN_SHARE = 0.95  # of the validation images that are not abstained on
MAX_PER_CLASS = 500  # training images

_FORMAT = 1
_TENSORS = ("center", "whitening", "means")
_MOST_FEATURES = 8192  # whose matrix takes 268 MB; the widest network here, VGG, has 4,096
_ADVICE = "delete it, and fit it again with the verb calibrate"


@dataclass(frozen=True)
class Unknown:
    """What was fitted to a checkpoint.

    Attributes:
      method: which of `METHODS` `scores` gives.
      thresholds: of each method; what is above is abstained on.
      scales: of "mahalanobis" and "energy": the score that becomes 0 and the one that becomes 1.
      center_D: float32, mean of the training features.
      whitening_DD: float32, which makes the features' covariance within a class the identity.
      means_KD: float32, mean of each class that has training images, centred and whitened.
    """

    method: str
    thresholds: Mapping[str, float]
    scales: Mapping[str, tuple[float, float]]
    center_D: np.ndarray
    whitening_DD: np.ndarray
    means_KD: np.ndarray

    def scores(self, logits_NC: np.ndarray, features_ND: np.ndarray) -> np.ndarray:
        """Float64 (N,): the higher, the more unlike the training images."""
        return self.every_score(logits_NC, features_ND)[self.method]

    def every_score(self, logits_NC: np.ndarray, features_ND: np.ndarray) -> dict[str, np.ndarray]:
        """The scores of each of `METHODS`."""
        scores = {"mahalanobis": self.mahalanobis(features_ND), "energy": energy(logits_NC)}
        scaled = []
        for name, score_N in scores.items():
            zero, one = self.scales[name]
            scaled.append((score_N - zero) / (one - zero))
        return {"either": np.maximum(*scaled), **scores}

    def abstains(self, score_N: np.ndarray) -> np.ndarray:
        """Whether each of `scores` is too high to rely on the prediction: bool (N,)."""
        known_N = score_N <= self.thresholds[self.method]
        return np.asarray(~known_N)  # so that what is not a number is not known

    def mahalanobis(self, features_ND: np.ndarray) -> np.ndarray:
        """Squared distance of features to the nearest class mean: float64 (N,)."""
        if features_ND.shape[1] != len(self.center_D):
            raise InputError(
                f"the score of unlike images is fitted to {len(self.center_D)} features, and the"
                f" network has {features_ND.shape[1]}; {_ADVICE}"
            )
        white_ND = (features_ND - self.center_D) @ self.whitening_DD
        difference_NKD = white_ND[:, None, :] - self.means_KD
        squared_NK = np.einsum("nkd,nkd->nk", difference_NKD, difference_NKD, dtype=np.float64)
        return np.asarray(squared_NK.min(axis=1))


def energy(logits_NC: np.ndarray) -> np.ndarray:
    """-logsumexp of logits: float64 (N,)."""
    logits_NC = np.asarray(logits_NC, np.float64)
    most_N = logits_NC.max(axis=1)
    return np.asarray(-(most_N + np.log(np.exp(logits_NC - most_N[:, None]).sum(axis=1))))


def fit(
    workdir: Path | str,
    which: str = "best",
    *,
    method: str = METHODS[0],
    max_per_class: int = MAX_PER_CLASS,
    raw_dir: str | None = None,
    prepared_dir: str | None = None,
    data: str | None = None,
) -> Path:
    """Fits both scores to a checkpoint and writes them beside it; returns the file.

    The classes' means and covariance are of training images, the thresholds of all validation
    images: see the module.

    Args:
      workdir: that `train` or `import` made.
      which: "best", "latest" or a step.
      method: which of `METHODS` is used then.
      max_per_class: training images of a class, drawn from a fixed seed where there are more.
      raw_dir, prepared_dir, data: as of `evaluate.evaluate`.

    Raises:
      InputError: as `evaluate.evaluate`; an unknown method; no validation images.
    """
    from skinjax.unknown import fitting as unknown_fit

    if method not in METHODS:
        raise InputError(f"the method is {method!r}; expected one of {', '.join(METHODS)}")
    if max_per_class < 1:
        raise InputError(f"max_per_class is {max_per_class}; expected at least 1")
    moved = {"raw_dir": raw_dir, "prepared_dir": prepared_dir, "directory": data}
    return unknown_fit.fit(workdir, which, method, max_per_class, moved)


def save(
    workdir: Path | str,
    step: int,
    found: Unknown,
    classes: Sequence[str],
    num_images: Mapping[str, int],
) -> Path:
    """Keeps what was fitted beside its checkpoint; returns the path.

    Args:
      workdir: of the run.
      step: of the checkpoint.
      found: what was fitted.
      classes: of the checkpoint.
      num_images: that it was fitted to, by split.
    """
    from safetensors.numpy import save as to_bytes

    about = {
        "format": _FORMAT,
        "step": step,
        "digest": fitted.digest(workdir, step),
        "classes": list(classes),
        "method": found.method,
        "thresholds": dict(found.thresholds),
        "scales": {name: list(scale) for name, scale in found.scales.items()},
        "known_share": KNOWN_SHARE,
        "num_images": dict(num_images),
    }
    arrays = (found.center_D, found.whitening_DD, found.means_KD)
    tensors = {
        name: np.ascontiguousarray(array, np.float32)
        for name, array in zip(_TENSORS, arrays, strict=True)
    }
    path = fitted.path(workdir, step, fitted.UNKNOWN)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(about, allow_nan=False)
    logs.write_bytes(path, to_bytes(tensors, metadata={"skinjax": text}))
    return path


def load(workdir: Path | str, step: int, classes: Sequence[str]) -> Unknown | None:
    """What `fit` kept for a checkpoint; None if nothing.

    Raises:
      InputError: the file is broken, of another checkpoint, or of other classes.
    """
    path = fitted.path(workdir, step, fitted.UNKNOWN)
    if not path.exists():
        return None
    if not path.is_file():
        raise InputError(f"{path} is no regular file; {_ADVICE}")
    import safetensors

    try:
        with safetensors.safe_open(path, framework="np") as file:
            expected = {
                "format": _FORMAT,
                "step": step,
                "digest": fitted.digest(workdir, step),
                "classes": list(classes),
            }
            method, thresholds, scales = _described(file.metadata(), expected)
            _check_shapes(file, len(classes))
            arrays = [file.get_tensor(name) for name in _TENSORS]
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError("a number in it is not finite")
    except (OSError, safetensors.SafetensorError, ValueError, RecursionError) as error:
        raise InputError(f"{path} can't be used ({error}); {_ADVICE}") from None
    return Unknown(method, thresholds, scales, *arrays)


def _described(
    metadata: Mapping[str, str] | None, expected: Mapping[str, Any]
) -> tuple[str, dict[str, float], dict[str, tuple[float, float]]]:
    """Method, thresholds and scales, checked; raises ValueError."""
    about = json.loads((metadata or {}).get("skinjax", "null"))
    if not isinstance(about, dict):
        raise ValueError("it does not say what it is")
    for name, value in expected.items():
        if about.get(name) != value:
            raise ValueError(f"its {name} is {about.get(name)!r}, expected {value!r}")
    method, thresholds, scales = (about.get(key) for key in ("method", "thresholds", "scales"))
    if method not in METHODS:
        raise ValueError(f"its method is {method!r}, expected one of {', '.join(METHODS)}")
    if not isinstance(thresholds, dict) or set(thresholds) != set(METHODS):
        raise ValueError(f"its thresholds are {thresholds!r}, expected one of each method")
    if not isinstance(scales, dict) or set(scales) != set(METHODS[1:]):
        raise ValueError(f"its scales are {scales!r}, expected one of each score")
    if not all(isinstance(scale, list) and len(scale) == 2 for scale in scales.values()):
        raise ValueError(f"its scales are {scales!r}, expected two numbers for each")
    for value in (*thresholds.values(), *itertools.chain(*scales.values())):
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"a threshold or a scale has {value!r}, expected a number")
    if not all(zero < one for zero, one in scales.values()):
        raise ValueError(f"its scales are {scales!r}, expected growing ones")
    return (
        method,
        {name: float(value) for name, value in thresholds.items()},
        {name: (float(zero), float(one)) for name, (zero, one) in scales.items()},
    )


def _check_shapes(file: Any, num_classes: int) -> None:
    """Checks the tensors before they are read; raises ValueError."""
    if sorted(file.keys()) != sorted(_TENSORS):
        raise ValueError(f"it holds {', '.join(sorted(file.keys()))[:200]}")
    slices = {name: file.get_slice(name) for name in _TENSORS}
    shapes = {name: tuple(one.get_shape()) for name, one in slices.items()}
    kinds = {one.get_dtype() for one in slices.values()}
    num_features = shapes["center"][0] if len(shapes["center"]) == 1 else 0
    num_means = shapes["means"][0] if len(shapes["means"]) == 2 else 0
    expected = {
        "center": (num_features,),
        "whitening": (num_features, num_features),
        "means": (num_means, num_features),
    }
    in_bounds = 0 < num_features <= _MOST_FEATURES and 0 < num_means <= num_classes
    if shapes != expected or not in_bounds or kinds != {"F32"}:
        raise ValueError(f"its arrays are {shapes} of {', '.join(sorted(map(str, kinds)))}")
