"""An ensemble of runs: what its members predicted, combined, and the files of its evaluation."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skinjax import calibration, ensemble, evaluation_files, logs, metrics, test_time
from skinjax import workdir as workdir_lib
from skinjax.ensemble import tables as ensemble_tables
from skinjax.ensemble.tables import Table
from skinjax.errors import InputError
from skinjax.plots import DISCLAIMER

FILE = "ensemble.json"
_SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "macro_roc_auc", "log_loss")


def write(
    runs: Sequence[str | Path],
    output: str | Path,
    *,
    method: str = "mean",
    metric: str = "balanced_accuracy",
    which: str = "best",
    tta: str = "none",
    num_resamples: int = evaluation_files.NUM_RESAMPLES,
    **data: Any,
) -> dict[str, Any]:
    """Evaluates an ensemble of runs on the test split that they share.

    Each run's raw predictions of its validation and test split are read from its folder
    `evaluation`, or made there first where they are missing or of another checkpoint. Writes
    `evaluation/test/`, and `evaluation/val/` where the runs share their validation split, as
    `evaluate` does; `ensemble.json` and `ensemble.md` with the members, their weights and what
    each says alone. The ensemble's temperature is fitted to its own validation predictions. The
    folds of a cross-validation have each another validation split: they have no temperature, and
    "greedy" has nothing to choose by.

    Args:
      runs: work directories, or one of a cross-validation for all its folds.
      output: a folder for it, new or of an earlier ensemble, whose evaluation and report are
        removed.
      method: one of `ensemble.METHODS`.
      metric: that "greedy" chooses by.
      which: the checkpoint of each run, "best", "latest" or a step.
      tta: test-time augmentation of each member, one of `test_time.KINDS`.
      num_resamples: of the bootstrap.
      data: `raw_dir`, `prepared_dir`, `data` and `batch_size` of `evaluate`.

    Returns:
      What is in `ensemble.json`, and as "metrics" those of the test split.

    Raises:
      InputError: a run can't be evaluated, the runs don't predict the same images and classes,
        `output` is something else, or a number is negative.
    """
    output = Path(output)
    test_time.check(tta)
    if method not in ensemble.METHODS:
        raise InputError(f"--method={method} is none of {', '.join(ensemble.METHODS)}")
    if num_resamples < 0:
        raise InputError(f"--num_resamples={num_resamples} is negative; give 0 or more")
    _check_output(output)
    workdirs = ensemble_tables.expand(runs)
    ending = "" if tta == "none" else f"_{tta}"
    more = {"which": which, "tta": tta, "num_resamples": num_resamples, **data}
    test_K = ensemble_tables.aligned(
        [ensemble_tables.read(one, "test", f"test{ending}", more) for one in workdirs]
    )
    val_K = _validation(workdirs, test_K, f"val{ending}", more)
    weight_K = np.ones(len(workdirs))
    if method == "greedy":
        weight_K = _choose(val_K, metric)
    about: dict[str, Any] = {
        "method": method,
        "metric": metric if method == "greedy" else None,
        "test_time_augmentation": tta,
        "members": [
            {
                "run": str(one),
                "checkpoint": table.stated["checkpoint"],
                "weight": weight,
                "metrics": metrics.scalars(
                    metrics.compute(table.probability_NC, table.label_N, table.classes)
                ),
            }
            for one, table, weight in zip(
                workdirs, test_K, (weight_K / weight_K.sum()).tolist(), strict=True
            )
        ],
    }
    _clear(output)
    logs.write_json(output / FILE, about)  # first: it says whose folder this is
    own = None
    if val_K is not None:
        table, combined_NC = val_K[0], _combined(val_K, method, weight_K)
        own = calibration.fit(combined_NC, table.label_N)
        _write_split(output, f"val{ending}", val_K, combined_NC, about, None, num_resamples)
    computed = _write_split(
        output, f"test{ending}", test_K, _combined(test_K, method, weight_K), about, own,
        num_resamples,
    )  # fmt: skip
    logs.write_text(output / "ensemble.md", _markdown(about, computed))
    return {**about, "metrics": computed}


def _validation(
    workdirs: Sequence[Path], test_K: Sequence[Table], name: str, more: Mapping[str, Any]
) -> list[Table] | None:
    """The validation tables where all runs have the same images there, else None."""
    if not all(sum(table.stated["split_counts"].get("val", ())) for table in test_K):
        return None
    table_K = [ensemble_tables.read(one, "val", name, more) for one in workdirs]
    ids_K = [{row["image_id"] for row in table.rows} for table in table_K]
    return ensemble_tables.aligned(table_K) if all(ids == ids_K[0] for ids in ids_K) else None


def _choose(val_K: Sequence[Table] | None, metric: str) -> np.ndarray:
    if val_K is None:
        raise InputError(
            "--method=greedy chooses on the validation split, and these runs have not the same one "
            "(as the folds of a cross-validation have not): use --method=mean or rank_mean, or "
            "runs of one split"
        )
    probability_KNC = np.stack([table.probability_NC for table in val_K])
    return ensemble.greedy(probability_KNC, val_K[0].label_N, metric, val_K[0].classes)


def _combined(table_K: Sequence[Table], method: str, weight_K: np.ndarray) -> np.ndarray:
    return ensemble.combine(np.stack([table.probability_NC for table in table_K]), method, weight_K)


def _write_split(
    output: Path,
    name: str,
    table_K: Sequence[Table],
    combined_NC: np.ndarray,
    about: dict[str, Any],
    own: calibration.Calibration | None,
    num_resamples: int,
) -> dict[str, Any]:
    first = table_K[0]
    counts_K = [table.stated.get("split_counts") for table in table_K]
    words = f"{about['method'].replace('_', ' ')} of {len(table_K)} runs"
    return evaluation_files.write(
        workdir_lib.evaluation_dir(output, name),
        name,
        first.rows,
        combined_NC,
        first.classes,
        title=f"Ensemble: {words}",
        checkpoint=words,
        # The folds of a cross-validation have different ones.
        split_counts=counts_K[0] if all(one == counts_K[0] for one in counts_K) else None,
        calibration=own,
        num_resamples=num_resamples,
        extra={"ensemble": about},
    )


def _check_output(output: Path) -> None:
    """Checks, changing nothing, that the folder is free or an earlier ensemble's."""
    if output.exists() and not output.is_dir():
        raise InputError(f"--output={output} is a file; give a folder, made if missing")
    own = (output / FILE).is_file() and not workdir_lib.checkpoint_dir(output).exists()
    if output.is_dir() and any(output.iterdir()) and not own:
        raise InputError(
            f"--output={output} holds files that are no ensemble; give an empty or a new folder"
        )


