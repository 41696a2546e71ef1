"""Tests of folds in processes of their own, with programs of a line in place of the training."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import pytest

from skinjax import fold_processes
from skinjax.config import default_config
from skinjax.errors import InputError, SkinjaxError, StoppedError
from skinjax.fold_processes import Device

# Notes its fold and GPU, then does what the test wants of it.
PROGRAM = """
import os, signal, sys, time
folder, fold, rest = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def note(what):
    with open(folder + "/notes", "a") as file:
        file.write(f"{what} {fold} {os.environ.get('CUDA_VISIBLE_DEVICES')}\\n")
def stop(signum, frame):
    note("stopped")
    time.sleep(0.5)  # a second signal would come in it
    sys.exit(128 + signum)
signal.signal(signal.SIGINT, stop)
note("began")
exec(rest)
note("ended")
"""


def use(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Runs `program` in the place of each fold's training."""
    monkeypatch.setattr(
        fold_processes,
        "_command",
        lambda workdir, fold, _: [sys.executable, "-c", PROGRAM, str(workdir), str(fold), program],
    )


def notes(folder: Path) -> list[str]:
    path = folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


def test_each_device_has_one_fold_at_a_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(monkeypatch, "time.sleep(0.3)")
    devices = [Device(f"GPU {i}", {"CUDA_VISIBLE_DEVICES": str(i)}) for i in (4, 7)]
    fold_processes.run(tmp_path, range(5), devices)
    seen = notes(tmp_path)
    assert sorted(line.split()[1] for line in seen if "ended" in line) == list("01234")
    busy: set[str] = set()
    for line in seen:
        what, _, gpu = line.split()
        assert (gpu in busy) == (what == "ended")
        busy ^= {gpu}
    assert {line.split()[2] for line in seen} == {"4", "7"}


def test_after_a_failure_the_others_end_and_none_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(
        monkeypatch,
        "if fold == 1: print('skinjax: the loss is not finite', file=sys.stderr); sys.exit(1)\n"
        "time.sleep(1)",
    )
    with pytest.raises(
        SkinjaxError, match=r"fold 1: the loss is not finite \(log: .*fold_1\.log\)"
    ):
        fold_processes.run(tmp_path, range(4), [Device("a"), Device("b")])
    assert [line.split()[:2] for line in notes(tmp_path)][-1] == ["ended", "0"]
    assert len(notes(tmp_path)) == 3


def test_what_an_earlier_start_said_is_not_why_a_fold_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "fold_0.log").write_text("skinjax: stopped by SIGTERM\n")
    use(monkeypatch, "sys.exit(3)")
    with pytest.raises(SkinjaxError, match=r"fold 0: exit code 3 \(log: .*fold_0\.log\)"):
        fold_processes.run(tmp_path, [0], [Device("a")])


def test_a_device_that_jax_lacks_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def devices() -> None:
        raise AssertionError

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(InputError, match=r"can't use cuda \(CUDA is missing .*\): install"):
        fold_processes._check_platform()


def test_a_signal_reaches_every_fold_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, "time.sleep(30)")
    before = signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        while len(notes(tmp_path)) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(StoppedError, match="stopped by SIGINT") as stopped:
        fold_processes.run(tmp_path, range(4), [Device("a"), Device("b")])
    assert stopped.value.signum == signal.SIGINT
    assert sorted(line.split()[0] for line in notes(tmp_path)) == ["began"] * 2 + ["stopped"] * 2
    assert signal.getsignal(signal.SIGINT) is before


def test_a_fold_stops_when_its_parent_is_gone() -> None:
    program = "from skinjax.fold_processes import _stop_with_parent; _stop_with_parent()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        time.sleep(0.5)
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(timeout=60) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("visible", "names"),
    [("2,5", ["GPU 2", "GPU 5"]), ("1,-1,3", ["GPU 1"]), (None, ["GPU 0", "GPU 1", "GPU 2"])],
)
def test_gpus_are_counted_without_jax(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: str | None, names: list[str]
) -> None:
    listing = tmp_path / "nvidia-smi"
    listing.write_text("#!/bin/sh\nfor i in 0 1 2; do echo GPU $i: H200; echo '  MIG 1g'; done\n")
    listing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    settings = default_config().parallel
    devices = fold_processes.devices(settings)
    assert [device.name for device in devices] == names
    assert devices[0].environment == {
        "CUDA_VISIBLE_DEVICES": names[0].split()[1],
        "JAX_PLATFORMS": "cuda",
    }
    settings.num_devices = 1
    assert len(fold_processes.devices(settings)) == 1


def test_without_a_gpu_the_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 5, 6})
    settings = default_config().parallel
    assert len(fold_processes.devices(settings)) == 7
    settings.cpu_devices = 3
    cores = [device.cores for device in fold_processes.devices(settings)]
    assert cores == [(0, 3, 6), (1, 4), (2, 5)]


def test_other_platforms_train_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    with pytest.raises(InputError, match="JAX_PLATFORMS is tpu"):
        fold_processes.devices(default_config().parallel)
