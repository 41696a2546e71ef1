import multiprocessing
import os
import signal
import time

import pytest

from skinjax.data import staging

SPAWN = multiprocessing.get_context("spawn")


def build_slowly(target, log):
    def build(folder):
        with open(log, "a") as file:
            file.write("built\n")
        (folder / "a").write_text("1")
        time.sleep(0.3)
        (folder / "b").write_text("2")

    staging.build_folder(target, build)
    assert (target / "b").read_text() == "2"


def build_and_hang(target, log):
    def build(folder):
        (folder / "a").write_text("1")
        log.write_text("begun")
        time.sleep(60)

    staging.build_folder(target, build)


def test_builds_once_and_leaves_nothing_else(tmp_path):
    calls = []

    def build(folder):
        calls.append(folder)
        (folder / "a").write_text("1")
        assert not target.exists()

    target = tmp_path / "there" / "target"
    staging.build_folder(target, build)
    staging.build_folder(target, build)
    assert len(calls) == 1
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    assert [path.name for path in target.iterdir()] == ["a"]


def test_takes_an_empty_folder_for_its_own(tmp_path):
    staging.build_folder(tmp_path, lambda folder: (folder / "a").touch())
    assert staging.is_built(tmp_path)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_build_leaves_nothing(tmp_path, error):
    def build(folder):
        (folder / "a").write_text("1")
        raise error

    with pytest.raises(type(error)):
        staging.build_folder(tmp_path / "target", build)
    assert list(tmp_path.iterdir()) == []


def test_processes_at_the_same_moment_build_once(tmp_path):
    target, log = tmp_path / "target", tmp_path / "log"
    processes = [SPAWN.Process(target=build_slowly, args=(target, log)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert log.read_text() == "built\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "target"]


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path):
    target, log = tmp_path / "target", tmp_path / "log"
    other = tmp_path / ".other.building-1"
    other.mkdir()
    process = SPAWN.Process(target=build_and_hang, args=(target, log))
    process.start()
    while not log.exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    log.unlink()
    assert not target.exists()
    assert len(list(tmp_path.glob(".target.building-*"))) == 1
    staging.build_folder(target, lambda folder: (folder / "a").touch())
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "target"]


def test_what_killed_builds_of_other_targets_left_is_removed_too(tmp_path):
    dead = tmp_path / f".dead.building-{'0' * 32}"
    dead.mkdir()
    (dead / "a").touch()
    (tmp_path / ".dead.lock").touch()
    staging.build_folder(tmp_path / "target", lambda folder: (folder / "a").touch())
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_live_build_of_another_target_is_let_be(tmp_path):
    log = tmp_path / "log"
    process = SPAWN.Process(target=build_and_hang, args=(tmp_path / "live", log))
    process.start()
    while not log.exists():
        time.sleep(0.01)
    before = sorted(tmp_path.iterdir())
    try:
        staging.build_folder(tmp_path / "target", lambda folder: (folder / "a").touch())
        assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "target"])
        assert len(list(tmp_path.glob(".live.building-*/a"))) == 1
    finally:
        process.kill()
        process.join()
    # And once it's dead, the next build of anything removes it.
    staging.build_folder(tmp_path / "next", lambda folder: (folder / "a").touch())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "next", "target"]


def test_a_leftover_that_cannot_be_removed_stops_nothing(tmp_path):
    dead = tmp_path / f".dead.building-{'0' * 32}"
    dead.mkdir()
    (tmp_path / ".dead.lock").mkdir()  # opening it raises, as another user's would
    staging.build_folder(tmp_path / "target", lambda folder: (folder / "a").touch())
    assert staging.is_built(tmp_path / "target")
    assert dead.exists()


def test_a_lock_file_removed_at_the_wrong_moment_is_made_again(tmp_path, monkeypatch):
    lock, fstat, calls = tmp_path / ".target.lock", os.fstat, []

    def fstat_late(descriptor):
        if not calls:  # the run that held the lock has just ended
            lock.unlink()
        calls.append(descriptor)
        return fstat(descriptor)

    monkeypatch.setattr(staging.os, "fstat", fstat_late)
    staging.build_folder(tmp_path / "target", lambda folder: (folder / "a").touch())
    assert len(calls) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_without_locks_the_slower_uses_the_faster_ones_folder(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(staging.fcntl, "flock", no_locks)
    live = tmp_path / ".target.building-of-another-machine"
    live.mkdir()

    def build(folder):
        (folder / "mine").touch()
        (tmp_path / "target").mkdir()
        (tmp_path / "target" / "theirs").touch()

    staging.build_folder(tmp_path / "target", build)
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["theirs"]
    assert live.exists()
    assert len(list(tmp_path.glob(".target.building-*"))) == 1
