"""The runs that are compared: what their evaluations left on disk."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from skinjax import metrics
from skinjax.errors import InputError
from skinjax.predictions import read_predictions

_MOST_BYTES = 16 << 20  # of a run's JSON files
# Settings of paths, speed and logging: runs that differ in these alone are the same.
_WITHOUT_EFFECT = (
    *("data.raw_dir", "data.prepared_dir", "data.directory", "data.cache"),
    *("data.num_threads", "data.num_workers", "data.on_device", "evaluate.batch_size", "profile"),
    *("log.", "parallel.", "checkpoint.keep_best", "checkpoint.every_steps", "model.remat"),
)
_LOSSLESS = ("raw", "png")  # of `data.encoding`


@dataclass(frozen=True)
class Run:
    """One evaluation of one model.

    Attributes:
      name: unique among the runs compared.
      directory: of the evaluation's files.
      checkpoint: as `evaluate` wrote it; empty if unknown.
      settings: the config by dotted name, without what has no effect; None if unknown.
      rows, probability_NC, label_N, classes: the table of predictions.
    """

    name: str
    directory: Path
    checkpoint: str
    settings: dict[str, Any] | None
    rows: list[dict[str, Any]]
    probability_NC: np.ndarray
    label_N: np.ndarray
    classes: tuple[str, ...]

    @property
    def seed(self) -> Any:
        """Of the training; None if unknown."""
        return None if self.settings is None else self.settings.get("seed")


def read(paths: Sequence[Path | str], split: str) -> list[Run]:
    """Reads the runs, each with its images in the order of the first.

    Args:
      paths: work directories, or folders of one evaluation or of a table of predictions alone
        (then the settings are unknown, and the checkpoint if there is no metrics.json).
      split: of the evaluations, `evaluation/<split>` in a work directory.

    Raises:
      InputError: a run has no such evaluation or a broken one; two are the same; or they are not
        of the same images and classes.
    """
    if len(paths) < 2:
        raise InputError("compare needs two runs or more: compare RUN RUN ...")
    runs = [_read(Path(path), name, split) for path, name in zip(paths, _names(paths), strict=True)]
    if len({run.directory.resolve() for run in runs}) < len(runs):
        raise InputError("a run is named twice; name each once")
    return [runs[0], *(_as(run, runs[0]) for run in runs[1:])]


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The settings in which the runs differ, with each run's; None where it has no such setting."""
    settings = [run.settings or {} for run in runs if run.settings is not None]
    names = sorted({name for values in settings for name in values})
    return {
        name: [(run.settings or {}).get(name) for run in runs]
        for name in names
        if any(values.get(name) != settings[0].get(name) for values in settings)
    }


