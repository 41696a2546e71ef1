"""Which of the workers that share a work directory are alive."""

import contextlib
import fcntl
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import logging

from skinjax.errors import SkinjaxError

SIGN_OF_LIFE = 60.0  # seconds between two of a worker
PRESUMED_DEAD = 600.0  # seconds without one; the clocks of two machines may differ a little


class Worker:
    """This process, from `__enter__` to its end: it holds a lock, which dies with it.

    On the machine of a worker its lock tells whether it is alive, at once; elsewhere its last
    sign of life does, since not every shared file system passes on locks.
    """

    def __init__(self, directory: Path) -> None:
        """Names the worker; `directory` is made if missing, and is seen by all workers."""
        self._directory = directory
        self._host = socket.gethostname()
        self.name = f"{self._host}-{os.getpid()}-{secrets.token_hex(4)}"
        directory.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Worker":
        """Begins its life."""
        self._life = self._path(self.name).open("a")
        fcntl.flock(self._life, fcntl.LOCK_EX)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Ends it; what is left of one that ended unforeseen shows that it is gone."""
        if kind is None or issubclass(kind, SkinjaxError):
            self._path(self.name).unlink(missing_ok=True)
        self._life.close()

    def is_gone(self, other: str, seen: float) -> bool:
        """Says whether another worker is dead, by its lock or by when it was last `seen`."""
        path = self._path(other)
        if other.rsplit("-", 2)[0] == self._host and path.exists():
            with path.open("a") as life:
                try:
                    fcntl.flock(life, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
            return True
        return time.time() - seen > PRESUMED_DEAD

    def forget(self, other: str) -> None:
        """Removes what a dead worker left."""
        self._path(other).unlink(missing_ok=True)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Waits until no other worker is in such a block."""
        with (self._directory / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.lock"


@contextlib.contextmanager
def signs_of_life(give: Callable[[], None]) -> Iterator[None]:
    """Calls `give` now and then, in a thread, until the block ends."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(SIGN_OF_LIFE):
            try:
                give()
            except Exception as error:  # a database that is busy now may not be next time
                logging.warning("no sign of life could be given: %s", error)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
