"""SIGTERM and SIGINT as a request to stop after the step at hand."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import jax
from absl import logging

from skinjax import parallel
from skinjax.errors import StoppedError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_AGREE_EVERY = 10  # steps between the processes' agreements on whether to stop


class StopRequest:
    """Whether a signal asked for a stop; on several processes, whether any of them got one."""

    def __init__(self) -> None:
        """Starts without a request."""
        self._signum = 0

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Takes the first signal; a second one ends the process as it would have."""
        del frame
        self._signum = signum
        signal.signal(signum, signal.SIG_DFL)
        logging.warning("%s: saving after this step", signal.Signals(signum).name)

    def is_made(self, step: int) -> bool:
        """Says whether to stop after `step`; the processes agree every few steps."""
        if jax.process_count() == 1:
            return self._signum != 0
        return step % _AGREE_EVERY == 0 and parallel.any_process(self._signum != 0)

    def error(self, step: int) -> StoppedError:
        """The exception that ends the run."""
        signum = self._signum or int(signal.SIGTERM)
        name = signal.Signals(signum).name
        return StoppedError(
            f"stopped by {name} after step {step}, which is saved; the same command goes on from "
            "there",
            signum,
        )


@contextlib.contextmanager
def on_signals() -> Iterator[StopRequest]:
    """Gives a request that SIGTERM and SIGINT make, and puts the handlers back afterwards."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # Python delivers signals to the main thread only
        return
    before = {signum: signal.signal(signum, request.handle) for signum in _SIGNALS}
    try:
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
