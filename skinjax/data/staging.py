"""Folders that are there whole or not at all, whatever is killed and however many build at once."""

import contextlib
import fcntl
import glob
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import logging


def build_folder(target: Path, build: Callable[[Path], None]) -> None:
    """Has `build` fill a new folder, and renames it to `target` when it returns.

    Does nothing if `target` is there. One process builds while others that want the same folder
    wait for it. If `build` raises, its folder is removed; if the process is killed, the next run
    removes it.
    """
    if is_built(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.building-"
    with _lock(target.parent / f".{target.name}.lock") as locked:
        if is_built(target):
            return
        if locked:  # so whoever made these is dead
            for leftover in target.parent.glob(glob.escape(prefix) + "*"):
                logging.info("removing %s, left by a run that was killed", leftover)
                shutil.rmtree(leftover)
        folder = target.parent / f"{prefix}{uuid.uuid4().hex}"  # mkdtemp's would be private
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


def is_built(target: Path) -> bool:
    """True if `target` holds anything: it got its name only once it was whole."""
    return target.is_dir() and any(target.iterdir())


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Holds the lock file `path`, waiting for it; yields False where locks are not supported.

    The file is removed at the end, so after getting a lock it has to be made sure that it is still
    the file of that name.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info("waiting for another run that is building %s", path.parent)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems
            logging.warning("no file locks in %s (%s)", path.parent, error)
            os.close(descriptor)
            yield False
            return
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            break
        os.close(descriptor)
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
