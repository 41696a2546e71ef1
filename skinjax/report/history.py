"""The plot of a run's training."""

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from skinjax import logs, plots
from skinjax.errors import InputError
from skinjax.report.figures import png


def write_history(directory: Path | str, *, title: str = "Training history") -> Path | None:
    """Draws `history.csv` as `history.png`, as `draw` does; None if it has no rows yet.

    Raises:
      InputError: as `draw`.
    """
    path = Path(directory) / "history.csv"
    figure = draw(path, title=title)
    if figure is None:
        return None
    target = path.with_name("history.png")
    logs.write_bytes(target, png(figure))
    return target


def draw(path: Path, *, title: str) -> Figure | None:
    """The figure of a `history.csv`; None if it has no rows yet.

    A row is an epoch, or what lies between two evaluations.

    Columns: epoch, step, phase, learning_rate, and train_<metric> and val_<metric> for loss and
    the names of `metrics.scalars`; what is missing or empty is not drawn. The caption states the
    largest train_num_examples and val_num_examples, if those are there.

    Raises:
      InputError: the file is missing, or has no column `epoch`, or text where numbers belong.
    """
    if not path.exists():
        raise InputError(f"{path} is missing: train writes it at the end of every epoch")
    rows = logs.read_csv_log(path)
    if not rows:
        return None
    if "epoch" not in rows[0]:
        raise InputError(f"{path} has no column epoch; its columns are {', '.join(rows[0])}")
    column = {
        name: np.array([_number(row[name], name, path) for row in rows])
        for name in rows[0]
        if name != "phase"
    }
    phase = [row.get("phase", "") for row in rows]
    parts = []
    for prefix, split in (("train", "training"), ("val", "validation")):
        count = column.get(f"{prefix}_num_examples", np.array([np.nan]))
        count = count[np.isfinite(count)]
        if any(
            name.startswith(f"{prefix}_") and np.isfinite(v).any() for name, v in column.items()
        ):
            parts += [f"{split} (n={int(count.max())})" if count.size else split]
    epochs = float(column["epoch"][-1])
    caption = f"{title}\n{' and '.join(parts)}, {epochs:g} epoch{'s' * (epochs != 1)}"
    if len(set(phase)) > 1:
        caption += f", phases: {', '.join(dict.fromkeys(phase))}"
    return plots.history(column, phase, caption=caption)


def _number(text: str, name: str, path: Path) -> float:
    """A cell of the history; empty is NaN."""
    try:
        return float(text) if text else math.nan
    except ValueError:
        raise InputError(f"{path}: {name} is {text!r}, expected a number") from None