def _clear(output: Path) -> None:
    """Makes the folder, or takes out of it what was computed of other members.

    `report` and others would take validation predictions of an earlier ensemble for this one's.
    """
    output.mkdir(parents=True, exist_ok=True)
    for folder in (workdir_lib.evaluation_dir(output, "val").parent, output / "report"):
        if folder.is_symlink():  # what it leads to is not the ensemble's
            folder.unlink()
        elif folder.exists():
            shutil.rmtree(folder)


def _markdown(about: Mapping[str, Any], computed: Mapping[str, Any]) -> str:
    """The page on the members and what combining them changes."""
    intervals = computed.get("intervals") or {}
    split, count = computed["split"], computed["num_examples"]
    names = [name for name in _SHOWN if computed[name] is not None]
    rows = [["", "Weight", *(name.replace("_", " ") for name in names)]]
    rows += [["---", *["---:"] * (len(names) + 1)]]
    for member in about["members"]:
        values = [_text(member["metrics"][name], None) for name in names]
        rows.append([f"{member['run']} ({member['checkpoint']})", f"{member['weight']:.3g}"])
        rows[-1] += values
    rows += [["**Ensemble**", "", *(_text(computed[k], intervals.get(k)) for k in names)]]
    chosen = f", chosen on validation by {about['metric']}" if about["metric"] else ""
    lines = [
        f"# {computed['checkpoint'][0].upper()}{computed['checkpoint'][1:]}",
        "",
        DISCLAIMER,
        "",
        f"Split: {split}, n={count}. Test-time augmentation: {about['test_time_augmentation']}. "
        f"Method: {about['method']}{chosen}.",
        "",
        *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows),
        "",
        "In brackets: 95 % intervals, lesions resampled. Whether the ensemble is better than a"
        " member on the same images is a paired question: `compare` answers it.",
        "",
        f"Everything else: [evaluation/{split}/report.md](evaluation/{split}/report.md)",
    ]
    return "\n".join(lines) + "\n"


def _text(value: float | None, interval: Any) -> str:
    text = "not available" if value is None else f"{value:.4f}"
    return f"{text} [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else text
