"""Tests of telling the workers that are alive from those that are gone."""

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from skinjax.errors import StoppedError
from skinjax.tune import workers
from skinjax.tune.workers import Worker, signs_of_life

PROGRAM = """
import sys, time
from pathlib import Path
from skinjax.tune.workers import Worker
with Worker(Path(sys.argv[1])) as worker:
    print(worker.name, flush=True)
    time.sleep(100)
"""


def test_a_killed_worker_of_this_machine_is_gone_at_once(tmp_path: Path) -> None:
    with (
        Worker(tmp_path) as here,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, tmp_path], stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdout is not None
        other = process.stdout.readline().strip()
        try:
            assert not here.is_gone(other, seen=0.0)
            assert not here.is_gone(here.name, seen=0.0)
        finally:
            process.kill()
        process.wait()
        assert here.is_gone(other, seen=time.time())
        here.forget(other)
        # Nothing is left but the signs of life.
        assert not here.is_gone(other, seen=time.time())


def test_a_worker_elsewhere_is_gone_when_it_gave_no_sign_for_long(tmp_path: Path) -> None:
    here = Worker(tmp_path)
    assert not here.is_gone("elsewhere-1-abc", seen=time.time() - workers.SIGN_OF_LIFE)
    assert here.is_gone("elsewhere-1-abc", seen=time.time() - workers.PRESUMED_DEAD - 1)


def test_a_host_is_not_one_whose_name_begins_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "node")
    here = Worker(tmp_path)
    for other in ("node-1-77-abc", "node-77-abc"):  # neither holds its lock
        (tmp_path / f"{other}.lock").touch()
    assert not here.is_gone("node-1-77-abc", seen=time.time())
    assert here.is_gone("node-77-abc", seen=time.time())


def test_only_a_worker_that_ended_as_foreseen_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoppedError), Worker(tmp_path):
        raise StoppedError("stopped", 15)
    assert not list(tmp_path.glob("*.lock"))
    with pytest.raises(KeyboardInterrupt), Worker(tmp_path) as worker:
        raise KeyboardInterrupt
    assert Worker(tmp_path).is_gone(worker.name, seen=time.time())


def test_workers_are_alone_one_after_another(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def enter() -> None:
        for _ in range(20):
            with Worker(tmp_path).alone():
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=enter) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_signs_of_life_come_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SIGN_OF_LIFE", 0.01)
    given: list[float] = []

    def give() -> None:
        given.append(time.time())
        raise OSError("the database is busy")  # which must not end the others

    with signs_of_life(give):
        time.sleep(0.3)
    count = len(given)
    time.sleep(0.1)
    assert len(given) == count > 2
