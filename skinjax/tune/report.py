"""What came out of a search: a page with plots, a table of all trials, and the best config."""

import csv
import datetime
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from skinjax import config_file, logs
from skinjax.explore import drawing
from skinjax.plots import DISCLAIMER
from skinjax.tune import plots
from skinjax.tune.study import Study
from skinjax.tune.workers import PRESUMED_DEAD

_SHOWN = 10  # trials in the page's table
_FEWEST = 8  # completed trials, for importance
_STATES = {
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def write(study: Study, workdir: Path) -> list[str]:
    """Writes trials.csv, and with a completed trial report.md, its plots and best_config.py.

    Returns:
      Lines that say what came out, and where it lies.
    """
    trials = study.trials()
    counts = ", ".join(
        f"{sum(trial.state == state for trial in trials)} {word}"
        for state, word in _STATES.items()
        if any(trial.state == state for trial in trials)
    )
    summary = f"{len(trials)} of {study.total} trials ({counts})"
    logs.write_text(workdir / "trials.csv", _table(study, trials))
    best_first = study.best_first()
    if not best_first:
        listed = f"all are listed in {workdir / 'trials.csv'}"
        return [f"{summary}: none is completed yet; {listed}", *_running(trials)]
    best = best_first[0]
    value = f"{study.metric} {best.value:.4f}"
    logs.write_text(
        workdir / "best_config.py",
        _best_config(study, best, f"{workdir.resolve().name}: {summary}"),
    )
    shares = _importance(study, len(best_first))
    figures = _draw(study, trials, shares, workdir)
    title = workdir.resolve().name
    page = _page(study, trials, best_first, summary, shares, figures, title=title)
    logs.write_text(workdir / "report.md", "\n".join(page) + "\n")
    lines = [
        f"{summary}; the best is trial {best.number}, validation {value}",
        f"report: {workdir / 'report.md'}. {DISCLAIMER}",
    ]
    if any(trial.state in (TrialState.RUNNING, TrialState.WAITING) for trial in trials):
        left = "the same command goes on with what other workers leave behind"
        return [*lines, *(_running(trials) or [left])]
    best_config = workdir / "best_config.py"
    return [
        *lines,
        f"next: python -m skinjax.main train --config={best_config} --workdir=runs/NAME",
    ]


def _running(trials: Sequence[FrozenTrial]) -> list[str]:
    """A line for each trial that another worker has, which may be dead on another machine."""
    lines = []
    for trial in trials:
        if trial.state != TrialState.RUNNING:
            continue
        began = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        seen = trial.user_attrs.get("seen", began)
        lines.append(
            f"trial {trial.number} is running in worker {trial.user_attrs.get('worker', '')} since"
            f" {_time(began)}, last sign of life {_time(seen)}: without another one, the same"
            f" command goes on with it after {_time(seen + PRESUMED_DEAD)}"
            f" ({PRESUMED_DEAD / 60:.0f} minutes)"
        )
    return lines


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _table(study: Study, trials: Sequence[FrozenTrial]) -> str:
    """Every trial as a row of CSV."""
    own = ("trial", "state", study.metric, "step", "epoch", "evaluations", "seconds", "error")
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow([*own, *study.space])
    for trial in trials:
        notes = trial.user_attrs
        rows.writerow(
            [
                trial.number,
                _STATES[trial.state],
                trial.value,
                notes.get("step"),
                notes.get("epoch"),
                len(trial.intermediate_values),
                notes.get("seconds"),
                notes.get("error"),
                *(trial.params.get(name) for name in study.space),
            ]
        )
    return buffer.getvalue()


def _best_config(study: Study, best: FrozenTrial, summary: str) -> str:
    """The best trial's config as a config file."""
    heading = (
        f"Trial {best.number}, the best of search {summary}.\n\n"
        f"Validation {study.metric} {best.value:.4f}, which is optimistic: it was chosen on the\n"
        "same images. `skinjax tune` wrote this file; what it searched is listed even where the\n"
        "default is the best."
    )
    return config_file.source(study.drawn(best), heading, always=tuple(study.space))


def _importance(study: Study, completed: int) -> dict[str, float]:
    """Each field's share of the importance (Watanabe et al., IJCAI 2023), the largest first."""
    if completed < _FEWEST or len(study.space) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that few trials say little, which the page says too
        return optuna.importance.get_param_importances(study.optuna)


def _draw(
    study: Study, trials: Sequence[FrozenTrial], shares: dict[str, float], workdir: Path
) -> dict[str, str]:
    """Draws the plots; returns each one's title by file name."""
    scored = [trial for trial in trials if trial.value is not None]
    pruned_N = np.array([trial.state == TrialState.PRUNED for trial in scored])
    value_N = np.array([trial.value for trial in scored], dtype=float)
    number_N = np.array([trial.number for trial in scored])
    completed = np.count_nonzero(~pruned_N)
    caption = f"{workdir.resolve().name}, {study.sampler} search: {completed} completed trials"
    by_share = {name: study.space[name] for name in [*shares, *study.space]}
    figures = {
        "history": plots.history(
            number_N, value_N, pruned_N,
            maximize=study.maximize, metric=study.metric, caption=caption,
        ),
        "parameters": plots.parameters(
            by_share, [trial.params for trial in scored], value_N, pruned_N,
            metric=study.metric, caption=caption,
        ),
    }  # fmt: skip
    titles = {"history": "Value of each trial", "parameters": "Value by each field"}
    if shares:
        figures["importance"] = plots.importance(shares, caption=caption)
        titles["importance"] = "Importance of the fields"
    for name, figure in figures.items():
        drawing.draw(workdir, name, figure)
    return {f"{name}.png": title for name, title in titles.items()}


def _page(
    study: Study,
    trials: Sequence[FrozenTrial],
    best_first: Sequence[FrozenTrial],
    summary: str,
    shares: dict[str, float],
    figures: dict[str, str],
    *,
    title: str,
) -> list[str]:
    best = best_first[0]
    direction = "higher" if study.maximize else "lower"
    seconds = sum(trial.user_attrs.get("seconds", 0.0) for trial in trials)
    lines = [f"# Search {title}", "", DISCLAIMER, ""]
    lines += [
        f"- Objective: the best {study.metric} of a trial's evaluations on the validation split; "
        f"{direction} is better",
        f"- Sampler: {study.sampler}, seed {study.seed}",
        f"- {summary[0].upper()}{summary[1:]}; {seconds / 3600:.2f} hours of training",
        f"- Best: trial {best.number} with {best.value:.4f}, at step "
        f"{best.user_attrs.get('step')} (epoch {best.user_attrs.get('epoch', 0.0):g})",
        "",
        f"The best value is optimistic: it is the {'largest' if study.maximize else 'smallest'} of "
        f"{len(best_first)} trials', each at its best step, and all were chosen on the same "
        "validation images. The test split was not touched; evaluate on it once, with what is "
        "trained in the end.",
        "",
        "[best_config.py](best_config.py) is ready for training:",
        "",
        "    python -m skinjax.main train --config=best_config.py --workdir=runs/NAME",
        "",
        "## Fields",
        "",
    ]
    head = ["Field", "Searched", "Best", "Importance"]
    lines += _markdown(
        head,
        [
            [f"`{name}`", str(dimension), _text(best.params[name]), _text(shares.get(name))]
            for name, dimension in study.space.items()
        ],
    )
    lines += [
        "Importance is PED-ANOVA's share, of the completed trials; of a few dozen it is a hint."
        if shares
        else f"Importance needs {_FEWEST} completed trials and two fields.",
        "",
    ]
    lines += ["## Best trials", ""]
    lines += _markdown(
        ["Trial", study.metric, "Epoch", *study.space],
        [
            [str(one.number), f"{one.value:.4f}", _text(one.user_attrs.get("epoch"))]
            + [_text(one.params[name]) for name in study.space]
            for one in best_first[:_SHOWN]
        ],
    )
    failed = [trial for trial in trials if "error" in trial.user_attrs]
    if failed:
        lines += ["## Failed", ""]
        lines += [f"- {one.number}: {one.user_attrs['error']}" for one in failed]
        lines += [""]
    lines += ["## Plots", "", *(f"![{title}]({name})\n" for name, title in figures.items())]
    return [*lines, "All trials: [trials.csv](trials.csv)"]


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [
        [cell.replace("|", "\\|") for cell in row] for row in (head, ["---"] * len(head), *rows)
    ]
    return [*(f"| {' | '.join(row)} |" for row in cells), ""]


def _text(value: Any) -> str:
    if value is None:
        return "not available"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
