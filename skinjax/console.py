"""What the command line shows, and how signals end it."""

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends what is being done as Ctrl-C does; training has a handler of its own."""


def take_sigterm() -> Any:
    """Has SIGTERM end the command with a line; returns what was in its place, or None."""
    if threading.current_thread() is not threading.main_thread():
        return None  # Python delivers signals to the main thread only

    def terminate(signum: int, frame: Any) -> None:
        del frame
        signal.signal(signum, signal.SIG_DFL)  # a second one ends the process at once
        raise Terminated

    return signal.signal(signal.SIGTERM, terminate)


def log_to_stderr() -> None:
    """Shows the package's own messages from info on, and of the libraries only their errors."""
    import logging as python_logging

    from absl import flags, logging

    flags.FLAGS.mark_as_parsed()  # absl logs a warning before; its flags are not used here

    def own_or_error(record: python_logging.LogRecord) -> bool:
        # Orbax logs a traceback for what it raises as well, and so does asyncio for those of its
        # tasks that failed beside the first; that one is told in one line.
        is_told = "orbax" in record.pathname or record.name == "asyncio"
        foreign_error = record.levelno >= python_logging.ERROR and not is_told
        return record.pathname.startswith(os.path.dirname(__file__)) or foreign_error

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    handler = logging.get_absl_handler()
    handler.setFormatter(python_logging.Formatter("%(message)s"))
    handler.addFilter(own_or_error)
    handler.python_handler.stream = sys.stderr
    logging.set_verbosity(logging.INFO)
    logging.set_stderrthreshold("info")
    logging.use_absl_handler()
    if not isinstance(sys.unraisablehook, functools.partial):
        sys.unraisablehook = functools.partial(_unraisable, sys.unraisablehook)


def _unraisable(report: Callable[[Any], object], unraisable: Any) -> None:
    """Leaves out what TensorStore says for every other write in flight when one has failed."""
    if str(unraisable.exc_value) != "Event loop is closed":
        report(unraisable)
