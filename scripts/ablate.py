"""What each ingredient of a recipe does to validation, over folds, against the recipe without it.

    python scripts/ablate.py --config=configs/ham10000_small.py --out=runs/ablation --folds=0,1,2 \
        --row="EMA: --config.ema.decay=0.99" --row="mixup: --config.augment.mixup_alpha=0.2" \
        --config.data.raw_dir=PATH/TO/ham10000 --config.data.folds=5

Each row changes what its flags say and nothing else; the first line of the table is the config with
none of them. Metrics are those of the last epoch, so that nothing is chosen on what is measured;
differences are taken fold by fold, and the spread is their standard deviation over the folds. Each
run is a work directory of its own, `OUT/ROW/fold_N`, so an interrupted measurement goes on where it
stopped.
"""

import argparse
import csv
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

_SHOWN = ("val_balanced_accuracy", "val_macro_roc_auc", "val_accuracy", "val_loss")


def main() -> int:
    """Trains every row on every fold and prints the table; returns 1 where a run fails."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--folds", default="0,1,2", help="which of data.folds, by commas")
    parser.add_argument(
        "--row", action="append", default=[], metavar="NAME: FLAGS", help="may be repeated"
    )
    arguments, common = parser.parse_known_args()
    if not all(":" in row and not row.startswith("base:") for row in arguments.row):
        parser.error("a row is NAME: FLAGS, of another name than base")
    rows = {"base": ""} | dict(row.split(":", 1) for row in arguments.row)
    measured: dict[str, list[dict[str, float]]] = {}
    for name, flags in rows.items():
        measured[name] = []
        for fold in arguments.folds.split(","):
            run = arguments.out / re.sub(r"\W+", "_", name) / f"fold_{fold}"
            changes = [f"--config.data.fold={fold}", *_merged(common, shlex.split(flags))]
            command = [sys.executable, "-m", "skinjax.main", "train"]
            command += [f"--config={arguments.config}", f"--workdir={run}", *changes]
            if subprocess.run(command, check=False).returncode:
                return 1
            measured[name].append(_last_validation(run / "history.csv"))
    print(_table(measured))
    return 0


def _merged(common: list[str], own: list[str]) -> list[str]:
    """The flags of all rows and of one, whose own win."""
    fields = {flag.split("=")[0]: flag for flag in [*common, *own]}
    return list(fields.values())


def _last_validation(path: Path) -> dict[str, float]:
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val_loss"]]
    return {name: float(rows[-1][name]) for name in _SHOWN}


def _table(measured: dict[str, list[dict[str, float]]]) -> str:
    base = measured["base"]
    lines = ["| | " + " | ".join(name.removeprefix("val_") for name in _SHOWN) + " |"]
    lines.append("|---" * (len(_SHOWN) + 1) + "|")
    for name, folds in measured.items():
        cells = []
        for metric in _SHOWN:
            values = [fold[metric] for fold in folds]
            if name != "base":
                values = [v - b[metric] for v, b in zip(values, base, strict=True)]
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            sign = "" if name == "base" else "+"
            cells.append(f"{statistics.mean(values):{sign}.3f} ± {spread:.3f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
