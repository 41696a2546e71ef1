"""What a report is made of: read from a work directory, or from tables of predictions alone."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from skinjax import calibration as calibration_lib
from skinjax import config as config_lib
from skinjax import threshold as threshold_lib
from skinjax import unknown as unknown_lib
from skinjax import workdir as workdir_lib
from skinjax.calibration import Calibration
from skinjax.errors import InputError
from skinjax.predictions import read_predictions
from skinjax.report import evaluation as evaluation_lib
from skinjax.report.evaluation import Evaluation
from skinjax.threshold import Threshold
from skinjax.unknown import Unknown

_MOST_BYTES = 16 << 20  # of a run's JSON files
_EXTERNAL = "external_"


@dataclass(frozen=True)
class Run:
    """A trained model as it is reported; what is not known is None, or empty.

    Attributes:
      title: of the report.
      main: the evaluation that the report is on.
      val: that of the validation split; None too where `main` is of it.
      how_calibrated: where the calibration is from, in a sentence.
      config: of the run.
      threshold: chosen for the checkpoint.
      unknown: fitted to the checkpoint, to abstain on images that it does not know.
      start: how the run was started last: time, command, versions, devices.
      history: the file of the training's history.
      views: the test-time augmentation of `main`; "" without.
      others: further evaluations of the model by name, such as external tests.
    """

    title: str
    main: Evaluation
    val: Evaluation | None
    how_calibrated: str
    config: ConfigDict | None = None
    threshold: Threshold | None = None
    unknown: Unknown | None = None
    start: dict[str, Any] = field(default_factory=dict)
    history: Path | None = None
    views: str = ""
    others: dict[str, Evaluation] = field(default_factory=dict)

    @property
    def external(self) -> dict[str, Evaluation]:
        """Those of `others` that are of other data sets, by the name of the data."""
        return {
            name.removeprefix(_EXTERNAL): one
            for name, one in self.others.items()
            if name.startswith(_EXTERNAL)
        }


def of_tables(folder: Path, split: str, *, num_resamples: int, method: str = "temperature") -> Run:
    """All that predictions_<split>.csv and the validation table say.

    The validation table is predictions_val.csv in the folder, or in a folder `val` beside it; with
    test-time augmentation ("test_flips") predictions_val_flips.csv. Where it is there, a
    calibration of `method` is fitted on it.

    Raises:
      InputError: there is no such table, or it is broken, or they don't belong together, or the
        method can't be fitted.
    """
    if method not in calibration_lib.METHODS:
        raise InputError(f"--method={method} is none of {', '.join(calibration_lib.METHODS)}")
    val = _validation_of(split)
    beside = folder.resolve().parent / val
    val_path = next((p for p in (_table(folder, val), _table(beside, val)) if p.exists()), None)
    fitted, how = None, "There are no validation predictions to fit one on."
    if split != val and val_path is not None:
        fitted, how = _fit(val_path, method), _fitted_here(method)
    return _assessed(
        {split: _table(folder, split)} | ({val: val_path} if fitted and val_path else {}),
        split,
        title=f"Predictions in {folder.resolve().name}",
        calibration=fitted,
        how=how,
        num_resamples=num_resamples,
    )


def of_workdir(workdir: Path, split: str, *, num_resamples: int) -> Run:
    """What `train`, `evaluate` and other verbs left in a work directory.

    All figures are computed again from the tables of predictions. The calibration is the one that
    is kept with the checkpoint that predicted, or as in `of_tables`. Predictions with test-time
    augmentation have the calibration that `evaluate` fitted on validation predictions of the same
    views, and no threshold: what is kept with the checkpoint is for one view.

    Raises:
      InputError: the split is not evaluated, or a file is broken.
    """
    directory = workdir_lib.evaluation_dir(workdir, split)
    about = {split: evaluation_lib.read_metrics(directory / "metrics.json")}
    step = _step(about[split])
    paths = {split: _table(directory, split)}
    val = _validation_of(split)
    val_directory = workdir_lib.evaluation_dir(workdir, val)
    if split != val and (val_directory / "metrics.json").exists():
        about[val] = evaluation_lib.read_metrics(val_directory / "metrics.json")
        if _step(about[val]) == step:
            paths[val] = _table(val_directory, val)
    classes = tuple(about[split]["per_class"])
    views = _views(about[split])
    if views:
        fitted = evaluation_lib.calibration_of(about[split], classes, directory)
        how = f"It was fitted on validation predictions with the same views ({views}), for these."
    else:
        fitted = None if step is None else calibration_lib.load(workdir, step, classes)
        how = "It is kept with the checkpoint, and predicting and exports use it."
    if fitted is None and val in paths:
        fitted, how = _fit(paths[val], "temperature"), _fitted_here("temperature")
    elif fitted is None:
        how = "There are no validation predictions of this checkpoint to fit one on."
    config = _config(workdir_lib.config_path(workdir))
    title = "Model" if config is None else f"{config.model.name} on {config.data.dataset}"
    history = workdir / "history.csv"
    run = _assessed(
        paths, split, title=title, calibration=fitted, how=how, num_resamples=num_resamples,
        about=about,
    )  # fmt: skip
    return Run(
        title=title,
        main=run.main,
        val=run.val,
        how_calibrated=how,
        config=config,
        threshold=None
        if step is None or views
        else threshold_lib.load(workdir, step, run.main.classes, fitted),
        unknown=None if step is None else unknown_lib.load(workdir, step, classes),
        start=_last_start(workdir / "versions.json"),
        history=history if history.exists() else None,
        views=views,
        others=_others(directory.parent, split),
    )


def _assessed(
    paths: dict[str, Path],
    split: str,
    *,
    title: str,
    calibration: Calibration | None,
    how: str,
    num_resamples: int,
    about: dict[str, dict[str, Any]] | None = None,
) -> Run:
    """The evaluations of the tables in `paths`; validation, for comparison, without intervals."""
    found = {
        name: evaluation_lib.assess(
            path,
            name,
            calibration=calibration,
            about=(about or {}).get(name, {}),
            num_resamples=num_resamples if name == split else 0,
        )
        for name, path in paths.items()
    }
    if len({one.classes for one in found.values()}) > 1:
        seen = "; ".join(f"{name}: {', '.join(one.classes)}" for name, one in found.items())
        raise InputError(f"the tables of predictions are not of the same classes ({seen})")
    val = next((one for name, one in found.items() if name != split), None)
    return Run(title=title, main=found[split], val=val, how_calibrated=how)


def _fit(path: Path, method: str) -> Calibration:
    _, probability_NC, label_N, _ = read_predictions(path)
    return calibration_lib.fit(probability_NC, label_N, method)


def _fitted_here(method: str) -> str:
    what = "temperature" if method == "temperature" else f"calibration (method: {method})"
    return f"The {what} was fitted on the validation predictions for this report."


def _validation_of(split: str) -> str:
    """The validation split as predicted as `split` was: "val_flips" for "test_flips"."""
    name, _, views = split.partition("_")
    return f"val_{views}" if name in ("train", "val", "test") and views else "val"


def _views(about: dict[str, Any]) -> str:
    """The test-time augmentation, as `evaluate` says it; "" without."""
    views = about.get("test_time_augmentation")
    return views if isinstance(views, str) and views != "none" else ""


def _table(directory: Path, split: str) -> Path:
    return directory / f"predictions_{split}.csv"


def _step(about: dict[str, Any]) -> int | None:
    """The checkpoint that predicted, as `evaluate` says it."""
    found = re.search(r"\bstep (\d{1,18})\b", evaluation_lib.checkpoint_of(about))
    return int(found[1]) if found else None


def _config(path: Path) -> ConfigDict | None:
    if not path.exists():
        return None
    try:
        return config_lib.load_config(path)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} can't be read ({error}): restore it") from None


def _last_start(path: Path) -> dict[str, Any]:
    """The last entry of versions.json; empty where there is none."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return {}
        starts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    last = starts[-1] if isinstance(starts, list) and starts else None
    return last if isinstance(last, dict) else {}


def _others(folder: Path, split: str) -> dict[str, Evaluation]:
    """Every other test in the folder that has its files, by its folder's name."""
    # What was trained or chosen on is no test, with test-time augmentation or without.
    return {
        path.parent.name: evaluation_lib.read(path.parent)
        for path in sorted(folder.glob("*/metrics.json"))
        if path.parent.name != split and not re.match(r"(train|val)(_|$)", path.parent.name)
    }
