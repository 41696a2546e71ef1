"""Tests that nothing which ends a run costs what had been saved, and that each end is one line."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from skinjax import checkpoint, run_log, stopping
from skinjax import config as config_lib
from skinjax.config import phase
from skinjax.data import builder
from skinjax.experiment import Experiment
from skinjax.main import main

REPOSITORY = Path(__file__).parent.parent
MESSAGE = "skinjax: "

pytestmark = pytest.mark.usefixtures("fast_compilation")


@pytest.fixture
def command(config: ConfigDict, tmp_path: Path) -> Callable[..., list[str]]:
    """The arguments of `train` on the tiny config, with what differs from it."""
    config.phases_from_scratch = True
    config.phases = (phase(("head",), epochs=1), phase(("dense", "head"), epochs=1))
    config.batch_size = 16
    config.checkpoint.every_steps = 2
    config.ema.decay = 0.9
    (tmp_path / "tiny.json").write_text(config_lib.to_json(config))
    file = tmp_path / "tiny.py"
    file.write_text(
        "from skinjax.config import load_config\n"
        f"def get_config():\n    return load_config({str(tmp_path / 'tiny.json')!r})\n"
    )

    def arguments(run: Path, *overrides: str) -> list[str]:
        return ["train", f"--config={file}", f"--workdir={run}", *overrides]

    return arguments


def ends(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int = 1) -> str:
    """Runs a command that must end with this code and one line of its own; returns the line."""
    capsys.readouterr()
    assert main(arguments) == code
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    (line,) = [line for line in printed.splitlines() if line.startswith(MESSAGE)]
    assert printed.rstrip().endswith(line)
    return line


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], Any]) -> None:
    """Has something happen when the outputs of a step are read."""
    original = run_log.RunLog.step

    def with_action(self: Any, **pending: Any) -> None:
        original(self, **pending)
        if pending["step"] == step:
            action()

    monkeypatch.setattr(run_log.RunLog, "step", with_action)


def latest(run: Path) -> tuple[int, Any]:
    checkpointer, _ = checkpoint.open_run(run)
    step = checkpointer.steps()[-1]
    return step, checkpointer.restore_variables(step)


def without_times(run: Path) -> list[dict[str, str]]:
    with (run / "steps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: row[k] for k in row if k not in ("images_per_second", "waiting")} for row in rows]


def test_sigkill_at_random_moments_changes_no_bit(tmp_path: Path) -> None:
    """With a few kills; `scripts/kill_nine.py --kills=20` has more."""
    script = [sys.executable, REPOSITORY / "scripts" / "kill_nine.py", "--kills=3", "--seed=7"]
    done = subprocess.run(
        [*script, f"--out={tmp_path / 'out'}"], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("3 kills, and not a bit differs\n"), done.stdout


# Ends its own process at a place in the code that is too narrow to be hit from outside.
KILL_AT = """
import os, signal, sys
place, *arguments = sys.argv[1:]
def kill(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
if place == "config":
    replace = os.replace
    os.replace = lambda a, b: kill() if str(b).endswith("config.json") else replace(a, b)
elif place == "prepare":
    from skinjax.data import builder
    builder._write_rows = kill
else:
    from skinjax.checkpoint import Checkpointer
    save = Checkpointer.save
    def save_or_kill(self, state, data_state, description):
        if description.step == 7:
            kill() if place == "row" else save(self, state, data_state, description)
            kill()
        save(self, state, data_state, description)
    Checkpointer.save = save_or_kill
from skinjax.main import main
sys.exit(main(arguments))
"""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run that nothing ends is trained by the first test that compares with it."""
    return tmp_path_factory.mktemp("survival") / "unbroken"


@pytest.mark.parametrize("place", ["config", "prepare", "row", "save"])
def test_sigkill_where_it_hurts_most(
    place: str, command: Callable[..., list[str]], unbroken: Path, tmp_path: Path
) -> None:
    """While config.json or the data is written; between history's row and its checkpoint."""
    run = tmp_path / "run"
    arguments = command(run)
    if place == "prepare":
        arguments.append(f"--config.data.prepared_dir={tmp_path / 'prepared'}")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    killed = subprocess.run(
        [sys.executable, "-c", KILL_AT, place, *arguments], env=environment, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if place in ("row", "save"):
        with (run / "history.csv").open("a") as history, (run / "steps.csv").open("a") as steps:
            history.write("2,14,1,0.00")  # what a full buffer would have left
            steps.write("8")
        (run / "versions.json").write_text("[{")
    assert main(arguments) == 0
    if not (unbroken / "history.csv").exists():
        assert main(command(unbroken)) == 0
    assert latest(run)[0] == latest(unbroken)[0]
    jax.tree.map(np.testing.assert_array_equal, latest(run)[1], latest(unbroken)[1])
    assert without_times(run) == without_times(unbroken)
    assert not list(run.glob(".*.tmp"))


def test_a_work_directory_that_cannot_be_written_is_one_line(
    command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert "file, which is a file" in ends(capsys, command(tmp_path / "file" / "a" / "run"))
    # Where root can't write either.
    assert "can't be written" in ends(capsys, command(Path("/sys/skinjax")))


def test_a_disk_that_fills_up_or_turns_read_only_keeps_what_was_saved(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    """On a small file system of its own, in a namespace of its own."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("needs `unshare -rm`")
    train = " ".join([sys.executable, "-m", "skinjax.main", *command(tmp_path / "disk" / "run")])
    (tmp_path / "disk").mkdir()
    script = f"""
        mount -t tmpfs -o size=900k none {tmp_path}/disk || exit 99
        {train}; echo "code $?" >&2
        mount -o remount,size=9m,ro {tmp_path}/disk
        {train}; echo "code $?" >&2
        mount -o remount,rw {tmp_path}/disk
        {train}; echo "code $?" >&2
    """
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0
    lines = [line for line in done.stderr.splitlines() if line.startswith((MESSAGE, "code", "go"))]
    assert "Traceback" not in done.stderr
    assert "the disk is full" in lines[0]
    assert "can't be written" in lines[2]
    assert lines[4].startswith("going on from step ")
    assert [lines[1], lines[3], lines[5]] == ["code 1", "code 1", "code 0"]


@pytest.mark.parametrize("gone", [True, False])
def test_data_that_goes_in_the_middle_of_training_is_one_line(
    gone: bool,
    config: ConfigDict,
    command: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    prepared = builder.prepare(config).directory
    shutil.copytree(prepared.parent, data)
    (shard,) = data.glob("*.array_record-*")

    def damage() -> None:
        if gone:
            shutil.rmtree(data)
        else:
            os.truncate(shard, shard.stat().st_size // 2)

    with monkeypatch.context() as patch:
        at_step(patch, 2, damage)
        line = ends(capsys, command(run, f"--config.data.directory={data / prepared.name}"))
    assert f"images in {data} can't be read" in line
    step, _ = latest(run)
    capsys.readouterr()
    assert main(command(run)) == 0  # from where `prepare` has put the same data
    assert f"going on from step {step} of" in capsys.readouterr().err


def test_out_of_memory_says_what_to_try_and_the_run_goes_on_with_it(
    command: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    original = Experiment.train_step

    def exhausted(self: Experiment, phase: Any) -> Any:
        step = original(self, phase)

        def call(state: Any, batch: Any, key: Any) -> Any:
            if self.config.optimizer.accumulate == 1 and phase.index == 1:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 b")
            return step(state, batch, key)

        return call

    monkeypatch.setattr(Experiment, "train_step", exhausted)
    line = ends(capsys, command(tmp_path / "run"))
    step, _ = latest(tmp_path / "run")
    assert f"config.batch_size=16, and step {step} is saved: the same command with" in line
    assert "--config.optimizer.accumulate=2" in line
    assert "--config.batch_size=8" in line
    assert main(command(tmp_path / "run", "--config.optimizer.accumulate=2")) == 0
    assert f"going on from step {step} of" in capsys.readouterr().err


def test_a_run_that_failed_before_its_first_checkpoint_leaves_its_folder_free(
    command: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def exhausted(*args: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        at_step(patch, 1, exhausted)
        line = ends(capsys, command(tmp_path / "run"))
    assert "; try --config.batch_size=8, " in line
    assert main(command(tmp_path / "run", "--config.batch_size=8")) == 0
    assert "another config" in ends(capsys, command(tmp_path / "run"))


def test_sigterm_before_the_first_step_is_one_line(
    command: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(builder, "prepare", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert "stopped by SIGTERM" in ends(capsys, command(tmp_path / "run"), 143)
    assert signal.getsignal(signal.SIGTERM) == before


def test_writes_in_flight_when_the_disk_filled_up_are_not_told_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    assert main(["evaluate"]) == 1
    for error in (RuntimeError("Event loop is closed"), RuntimeError("another")):
        sys.unraisablehook(types.SimpleNamespace(exc_value=error))  # type: ignore[arg-type]
    assert [str(one.exc_value) for one in told] == ["another"]


def test_a_second_signal_ends_the_process_as_it_would_have() -> None:
    with stopping.on_signals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.is_made(3)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        assert stop.error(3).signum == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) != signal.SIG_DFL
