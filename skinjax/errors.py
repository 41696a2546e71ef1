"""The exceptions that the command line prints as one line."""

import errno


class SkinjaxError(Exception):
    """Something went wrong that a user can mend; the message is one line that says how."""


class InputError(SkinjaxError, ValueError):
    """An input is wrong: the message names what was seen, what was expected and what to do."""


class OriginError(InputError):
    """A checkpoint is whole, but of other data or classes than what it meets."""


class NonFiniteLossError(SkinjaxError, ArithmeticError):
    """The loss of a training step is not finite."""


class OutOfMemoryError(SkinjaxError):
    """The memory of a device, or of the machine, is not enough; the message says what to try."""


class StoppedError(SkinjaxError):
    """Training was asked to stop by a signal, and has saved itself.

    Attributes:
      signum: the signal's number.
    """

    def __init__(self, message: str, signum: int) -> None:
        """Takes the line to print and the signal."""
        super().__init__(message)
        self.signum = signum


def describe_system_error(error: OSError) -> str:
    """Says in one line what the system refused, and what to do."""
    where = f": {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.strerror}{where}); make room and go on"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{error.strerror}{where}; make it writable for this user, or give another folder"
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
        return f"{error.strerror}{where}; it is gone: restore it, and the same command goes on"
    return str(error)
