"""The command line: one entry point with verbs; with none, it trains."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from skinjax import console
from skinjax.errors import InputError, SkinjaxError, StoppedError, describe_system_error
from skinjax.verbs import (
    calibrate,
    compare,
    download,
    ensemble,
    errors,
    evaluate,
    explain,
    explore,
    export,
    import_keras,
    predict,
    prepare,
    report,
    score,
    submit,
    threshold,
    train,
    tune,
)
from skinjax.verbs.arguments import DISCLAIMER

_VERBS = {
    "download": download,
    "prepare": prepare,
    "explore": explore,
    "train": train,
    "tune": tune,
    "import": import_keras,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "threshold": threshold,
    "ensemble": ensemble,
    "compare": compare,
    "errors": errors,
    "report": report,
    "predict": predict,
    "explain": explain,
    "export": export,
    "submit": submit,
    "score": score,
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like every other wrong input."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="skinjax",
        description="Trains and evaluates classifiers of skin lesions. " + DISCLAIMER,
        epilog="With no verb it trains. `skinjax VERB --help` says more.",
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, module in _VERBS.items():
        verb = verbs.add_parser(
            name,
            help=module.SUMMARY,
            description=f"{module.DESCRIPTION} {DISCLAIMER}",
            allow_abbrev=False,
        )
        module.add_flags(verb)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit code: 0, 1 for a wrong input, 128 + signal where stopped."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or (
        argv[0] not in _VERBS and argv[0].startswith("-") and argv[0] not in ("-h", "--help")
    ):
        argv = ["train", *argv]
    console.log_to_stderr()
    before = console.take_sigterm()
    try:
        arguments, overrides = _parser().parse_known_args(argv)
        _expand_home(arguments)
        _VERBS[arguments.verb].run(arguments, overrides)
    except StoppedError as error:
        return _fail(error, 128 + error.signum)
    except SkinjaxError as error:
        return _fail(error, 1)
    except OSError as error:
        return _fail(describe_system_error(error), 1)
    except console.Terminated:
        return _fail("stopped by SIGTERM; the same command goes on with what is done", 143)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on with what is done", 130)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    return 0


def _expand_home(arguments: argparse.Namespace) -> None:
    """Writes out ~, which shells leave as it is behind an equals sign."""
    for name, value in vars(arguments).items():
        if isinstance(value, list):
            setattr(arguments, name, [_expanded(one) for one in value])
        else:
            setattr(arguments, name, _expanded(value))


def _expanded(value: Any) -> Any:
    return os.path.expanduser(value) if isinstance(value, str) else value


def _fail(message: object, code: int) -> int:
    print(f"skinjax: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