def seed_groups(runs: Sequence[Run]) -> list[list[int]]:
    """Places of runs whose settings agree but for `seed`, where those are two or more."""
    groups: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        if run.settings is not None:
            rest = {name: value for name, value in run.settings.items() if name != "seed"}
            # The first word of "best: step 910, epoch 70": how the checkpoint was chosen.
            key = [rest, run.checkpoint.split(":")[0]]
            groups.setdefault(json.dumps(key, sort_keys=True), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def _names(paths: Sequence[Path | str]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [Path(path).resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError(f"{_first_twice([str(path) for path in paths])} is named twice")


def _first_twice(names: Sequence[str]) -> str:
    resolved = [str(Path(name).resolve()) for name in names]
    return next(name for name in resolved if resolved.count(name) > 1)


def _read(path: Path, name: str, split: str) -> Run:
    """One run; `path` is a work directory or a folder with a table of predictions."""
    if not path.is_dir():
        raise InputError(f"{path} is no folder; give the work directory of a run")
    alone = not (path / "config.json").exists() and _tables(path, split)
    directory = path if alone else path / "evaluation" / split
    tables = _tables(directory, split)
    if len(tables) != 1:
        found = "several tables of predictions" if tables else f"no predictions_{split}.csv"
        raise InputError(
            f"{directory} has {found}, expected one: run `skinjax evaluate --workdir={path}"
            f" {_flags(split)}` first"
        )
    rows, probability_NC, label_N, classes = read_predictions(tables[0])
    if len(label_N) == 0:
        raise InputError(f"{tables[0]} has no rows, so there is nothing to compare")
    about = directory / "metrics.json"
    # A table of predictions alone will do; which checkpoint predicted is then not stated.
    is_stated = not alone or about.exists()
    result = _json(about) if is_stated else {}
    computed = metrics.compute(probability_NC, label_N, classes)
    if is_stated and result.get("confusion_matrix") != computed["confusion_matrix"]:
        raise InputError(
            f"metrics.json and {tables[0].name} in {directory} are not of the same evaluation:"
            " run `skinjax evaluate` again"
        )
    settings = None
    if not alone:
        settings = dict(_flat(_json(path / "config.json")))
    return Run(
        name=name,
        directory=directory,
        checkpoint=str(result.get("checkpoint") or ""),
        settings=settings,
        rows=rows,
        probability_NC=probability_NC,
        label_N=label_N,
        classes=classes,
    )


def _flags(split: str) -> str:
    """The flags of `evaluate` that give `evaluation/<split>`."""
    name, _, views = split.partition("_")
    own = name in ("train", "val", "test") and views in ("flips", "crops")
    return f"--split={name} --tta={views}" if own else f"--split={split}"


def _tables(directory: Path, split: str) -> list[Path]:
    """The table of `split`, or all tables there are, such as test's in a folder `test_flips`."""
    exact = directory / f"predictions_{split}.csv"
    return [exact] if exact.exists() else sorted(directory.glob("predictions_*.csv"))


def _as(run: Run, first: Run) -> Run:
    """The run with the images and classes in the order of the first, if they are the same."""
    if set(run.classes) != set(first.classes):
        raise InputError(
            f"{run.name} has the classes {', '.join(run.classes)}, and {first.name}"
            f" {', '.join(first.classes)}; compare runs of the same classes"
        )
    place = {_key(row): index for index, row in enumerate(run.rows)}
    first_keys = [_key(row) for row in first.rows]
    for one, keys in ((run, list(place)), (first, list(dict.fromkeys(first_keys)))):
        if len(keys) != len(one.rows):
            raise InputError(f"{one.directory} has predictions of one image twice; evaluate again")
    if set(place) != set(first_keys):
        shared = len(set(place) & set(first_keys))
        raise InputError(
            f"{run.name} was evaluated on {len(place)} images and {first.name} on"
            f" {len(first_keys)}, of which {shared} are the same; compare runs of the same split"
        )
    order_N = [place[key] for key in first_keys]
    order_C = [run.classes.index(name) for name in first.classes]
    ordered = replace(
        run,
        rows=[run.rows[index] for index in order_N],
        probability_NC=run.probability_NC[order_N][:, order_C],
        label_N=np.array([first.classes.index(run.rows[index]["label"]) for index in order_N]),
        classes=first.classes,
    )
    if not np.array_equal(ordered.label_N, first.label_N):
        at = int(np.argmax(ordered.label_N != first.label_N))
        raise InputError(
            f"image {first.rows[at]['image_id']} is {ordered.rows[at]['label']} in {run.name} and"
            f" {first.rows[at]['label']} in {first.name}; compare runs of the same labels"
        )
    return ordered


def _key(row: Mapping[str, Any]) -> str:
    return str(row["image_id"])


def _json(path: Path) -> dict[str, Any]:
    """An object from a file of a run.

    Raises:
      InputError: it is missing, too large, or no JSON object.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        value = json.loads(text) if len(text) <= _MOST_BYTES else None
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `skinjax evaluate` first") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable as JSON ({error}); evaluate again") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} is no JSON object of at most 16 MiB; evaluate again")
    return value


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a config by dotted name, without those that have no effect."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        elif name == "data.encoding" and value in _LOSSLESS:
            yield name, _LOSSLESS[0]  # the same pixels
        elif not name.startswith(_WITHOUT_EFFECT):
            yield name, value
