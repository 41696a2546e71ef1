"""Kills a training run with SIGKILL at random moments and compares it with an unbroken one.

    python scripts/kill_nine.py --kills=20 --seed=0 --out=/tmp/kill_nine

Both runs are commands as a user types them, on drawn data, with this very file as the config: two
phases, the first ended by early stopping and the second begun with its best parameters, moving
averages, accumulated gradients, a balanced sampler, dropout, mixup, CutMix and a learning rate that
a plateau lowers. The moments are drawn from `--seed`: a time after the start (imports, preparing,
compiling), a step, or the saving of a checkpoint.

What must not differ by a bit: the latest checkpoint (parameters, training state, place in the data,
description), which checkpoints are kept, and in `history.csv` and `steps.csv` all that is neither a
time nor a mean over an epoch that a kill cut in two. Prints a table; returns 1 where any differs,
or where a run said more than it should.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from skinjax.config import default_config, phase

_POLL = 0.001  # seconds
_PATIENCE = 300.0  # seconds in which a run must have reached its moment
_KINDS = ("start", "step", "save")
_HISTORY = ("epoch", "step", "phase", "learning_rate")  # and the columns of validation
_STEPS = ("step", "phase", "learning_rate", "loss", "grad_norm")


def get_config() -> ConfigDict:
    """Everything that has a state to be kept, on a network that trains 100 steps a second."""
    config = default_config()
    config.data.dataset = "synthetic"
    config.synthetic.update(num_lesions=100, image_size=32)
    config.data.image_size = 16
    config.data.balance = 1.0
    config.batch_size = 16
    config.model.name = "simple_cnn"
    config.model.head = (("dense", 8), ("batch_norm",), ("relu",), ("dropout", 0.5))
    config.phases_from_scratch = True
    config.phases = (
        phase(("head",), epochs=30),
        phase(("dense", "head"), epochs=12, learning_rate_factor=0.5),
    )
    config.optimizer.accumulate = 2
    config.augment.update(mixup_alpha=0.2, cutmix_alpha=1.0)
    config.ema.decay = 0.95
    config.plateau.update(patience=2, metric="loss", min_delta=0.01)
    config.checkpoint.metric = "loss"
    config.early_stopping.update(patience=10, min_delta=0.03, restore_best=True)
    config.checkpoint.every_steps = 3
    config.log.update(every_steps=1, tensorboard=False)
    config.parallel.num_devices = 1
    return config


@dataclass(frozen=True)
class Moment:
    """When to kill: `seconds` after the start, after step `step`, or after a save has begun.

    Not later than after step `step` in the first case, so that kills are left for what follows.
    """

    kind: str
    seconds: float
    step: int = 0

    def __str__(self) -> str:
        """As in the table."""
        what = {"start": "start", "step": f"step {self.step}", "save": f"save from {self.step} on"}
        return f"{what[self.kind]} + {self.seconds * 1000:.0f} ms"


def main() -> int:
    """Runs both and compares; returns 0 where nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kills", default=20, type=int)
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--out", required=True, type=Path, help="a new folder")
    arguments, overrides = parser.parse_known_args()
    arguments.out.mkdir(parents=True)
    out = arguments.out.resolve()
    overrides = [f"--config.data.prepared_dir={out / 'prepared'}", *overrides]
    train = _Command(out, overrides)
    began = time.monotonic()
    process = train("unbroken")
    while not _last_step(out / "unbroken") and process.poll() is None:
        time.sleep(_POLL)
    startup = time.monotonic() - began
    if process.wait():
        print((out / "unbroken.log").read_text())
        return 1
    total = _last_step(out / "unbroken")
    took = time.monotonic() - began
    print(f"unbroken: {total} steps, {took:.1f} s, first step {startup:.1f} s", flush=True)
    moments = draw_moments(arguments.kills, arguments.seed, total, startup)
    hits, faults = 0, []
    for number, moment in enumerate(moments):
        is_hit, fault = _kill(train, out / "broken", number, moment)
        hits += is_hit
        faults += [fault] if fault else []
    faults += _finish(train, out / "broken")
    faults += differences(out / "unbroken", out / "broken")
    print("\n".join(faults) or f"{hits} kills, and not a bit differs")
    return int(bool(faults) or not hits)


def draw_moments(kills: int, seed: int, total: int, startup: float) -> list[Moment]:
    """Draws a moment for each kill; those in training are spread over the run's steps.

    Args:
      kills: how many.
      seed: of the draws.
      total: steps of the run.
      startup: seconds to the first step, data and compiling included, which later starts find done.
    """
    draw = random.Random(seed)
    moments = []
    for number in range(kills):
        kind = draw.choice(_KINDS)
        seconds = draw.uniform(0, startup / 2 if kind == "start" else 0.03)
        step = int(total * (number + draw.random()) / (kills + 1))
        moments.append(Moment(kind, seconds, max(1, step)))
    return moments


class _Command:
    """Starts the command `train` in a work directory; what it prints is added to a log."""

    def __init__(self, out: Path, overrides: list[str]) -> None:
        self._out, self._overrides = out, overrides
        cache = {"JAX_COMPILATION_CACHE_DIR": str(out / "jax_cache"),
                 "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2"}  # fmt: skip
        root = Path(__file__).resolve().parent.parent
        path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
        self._environment = {**cache, **os.environ, "PYTHONPATH": path}

    def __call__(self, name: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "skinjax.main", "train", f"--config={__file__}",
                   f"--workdir={self._out / name}", *self._overrides]  # fmt: skip
        with (self._out / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=self._environment
            )


