"""Work on all cores at once, in order and in constant memory."""

import collections
import itertools
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent import futures
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def map_in_order(
    function: Callable[[_In], _Out],
    items: Iterable[_In],
    num_threads: int = 0,
    chunk_size: int = 1,
) -> Generator[_Out]:
    """`map` on threads (as many as cores if 0) that runs a few items ahead, not through them all.

    For work that releases the interpreter's lock: OpenCV, hashing, files. Items are handed over
    `chunk_size` at a time: more where they take well below a millisecond, which handing over costs
    a twentieth of.
    """
    num_threads = num_threads or available_cores()
    executor = futures.ThreadPoolExecutor(num_threads)
    pending: collections.deque[futures.Future[list[_Out]]] = collections.deque()

    def work(chunk: Sequence[_In]) -> list[_Out]:
        return [function(item) for item in chunk]

    try:
        rest = iter(items)
        while chunk := list(itertools.islice(rest, chunk_size)):
            pending.append(executor.submit(work, chunk))
            if len(pending) > 4 * num_threads:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


def available_cores() -> int:
    """Cores that this process may use; macOS can't tell them from all cores."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
