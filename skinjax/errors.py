"""The exceptions that the command line prints as one line."""


class SkinjaxError(Exception):
    """Something went wrong that a user can mend; the message is one line that says how."""


class InputError(SkinjaxError, ValueError):
    """An input is wrong: the message names what was seen, what was expected and what to do."""


class OriginError(InputError):
    """A checkpoint is whole, but of other data or classes than what it meets."""


class NonFiniteLossError(SkinjaxError, ArithmeticError):
    """The loss of a training step is not finite."""


class StoppedError(SkinjaxError):
    """Training was asked to stop by a signal, and has saved itself.

    Attributes:
      signum: the signal's number.
    """

    def __init__(self, message: str, signum: int) -> None:
        """Takes the line to print and the signal."""
        super().__init__(message)
        self.signum = signum
