"""Calibrating a checkpoint: fitted to its validation predictions, kept with it, drawn."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from skinjax import calibration as calibration_lib
from skinjax import evaluated, fitted, logs, metrics, threshold
from skinjax import workdir as workdir_lib
from skinjax.calibration import Calibration
from skinjax.errors import InputError
from skinjax.evaluated import EvaluatedSplit
from skinjax.plots import calibration as plots

FOLDER = "calibration"  # in a work directory's `evaluation`
PLOT = "reliability.png"


@dataclass(frozen=True)
class Calibrated:
    """What `calibrate` did.

    Attributes:
      calibration: that was fitted.
      path: where it is kept.
      plot: the reliability plots.
      before, after: `metrics.compute` by split, "val" and, if it was evaluated before, "test".
      changed: whether it is another than was kept before, or the first.
      dropped: whether a threshold was there that is for other probabilities; it is deleted.
    """

    calibration: Calibration
    path: Path
    plot: Path
    before: dict[str, dict[str, Any]]
    after: dict[str, dict[str, Any]]
    changed: bool
    dropped: bool


def calibrate(
    workdir: Path | str,
    *,
    which: str = "best",
    method: str = "temperature",
    raw_dir: str | None = None,
    prepared_dir: str | None = None,
    data: str | None = None,
) -> Calibrated:
    """Fits a calibration to a checkpoint and keeps it, in place of one that is there.

    The validation split is evaluated where its predictions are not there yet. The reliability plot
    shows it before and after, and the test split too if that was evaluated before.

    Args:
      workdir: of a run.
      which: "best", "latest" or a step.
      method: one of `calibration.METHODS`.
      raw_dir, prepared_dir, data: as for `evaluate.evaluate`.

    Raises:
      InputError: there is no such run or checkpoint, it has no validation split, or the method
        can't be fitted to it.
    """
    workdir = Path(workdir)
    if method not in calibration_lib.METHODS:
        raise InputError(f"--method={method} is none of {', '.join(calibration_lib.METHODS)}")
    moved = {"raw_dir": raw_dir, "prepared_dir": prepared_dir, "data": data}
    val = evaluated.read_or_evaluate(workdir, "val", which=which, **moved)
    fit = calibration_lib.fit(val.probability_NC, val.label_N, method)
    changed = _kept(workdir, val) != fit
    dropped = _drop_other_threshold(workdir, val, fit)
    path = calibration_lib.save(workdir, val.step, fit, val.classes, len(val.label_N))
    test = evaluated.read(workdir, "test", val.step)
    tables = [val] if test is None else [val, test]
    plot = workdir_lib.evaluation_dir(workdir, FOLDER) / PLOT
    plot.parent.mkdir(parents=True, exist_ok=True)
    logs.write_bytes(plot, _png(_figure(tables, fit)))
    return Calibrated(
        calibration=fit,
        path=path,
        plot=plot,
        before={one.name: _metrics(one, None) for one in tables},
        after={one.name: _metrics(one, fit) for one in tables},
        changed=changed,
        dropped=dropped,
    )


def fit_where_missing(workdir: Path, step: int, val: EvaluatedSplit) -> tuple[Calibration, bool]:
    """The calibration of a checkpoint, and whether it is new: then it is a temperature.

    Raises:
      InputError: the one that is there is broken.
    """
    found = calibration_lib.load(workdir, step, val.classes)
    if found is not None:
        return found, False
    fit = calibration_lib.fit(val.probability_NC, val.label_N)
    calibration_lib.save(workdir, step, fit, val.classes, len(val.label_N))
    return fit, True


def describe(fit: Calibration, classes: Sequence[str]) -> str:
    """A calibration in words."""
    if fit.temperature is not None:
        bound = " (as far as it may go)" if fit.scale_C[0] in calibration_lib.SCALES else ""
        return f"temperature {fit.temperature:.3f}{bound}"
    if fit.method == "none":
        return "no calibration"
    pairs = zip(classes, fit.scale_C, fit.bias_C, strict=True)
    return "; ".join(f"{name} scale {a:.2f} bias {b:+.2f}" for name, a, b in pairs)


def _metrics(table: EvaluatedSplit, fit: Calibration | None) -> dict[str, Any]:
    probability_NC = table.probability_NC if fit is None else fit.apply(table.probability_NC)
    return metrics.compute(probability_NC, table.label_N, table.classes)


def _figure(tables: Sequence[EvaluatedSplit], fit: Calibration) -> Figure:
    panels: list[tuple[str, Sequence[Mapping[str, Any]]]] = []
    for table in tables:
        before_NC = table.probability_NC
        for word, probability_NC in (("before", before_NC), ("after", fit.apply(before_NC))):
            bins = metrics.reliability(probability_NC, table.label_N)
            panels.append((f"{table.name}, {word}", bins))
    scaling = "no scaling" if fit.method == "none" else f"{fit.method} scaling"
    first = f"{scaling}, fitted to val"
    if fit.temperature is not None:
        first += f": {describe(fit, tables[0].classes)}"
    return plots.reliability(panels, f"{first}\ncheckpoint: {tables[0].checkpoint}")


def _kept(workdir: Path, val: EvaluatedSplit) -> Calibration | None:
    """The calibration that is to be replaced; None if it can't be read."""
    try:
        return calibration_lib.load(workdir, val.step, val.classes)
    except InputError:
        return None


def _drop_other_threshold(workdir: Path, val: EvaluatedSplit, fit: Calibration) -> bool:
    """Deletes a threshold for other probabilities, or one that can't be read, and its copy."""
    path = fitted.path(workdir, val.step, fitted.THRESHOLD)
    try:
        found = threshold.load(workdir, val.step, val.classes, fit)
        if found is not None or not path.exists():
            return False
    except InputError:
        pass
    folder = workdir_lib.evaluation_dir(workdir, threshold.FOLDER)
    copy = folder / fitted.THRESHOLD
    if copy.is_file() and copy.read_bytes() == path.read_bytes():
        copy.unlink()
        (folder / threshold.PLOT).unlink(missing_ok=True)
    path.unlink()
    return True


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()