def _kill(train: _Command, run: Path, number: int, moment: Moment) -> tuple[bool, str]:
    """Starts the run, kills it at a moment, and prints a row.

    Returns:
      Whether it was still running then, and what is not right, or "".
    """
    log = run.with_suffix(".log")
    already = log.stat().st_size if log.exists() else 0
    written_before = _written_at(run)
    # What was reached before may be past the moment.
    step = max(moment.step, *_steps(run), 1)

    def has_reached() -> bool:
        return _written_at(run) != written_before and _last_step(run) >= step

    reached: dict[str, Callable[[], bool]] = {
        "start": lambda: time.monotonic() - began >= moment.seconds or has_reached(),
        "step": has_reached,
        "save": lambda: has_reached() and bool(_saves(run)),
    }
    began = time.monotonic()
    process = train(run.name)
    while process.poll() is None and not reached[moment.kind]():
        if time.monotonic() - began > _PATIENCE:
            process.kill()
            return False, f"kill {number + 1}: {moment} was not reached"
        time.sleep(_POLL)
    if moment.kind != "start":
        time.sleep(moment.seconds)
    is_running = process.poll() is None
    process.kill()
    process.wait()
    printed = log.read_bytes()[already:].decode(errors="replace")
    went_on = [line for line in printed.splitlines() if line.startswith("going on")]
    steps = sorted(_steps(run))
    half = ", half a save" if _saves(run) else ""
    half += "" if is_running else ", over before"
    print(
        f"{number + 1:3} {moment!s:28} {went_on[0] if went_on else 'no checkpoint read':32} "
        f"reached {_last_step(run):3}, saved {steps[-1] if steps else '-'}{half}",
        flush=True,
    )
    return is_running, f"Traceback in {log}" if "Traceback" in printed else ""


def _finish(train: _Command, run: Path) -> list[str]:
    """Lets the run come to its end, and starts the finished one once more."""
    faults = []
    for _ in range(2):
        if train(run.name).wait():
            faults.append(f"the last start failed; see {run.with_suffix('.log')}")
    ends = [
        line
        for line in run.with_suffix(".log").read_text().splitlines()
        if line.startswith("trained; ")
    ]
    print(*dict.fromkeys(ends), sep="\n")
    if len(ends) < 2 or len(set(ends)) != 1:
        faults.append(f"the finished run, started again, says otherwise: {ends}")
    return faults


def _last_step(run: Path) -> int:
    """The step of the last whole row of the step log."""
    try:
        with (run / "steps.csv").open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 300))
            rows = file.read().decode(errors="replace").split("\n")[:-1]
    except OSError:
        return 0
    last = rows[-1].split(",")[0] if rows else ""
    return int(last) if last.isdecimal() else 0


def _written_at(run: Path) -> int:
    """When the step log was written last; a start of the run that gets so far writes it anew."""
    path = run / "steps.csv"
    return path.stat().st_mtime_ns if path.exists() else 0


def _steps(run: Path) -> set[int]:
    names = os.listdir(run / "checkpoints") if (run / "checkpoints").is_dir() else []
    return {int(name) for name in names if name.isdecimal()}


def _saves(run: Path) -> set[str]:
    names = os.listdir(run / "checkpoints") if (run / "checkpoints").is_dir() else []
    return {name for name in names if not name.isdecimal()}


def differences(unbroken: Path, broken: Path) -> list[str]:
    """Compares two finished runs bit by bit; names what differs."""
    found = []
    if _steps(unbroken) != _steps(broken):
        found.append(f"checkpoints {sorted(_steps(broken))}, unbroken {sorted(_steps(unbroken))}")
    for name, prefixes in (("history.csv", (*_HISTORY, "val_")), ("steps.csv", _STEPS)):
        rows, other_rows = (_columns(run / name, prefixes) for run in (unbroken, broken))
        if rows != other_rows:
            pairs = zip(rows, other_rows, strict=False)
            first = next((pair for pair in pairs if pair[0] != pair[1]), None)
            if first is None:
                first = ([str(len(rows))], [str(len(other_rows))])
            found.append(f"{name}: {first[0]} unbroken, {first[1]} broken")
    for step in sorted(_steps(unbroken) & _steps(broken)):
        ours, others = (_contents(run / "checkpoints" / str(step)) for run in (unbroken, broken))
        wrong = [name for name in ours if ours[name] != others.get(name)]
        wrong += sorted(others.keys() - ours.keys())
        if wrong:
            found.append(f"checkpoint {step}: {len(wrong)} of {len(ours)} differ, as {wrong[0]}")
    return found


def _columns(path: Path, prefixes: tuple[str, ...]) -> list[list[str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [[row[name] for name in row if name.startswith(prefixes)] for row in rows]


def _contents(checkpoint: Path) -> dict[str, Any]:
    """Every array of a checkpoint as bytes, and its JSON, by name."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    contents: dict[str, Any] = {}
    for item in ("variables", "training"):
        with ocp.StandardCheckpointer() as checkpointer:
            tree = checkpointer.restore(checkpoint / item)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            array = np.asarray(leaf)
            name = item + jax.tree_util.keystr(path)
            contents[name] = (str(array.dtype), array.shape, array.tobytes())
    for item in ("data", "description"):
        contents[item] = json.loads((checkpoint / item / "metadata").read_text())
    return contents


if __name__ == "__main__":
    sys.exit(main())
