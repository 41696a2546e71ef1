"""The training loop with its data against the bare step, in turns, in one run.

    python scripts/benchmarks/loop.py --work=/tmp/loop --models=simple_cnn,resnet18,efficientnet_b0

It trains with the package's own loop (data pipeline, transfer, log of every step; no evaluation
and no checkpoint). After every --seconds of it the loop is held, and the same compiled step runs
as often on one batch that stays on the device, waiting one step behind as the loop does: "bare".
The steps after a change of turns, which use up what the pipeline had read ahead meanwhile, are not
counted.

The ratio of the rates is given round by round (median and range; 0.97 is wanted), the share of the
loop's time in which it waited for the pipeline's next batch, and what a step of the loop costs
beyond the bare one: where a step is short, that is dispatch and log. --on_device=on takes the
images from the device (`data.on_device`), --profile leaves a trace of the loop in --work.
"""

import argparse
import contextlib
import dataclasses
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import record
import run_config

from skinjax import compile_cache, parallel
from skinjax.config import default_config
from skinjax.data import builder
from skinjax.experiment import Experiment
from skinjax.loop import Loop

_WANTED = 0.97
_HEADERS = (
    "network", "data", "batch", "bare, images/s", "loop, images/s", "ratio", "range", "wanted",
    "waiting", "ms a step beyond the bare one",
)  # fmt: skip


class _DoneError(Exception):
    """Enough rounds."""


@dataclasses.dataclass
class Rounds:
    """Seconds a step of each round, and the seconds waited for batches in the loop's."""

    bare: list[float] = dataclasses.field(default_factory=list)
    loop: list[float] = dataclasses.field(default_factory=list)
    waited: list[float] = dataclasses.field(default_factory=list)
    steps: int = 0


class TimedLoop(Loop):
    """The loop as it is, without evaluation and checkpoints, held between its turns.

    It is its own request to stop, since the loop asks that after every step.
    """

    def time(self, workdir: Path, num_rounds: int, seconds: float) -> Rounds:
        """Runs for so many rounds of about so many seconds each."""
        self._rounds, self._num_rounds, self._seconds = Rounds(), num_rounds, seconds
        self._outputs: Any = None
        self._state: Any = None
        self._batch: Any = None
        self._waited = 0.0
        self._warm_up = self._config.data.num_threads + 3  # more than are read ahead
        self._began_step, self._began = 0, 0.0
        with contextlib.suppress(_DoneError):
            self.run(workdir, self)  # type: ignore[arg-type]
        return self._rounds

    def is_made(self, step: int) -> bool:
        """Called by the loop after each step: changes turns where it is time to."""
        in_turn = step - self._began_step
        if in_turn == self._warm_up:
            jax.block_until_ready(self._outputs)
            self._began, self._waited = time.perf_counter(), 0.0
        if self._rounds.steps == 0:  # measures how many steps make a round
            if in_turn == self._warm_up + 3:
                jax.block_until_ready(self._outputs)
                one = (time.perf_counter() - self._began) / 3
                self._rounds.steps = max(4, round(self._seconds / one))
                self._change_turns(step)
            return False
        if in_turn == self._warm_up + self._rounds.steps:
            jax.block_until_ready(self._outputs)
            taken = time.perf_counter() - self._began
            self._rounds.loop.append(taken / self._rounds.steps)
            self._rounds.waited.append(self._waited / taken)
            if len(self._rounds.loop) == self._num_rounds:
                raise _DoneError
            self._change_turns(step)
        return False

    def _change_turns(self, step: int) -> None:
        self._rounds.bare.append(self._bare(self._rounds.steps))
        self._began_step = step

    def _bare(self, steps: int) -> float:
        for counted in (min(3, steps), steps):  # the first time to fill the caches again
            began, pending = time.perf_counter(), None
            for _ in range(counted):
                self._state, outputs = self._step(self._state, self._batch, self._key)
                jax.device_get(pending)
                pending = outputs
            jax.block_until_ready(pending)
        return (time.perf_counter() - began) / counted

    def _enter(self, state: Any, phase: Any) -> tuple[Any, Any, Any]:
        state, step, rates = super()._enter(state, phase)
        self._step, self._key = step, jax.random.key(0)
        self._state = self._experiment.mapper.replicate(state)

        def noted(state: Any, batch: Any, key: Any) -> Any:
            self._batch = batch
            state, self._outputs = step(state, batch, key)
            return state, self._outputs

        return state, noted, rates

    def _read(self, pending: dict[str, Any] | None) -> None:
        super()._read(pending)
        self._waited += pending["waited"] if pending else 0.0

    def _is_checkpointed(self, step: int, place: Any) -> bool:
        return False


def measure(arguments: argparse.Namespace, model: str, on_device: str) -> dict[str, Any]:
    """One line of the table."""
    on_cpu = jax.devices()[0].platform == "cpu"
    config = run_config.make(arguments, model, on_cpu=on_cpu)
    config.data.on_device = on_device
    config.profile = arguments.profile
    config.steps = 1_000_000  # of which `TimedLoop` takes as many as it needs
    prepared = builder.prepare(config)
    experiment = Experiment.create(config, prepared.classes, np.array(prepared.counts["train"]))
    workdir = Path(arguments.work) / "run"
    shutil.rmtree(workdir, ignore_errors=True)
    workdir.mkdir(parents=True)
    loop = TimedLoop(experiment, prepared, ("train",), None, None)
    found = loop.time(workdir, arguments.rounds, arguments.seconds)
    if arguments.profile:
        shutil.copytree(workdir / "profile", Path(arguments.work) / "profile", dirs_exist_ok=True)
    ratios = [bare / turn for bare, turn in zip(found.bare, found.loop, strict=True)]
    beyond = [turn - bare for bare, turn in zip(found.bare, found.loop, strict=True)]
    return {
        "model": model,
        "batch": config.batch_size,
        "size": config.data.image_size,
        "encoding": config.data.encoding,
        "on_device": on_device,
        "steps": found.steps,
        "bare": [config.batch_size / seconds for seconds in found.bare],
        "loop": [config.batch_size / seconds for seconds in found.loop],
        "ratios": ratios,
        "waiting": statistics.median(found.waited),
        "beyond_ms": 1e3 * statistics.median(beyond),
    }


def main() -> None:
    """Prints a line for each network and place of the data."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    run_config.add_flags(parser)
    add = parser.add_argument
    add("--models", default="simple_cnn,resnet18,efficientnet_b0", help="(default: %(default)s)")
    add("--on_device", default="off", help="off, on or both by comma (default: off)")
    add("--rounds", type=int, default=5, help="(default: 5)")
    add("--seconds", type=float, default=20.0, help="of a turn (default: 20)")
    add("--profile", action="store_true", help="leave a trace of a few steps")
    arguments = parser.parse_args()
    parallel.initialize(default_config().parallel)
    compile_cache.enable()
    results = [
        measure(arguments, model, on_device)
        for model in arguments.models.split(",")
        for on_device in arguments.on_device.split(",")
    ]
    rows = [
        (
            one["model"],
            "on the device" if one["on_device"] == "on" else f"{one['encoding']} shards",
            one["batch"],
            statistics.median(one["bare"]),
            statistics.median(one["loop"]),
            statistics.median(one["ratios"]),
            f"{min(one['ratios']):.3f} to {max(one['ratios']):.3f}",
            _WANTED,
            one["waiting"],
            one["beyond_ms"],
        )
        for one in results
    ]
    record.report(arguments.json, "loop", results, _HEADERS, rows)


if __name__ == "__main__":
    main()
