"""Trains and evaluates a config over several seeds and prints the table that its docstring quotes.

    python scripts/measure.py --config=configs/ham10000_small.py --seeds=0,1,2 --out=runs/small \
        --config.data.raw_dir=PATH/TO/ham10000

Each seed is a run of the command line in a work directory of its own, `OUT/seed_N`, so an
interrupted measurement goes on where it stopped (its wall time is then of the last part only, and
marked so). What is printed also goes to `OUT/measured.json`, with the devices and the versions.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_SHOWN = (
    "accuracy", "balanced_accuracy", "macro_roc_auc", "macro_f1", "weighted_precision",
    "weighted_recall", "log_loss",
)  # fmt: skip


def main() -> int:
    """Runs the seeds one after another; returns 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", required=True)
    parser.add_argument("--seeds", default="0,1,2", help="separated by commas")
    parser.add_argument("--out", required=True, type=Path)
    arguments, overrides = parser.parse_known_args()
    if any(flag.startswith("--config.data.folds") for flag in overrides):
        parser.error("folds are for scripts/ablate.py or skinjax train; here each seed is one run")
    rows = []
    for seed in arguments.seeds.split(","):
        row = _measure(arguments.config, seed, arguments.out / f"seed_{seed}", overrides)
        if row is None:
            return 1
        rows.append(row)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "measured.json").write_text(json.dumps(rows, indent=2) + "\n")
    print(_table(rows))
    return 0


def _measure(config: str, seed: str, run: Path, overrides: list[str]) -> dict[str, Any] | None:
    resumed = (run / "checkpoints").exists()
    command = [sys.executable, "-m", "skinjax.main"]
    began = time.monotonic()
    train = [f"--config={config}", f"--workdir={run}", f"--config.seed={seed}", *overrides]
    if subprocess.run([*command, "train", *train], check=False).returncode:
        return None
    row: dict[str, Any] = {"seed": seed, "minutes": (time.monotonic() - began) / 60}
    row |= {"resumed": resumed, "start": json.loads((run / "versions.json").read_text())[-1]}
    for split in ("val", "test"):
        evaluate = ["evaluate", f"--workdir={run}", f"--split={split}"]
        if subprocess.run([*command, *evaluate], check=False).returncode:
            return None
        metrics = json.loads((run / "evaluation" / split / "metrics.json").read_text())
        row |= {f"{split}_{name}": metrics[name] for name in _SHOWN}
    return row


def _table(rows: list[dict[str, Any]]) -> str:
    names = [f"{split}_{name}" for split in ("val", "test") for name in _SHOWN] + ["minutes"]
    lines = ["| | " + " | ".join(f"seed {row['seed']}" for row in rows) + " | mean | sd |"]
    lines.append("|---" * (len(rows) + 3) + "|")
    for name in names:
        values = [row[name] for row in rows]
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        shown = [*values, statistics.mean(values), spread]
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in shown) + " |")
    if any(row["resumed"] for row in rows):
        lines.append("(a resumed run's minutes are of its last part)")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
