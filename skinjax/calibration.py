"""Calibration: probabilities that are as often right as they say, fitted on validation.

Temperature scaling divides all logits by one number, vector scaling gives each class a scale and a
bias of its own (Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML
2017, section 4.2). Both work here on log-probabilities, in place of logits: these are the logits
less one number per image, so that a table of predictions is enough to fit and to apply them. For
one temperature that number cancels, so it is the same as on logits; for vector scaling it makes
the outcome free of the constant that softmax ignores.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skinjax import fitted
from skinjax.errors import InputError

METHODS = ("none", "temperature", "vector")

# Where every prediction is right, the likelihood grows with the scale without end.
SCALES = _LEAST_SCALE, _MOST_SCALE = 0.05, 20.0
_MOST_BIAS = 20.0
# A class's own scale and bias say nothing where there are fewer images of it.
MIN_EXAMPLES_PER_CLASS = 10
# Softmax in float32 gives 0 below it.
_LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Calibration:
    """What turns a network's probabilities into calibrated ones.

    Attributes:
      method: "none", "temperature" or "vector".
      scale_C: that each class's log-probability is multiplied with; one and the same for
        "temperature".
      bias_C: that is added to it then, in nats; 0 for "temperature".
    """

    method: str
    scale_C: tuple[float, ...]
    bias_C: tuple[float, ...]

    @property
    def temperature(self) -> float | None:
        """What the logits are divided by; None for a method other than "temperature"."""
        return 1 / self.scale_C[0] if self.method == "temperature" else None

    def apply(self, probability_NC: np.ndarray) -> np.ndarray:
        """softmax(scale_C * log p + bias_C), float64 (N, C); "none" gives p as it is.

        Probabilities below float32's least normal number, 1.2e-38, count as that.
        """
        probability_NC = np.asarray(probability_NC, np.float64)
        if probability_NC.ndim != 2 or probability_NC.shape[1] != len(self.scale_C):
            raise ValueError(
                f"probabilities have shape {probability_NC.shape}, expected "
                f"(N, {len(self.scale_C)})"
            )
        if self.method == "none":
            return probability_NC
        logits_NC = np.array(self.scale_C) * _log(probability_NC) + np.array(self.bias_C)
        return np.exp(_log_softmax(logits_NC))

    def to_json(self) -> dict[str, Any]:
        """As JSON types, for `from_json`."""
        return {"method": self.method, "scale": list(self.scale_C), "bias": list(self.bias_C)}


def identity(num_classes: int) -> Calibration:
    """The calibration that changes nothing."""
    return Calibration("none", (1.0,) * num_classes, (0.0,) * num_classes)


def from_json(values: Mapping[str, Any], classes: Sequence[str]) -> Calibration:
    """What `to_json` gave.

    Raises:
      InputError: it is no calibration of so many classes; the message says what is wrong.
    """
    if not isinstance(values, Mapping) or set(values) != {"method", "scale", "bias"}:
        found = sorted(map(str, values)) if isinstance(values, Mapping) else type(values).__name__
        raise InputError(f"a calibration has method, scale and bias, seen: {found}; {_ADVICE}")
    method = values["method"]
    if method not in METHODS:
        raise InputError(f"calibration: method {method!r} is none of {', '.join(METHODS)}")
    scale_C = _numbers(values["scale"], "scale", len(classes), _LEAST_SCALE, _MOST_SCALE)
    bias_C = _numbers(values["bias"], "bias", len(classes), -_MOST_BIAS, _MOST_BIAS)
    one_scale = len(set(scale_C)) == 1 and (method != "none" or scale_C[0] == 1)
    if method != "vector" and (any(bias_C) or not one_scale):
        raise InputError(
            f"calibration: method {method} has one scale and no bias, seen scale {list(scale_C)} "
            f"and bias {list(bias_C)}; {_ADVICE}"
        )
    return Calibration(method, scale_C, bias_C)


def fit(
    probability_NC: np.ndarray, label_N: np.ndarray, method: str = "temperature"
) -> Calibration:
    """The calibration of greatest likelihood on a table of validation predictions.

    The temperature is where the derivative of the log loss, which is convex in its inverse, is 0;
    it is kept within 0.05 and 20. Vector scaling starts from that temperature and is drawn back to
    it by a normal prior (standard deviation 1 for a bias, in nats, and for the logarithm of a
    scale's ratio to the common one), so that a class with few images stays near it. Neither is
    ever worse than "none" by log loss on the table.

    Args:
      probability_NC: from softmax, rows summing to 1.
      label_N: integers in [0, C).
      method: one of `METHODS`.

    Raises:
      InputError: there are no examples, or, for "vector", fewer than ten of a class.
    """
    probability_NC = np.asarray(probability_NC, np.float64)
    label_N = np.asarray(label_N)
    num_classes = probability_NC.shape[1]
    if method not in METHODS:
        raise InputError(f"--method={method} is none of {', '.join(METHODS)}")
    if method == "none":
        return identity(num_classes)
    if len(label_N) == 0:
        raise InputError("there are no predictions to fit a calibration to")
    log_NC = _log(probability_NC)
    scale = _fit_scale(log_NC, label_N)
    bias_C = np.zeros(num_classes)
    scale_C = np.full(num_classes, scale)
    if method == "vector":
        count_C = np.bincount(label_N, minlength=num_classes)
        if count_C.min() < MIN_EXAMPLES_PER_CLASS:
            raise InputError(
                f"vector scaling needs {MIN_EXAMPLES_PER_CLASS} validation images of each class, "
                f"and one has {count_C.min()}; use --method=temperature"
            )
        scale_C, bias_C = _fit_vector(log_NC, label_N, scale)
    return Calibration(method, tuple(scale_C.tolist()), tuple(bias_C.tolist()))


def save(
    workdir: Path | str,
    step: int,
    calibration: Calibration,
    classes: Sequence[str],
    num_examples: int,
) -> Path:
    """Keeps a calibration beside the checkpoint that it was fitted to; returns the path."""
    values = {**calibration.to_json(), "classes": list(classes), "num_examples": num_examples}
    return fitted.write_json(workdir, step, fitted.CALIBRATION, values)


def load(workdir: Path | str, step: int, classes: Sequence[str]) -> Calibration | None:
    """What `save` kept for a checkpoint; None if nothing.

    Raises:
      InputError: the file is broken, or of other classes.
    """
    values = fitted.read_json(workdir, step, fitted.CALIBRATION)
    if values is None:
        return None
    path = fitted.path(workdir, step, fitted.CALIBRATION)
    own = values.pop("classes", None)
    if own != list(classes):
        raise InputError(
            f"{path} is of the classes {own}, the checkpoint has {', '.join(classes)}; {_ADVICE}"
        )
    num_examples = values.pop("num_examples", None)
    if type(num_examples) is not int or num_examples < 0:
        raise InputError(f"{path} has num_examples {num_examples!r}, expected a count; {_ADVICE}")
    try:
        return from_json(values, classes)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


_ADVICE = "delete the file, and run skinjax calibrate again"


def _log(probability_NC: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probability_NC, _LEAST_PROBABILITY))


def _log_softmax(logits_NC: np.ndarray) -> np.ndarray:
    shifted_NC = logits_NC - logits_NC.max(axis=1, keepdims=True)
    return shifted_NC - np.log(np.exp(shifted_NC).sum(axis=1, keepdims=True))


def _fit_scale(log_NC: np.ndarray, label_N: np.ndarray) -> float:
    """The common scale at which the log loss is least, within the bounds."""
    from scipy.optimize import brentq  # slow to import, and predicting doesn't need it

    own_N = log_NC[np.arange(len(label_N)), label_N]

    def slope(scale: float) -> float:
        """The derivative of the mean log loss, which grows with the scale."""
        probability_NC = np.exp(_log_softmax(scale * log_NC))
        return float(np.mean(np.sum(probability_NC * log_NC, axis=1) - own_N))

    if slope(_LEAST_SCALE) >= 0:
        return _LEAST_SCALE
    if slope(_MOST_SCALE) <= 0:
        return _MOST_SCALE
    return float(brentq(slope, _LEAST_SCALE, _MOST_SCALE, xtol=1e-12))


def _fit_vector(
    log_NC: np.ndarray, label_N: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and bias of each class that maximise likelihood times prior."""
    from scipy.optimize import minimize  # slow to import, and predicting doesn't need it

    num_examples, num_classes = log_NC.shape
    hit_NC = np.eye(num_classes)[label_N]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean log loss plus the prior's share, and the gradient."""
        ratio_C, bias_C = np.split(parameters, 2)
        scale_C = scale * np.exp(ratio_C)
        log_loss_NC = -_log_softmax(scale_C * log_NC + bias_C)
        miss_NC = (np.exp(-log_loss_NC) - hit_NC) / num_examples
        gradient = np.concatenate([(miss_NC * log_NC).sum(0) * scale_C, miss_NC.sum(0)])
        value = np.sum(hit_NC * log_loss_NC) / num_examples
        value += np.sum(parameters**2) / 2 / num_examples
        return float(value), gradient + parameters / num_examples

    bounds = [(math.log(_LEAST_SCALE / scale), math.log(_MOST_SCALE / scale))] * num_classes
    bounds += [(-_MOST_BIAS, _MOST_BIAS)] * num_classes
    start = np.zeros(2 * num_classes)
    options = {"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-9}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    # The search starts at the temperature, where the prior adds nothing: it can only gain.
    best = found.x if found.fun <= loss(start)[0] else start
    ratio_C, bias_C = np.split(best, 2)
    return np.clip(scale * np.exp(ratio_C), _LEAST_SCALE, _MOST_SCALE), bias_C


def _numbers(values: Any, name: str, count: int, least: float, most: float) -> tuple[float, ...]:
    """A list of so many numbers within bounds, as floats."""
    right = isinstance(values, list) and len(values) == count
    if not right or not all(type(one) in (int, float) and least <= one <= most for one in values):
        raise InputError(
            f"calibration: {name} is {str(values)[:80]}, expected {count} numbers from {least:g} "
            f"to {most:g}; {_ADVICE}"
        )
    return tuple(map(float, values))
