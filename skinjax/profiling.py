"""A trace of a few training steps: what the devices did when, and what the host."""

import contextlib
from pathlib import Path
from typing import Any

import jax
from absl import logging

_WARM_UP = 10  # steps, which compile and fill the pipeline
_STEPS = 5


class Profiler:
    """Traces a few steps of a run after its warm-up, in `workdir/profile`."""

    def __init__(self, workdir: Path, *, start_step: int, total_steps: int, enabled: bool) -> None:
        """Takes where the run starts and ends; a run shorter than the warm-up traces its end."""
        self._directory = workdir / "profile"
        left = total_steps - start_step
        # The step after which the trace begins, and the one after which it ends. The first step
        # is never in it: compiling would fill it up.
        self._begin = start_step + max(1, min(_WARM_UP, left - _STEPS))
        self._end = min(self._begin + _STEPS, total_steps)
        self._is_due = enabled
        self._is_running = False
        self._last = self._begin  # of the steps in the trace

    def step(self, step: int) -> contextlib.AbstractContextManager[Any]:
        """What step number `step`, from 1, is run in; starts the trace where it is due."""
        if self._is_due and step == self._begin + 1:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # every call of every thread, which hides the rest
            jax.profiler.start_trace(
                str(self._directory), create_perfetto_trace=True, profiler_options=options
            )
            self._is_running, self._is_due = True, False
        if not self._is_running:
            return contextlib.nullcontext()
        self._last = step
        return jax.profiler.StepTraceAnnotation("train", step_num=step)

    def after(self, step: int, outputs: Any) -> None:
        """Ends the trace where `step` is the last one of it, once its outputs are there."""
        if self._is_running and step == self._end:
            jax.block_until_ready(outputs)
            self.close()

    def close(self) -> None:
        """Ends a trace that runs, also one that is cut short, and says where none began."""
        if self._is_due:
            self._is_due = False
            logging.warning("no trace: the run ended before step %d", self._begin + 1)
        if not self._is_running:
            return
        self._is_running = False
        jax.profiler.stop_trace()
        logging.info(
            "a trace of steps %d to %d is in %s: drag its perfetto_trace.json.gz into "
            "https://ui.perfetto.dev, or pip install xprof and run xprof --logdir=%s",
            self._begin + 1, self._last, self._directory, self._directory,
        )  # fmt: skip
