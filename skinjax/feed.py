"""Batches on the devices, the next one on its way while a step runs."""

import time
from collections.abc import Callable
from typing import Any

import grain
import jax


class Feed:
    """Reads batches and puts them on the devices, one ahead of who takes them.

    Its state is that of the batches before the one that is ahead, so a checkpoint loses none.
    """

    def __init__(self, batches: grain.DatasetIterator, put: Callable[[Any], Any]) -> None:
        """Takes an iterator of batches, and what begins to copy one to the devices."""
        self._batches, self._put = batches, put
        self._ahead: Any = None
        self._error: Exception | None = None
        self._state = batches.get_state()
        self._waited = 0.0

    def take(self) -> Any:
        """The next batch; raises what reading it raised."""
        self.fetch()
        if self._error is not None:
            raise self._error
        batch, self._ahead = self._ahead, None
        self._state = self._batches.get_state()
        return batch

    def fetch(self) -> None:
        """Reads the next batch and begins to copy it, unless that was done.

        What it raises is kept for `take`: the step before may still be saved.
        """
        if self._ahead is not None or self._error is not None:
            return
        began = time.monotonic()
        try:
            with jax.profiler.TraceAnnotation("wait for a batch"):
                batch = next(self._batches)
            self._waited += time.monotonic() - began
            with jax.profiler.TraceAnnotation("put it on the devices"):
                self._ahead = self._put(batch)
        except Exception as error:
            self._error = error

    def take_waited(self) -> float:
        """Seconds that `fetch` has waited for batches since this was last asked."""
        waited, self._waited = self._waited, 0.0
        return waited

    def get_state(self) -> Any:
        """The place in the batches of the next one to be taken, for `set_state`."""
        return self._state

    def set_state(self, state: Any) -> None:
        """Goes to a place in the batches."""
        self._batches.set_state(state)
        self._ahead, self._error, self._state = None, None, state
