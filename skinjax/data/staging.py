"""Folders that are there whole or not at all, whatever is killed and however many build at once."""

import contextlib
import errno
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import logging

from skinjax.errors import InputError

_UNFINISHED = ".unfinished"  # ends the name of a folder that the next run goes on with
# A folder's name while it is being filled.
_LEFTOVER = re.compile(r"\.(?P<target>.+)\.building-[0-9a-f]{32}")


def build_folder(target: Path, build: Callable[[Path], None]) -> None:
    """Has `build` fill a new folder, and renames it to `target` when it returns.

    Does nothing if `target` is there. One process builds while others that want the same folder
    wait for it. If `build` raises, its folder is removed; if the process is killed, the next run
    that builds anything beside `target` removes it.
    """
    if is_built(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(_lock_file(target.parent, target.name)) as locked:
        if is_built(target):
            return
        if locked:
            _remove_leftovers(target)
        # mkdtemp's would be private.
        folder = target.parent / f".{target.name}.building-{uuid.uuid4().hex}"
        folder.mkdir()
        try:
            build(folder)
            try:
                folder.rename(target)
            except OSError:
                # Where locks don't work, another process may have been faster: use its folder.
                if not is_built(target):
                    raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def resume_folder(target: Path, build: Callable[[Path], None]) -> None:
    """As `build_folder`, but `build` finds what a killed run of it has left, to go on from there.

    A run that is killed, interrupted or out of disk leaves its folder, under a name of its own, for
    the next one that wants the same `target`; only one that the input makes fail removes it.
    """
    if is_built(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(_lock_file(target.parent, target.name)):
        if is_built(target):
            return
        folder = target.parent / f".{target.name}{_UNFINISHED}"
        if folder.exists():
            logging.info("going on with %s, left by a run that was stopped", folder)
        folder.mkdir(exist_ok=True)
        try:
            build(folder)
            try:
                folder.rename(target)
            except OSError:
                if not is_built(target):  # as in build_folder
                    raise
        except InputError:  # no next run could do better
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _name_unfinished(target.parent)


def _name_unfinished(parent: Path) -> None:
    """Warns of what stopped runs of other targets left; what a live run holds is let be."""
    for folder in sorted(parent.glob(f".*{_UNFINISHED}")):
        name = folder.name.removeprefix(".").removesuffix(_UNFINISHED)
        with _lock(_lock_file(parent, name), wait=False) as locked:
            if locked:
                logging.warning(
                    "%s was left by a stopped run with other settings: go on with it by that run's"
                    " command, or delete it",
                    folder,
                )


def check_space(folder: Path, num_bytes: int, what: str) -> None:
    """Stops at the start where the disk is sure to fill up.

    Raises:
      OSError: with ENOSPC, naming `what` takes `num_bytes`, and what is free where `folder` lies.
    """
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise OSError(
            errno.ENOSPC,
            f"{what} take {num_bytes / 1e9:.2f} GB and {free / 1e9:.2f} GB are free in",
            os.fspath(folder.parent),
        )


def is_built(target: Path) -> bool:
    """True if `target` holds anything: it got its name only once it was whole."""
    return target.is_dir() and any(target.iterdir())


def _remove_leftovers(target: Path) -> None:
    """Removes what killed builds left beside `target`, whose lock this process holds.

    Whoever builds holds the lock of what it builds: where that can be had, its builder is dead.
    """
    for leftover in sorted(target.parent.iterdir()):
        match = _LEFTOVER.fullmatch(leftover.name)
        if not match:
            continue
        try:
            own = match["target"] == target.name
            lock_file = _lock_file(target.parent, match["target"])
            with contextlib.nullcontext(True) if own else _lock(lock_file, wait=False) as locked:
                if locked and leftover.is_dir():  # and not renamed or removed in the meantime
                    logging.info("removing %s, left by a run that was killed", leftover)
                    shutil.rmtree(leftover)
        except OSError as error:  # another user's, say
            logging.warning(
                "could not remove %s, left by a run that was killed: %s", leftover, error
            )


def _lock_file(folder: Path, name: str) -> Path:
    return folder / f".{name}.lock"


@contextlib.contextmanager
def _lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds the lock file `path`; yields False where locks are not supported.

    Another process that holds it is waited for; or with `wait` off, it yields False at once.

    The file is removed at the end, so after getting a lock it has to be made sure that it is still
    the file of that name.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                os.close(descriptor)
                yield False
                return
            logging.info("waiting for another run that is building %s", path.parent)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems
            logging.warning("no file locks in %s (%s)", path.parent, error)
            os.close(descriptor)
            yield False
            return
        if is_open_file(path, descriptor):
            break
        os.close(descriptor)
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def is_open_file(path: Path, descriptor: int) -> bool:
    """True if `path` still is the file of `descriptor`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
