"""What a checkpoint says of itself, and whether that can be true."""

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Description:
    """What a checkpoint says of itself: with the parameters, all that predicting needs.

    Attributes:
      step: finished steps.
      epoch: finished epochs, with the fraction.
      phase: index of the phase that the optimizer state belongs to.
      metrics: of the validation split at this step; empty between evaluations.
      classes: names in the order of the outputs.
      config: the resolved config as JSON: preprocessing, normalisation, model.
      fingerprint: of the prepared data.
      phase_start: the step at which the phase began.
      monitor: the fields of `monitor.Monitor`.
      metadata: the encoder of patient metadata as JSON (`metadata.Encoder`); '' without.
    """

    step: int
    epoch: float
    phase: int
    metrics: dict[str, float]
    classes: tuple[str, ...]
    config: str
    fingerprint: str
    phase_start: int = 0
    monitor: dict[str, Any] = field(default_factory=dict)
    metadata: str = ""


def check(about: Description, step: int) -> None:
    """Raises ValueError where a description can't be one that was saved at `step`."""
    if about.step != step:
        raise ValueError(f"it says that it is of step {about.step!r}")
    classes = about.classes
    if not all(isinstance(name, str) and name.isprintable() and name for name in classes):
        raise ValueError("its classes are no names")
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise ValueError(f"its classes are {classes}, expected two or more different ones")
    for name in ("config", "fingerprint", "metadata"):
        if not isinstance(getattr(about, name), str):
            raise ValueError(f"its {name} is no text")
    numbers = [about.epoch, *(value for value in about.metrics.values() if value is not None)]
    if not all(type(one) in (int, float) and math.isfinite(one) for one in numbers):
        raise ValueError("its epoch or a metric is no number")
