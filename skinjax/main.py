"""The command line: one entry point with verbs; with none, it trains."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from skinjax.errors import InputError, SkinjaxError, StoppedError

_DISCLAIMER = "For research and education, not for diagnosis."
_VERBS = ("train", "evaluate")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like every other wrong input."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="skinjax",
        description="Trains and evaluates classifiers of skin lesions. " + _DISCLAIMER,
        epilog="With no verb it trains. `skinjax VERB --help` says more.",
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    train = verbs.add_parser(
        "train",
        help="train a config, or go on with an interrupted run",
        description="Trains a config in a work directory. The same command on the same work "
        "directory goes on where the run stopped (Ctrl-C and SIGTERM save first).",
        epilog="Any field of the config can be set, as --config.optimizer.learning_rate=1e-4; "
        "--dry_run lists them all. " + _DISCLAIMER,
        allow_abbrev=False,
    )
    train.add_argument("--config", required=True, metavar="FILE.py", help="a file of configs/")
    train.add_argument("--workdir", metavar="DIR", help="made if missing; everything goes there")
    train.add_argument(
        "--dry_run",
        action="store_true",
        help="print the config, parameters by stage, steps per phase and a memory estimate",
    )
    evaluate = verbs.add_parser(
        "evaluate",
        help="evaluate a checkpoint on a split",
        description="Evaluates a checkpoint of a work directory on one of its splits: predictions, "
        "metrics and plots go to WORKDIR/evaluation/SPLIT. " + _DISCLAIMER,
        allow_abbrev=False,
    )
    evaluate.add_argument("--workdir", required=True, metavar="DIR", help="that was trained in")
    evaluate.add_argument(
        "--checkpoint", default="best", metavar="best|latest|STEP", help="which (default: best)"
    )
    evaluate.add_argument(
        "--split", default="test", metavar="train|val|test", help="which (default: test)"
    )
    for name in ("raw_dir", "prepared_dir"):
        evaluate.add_argument(
            f"--{name}", metavar="DIR", help=f"in place of the run's data.{name}, if it has moved"
        )
    evaluate.add_argument(
        "--list", action="store_true", help="list the checkpoints: step, epoch and metric"
    )
    return parser


def _train(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    from skinjax import config_file

    config = config_file.load(arguments.config, overrides)
    if arguments.dry_run:
        from skinjax import dry_run

        print(dry_run.describe(config))
        return
    if not arguments.workdir:
        raise InputError("train needs --workdir=DIR (or --dry_run)")
    from skinjax.parallel import is_main_process
    from skinjax.train import train

    best = train(config, arguments.workdir)
    if not is_main_process():
        return
    print(f"trained; the best checkpoint is step {best['step']} (epoch {best['epoch']:g})")
    print(f"next: python -m skinjax.main evaluate --workdir={arguments.workdir}")


def _evaluate(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    from skinjax import checkpoint, metrics

    if overrides:
        raise InputError(f"evaluate does not know {overrides[0]}; see evaluate --help")
    if arguments.list:
        print("\n".join(checkpoint.open_run(arguments.workdir)[0].listing()))
        return
    from skinjax.evaluate import evaluate

    computed = evaluate(
        arguments.workdir,
        which=arguments.checkpoint,
        split=arguments.split,
        raw_dir=arguments.raw_dir,
        prepared_dir=arguments.prepared_dir,
    )
    print(f"{arguments.split}: {metrics.summary_line(computed)}")
    print(f"report: {arguments.workdir}/evaluation/{arguments.split}/report.md. {_DISCLAIMER}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit code: 0, 1 for a wrong input, 128 + signal where stopped."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or (
        argv[0] not in _VERBS and argv[0].startswith("-") and argv[0] not in ("-h", "--help")
    ):
        argv = ["train", *argv]
    verbs = {"train": _train, "evaluate": _evaluate}
    _log_to_stderr()

    try:
        arguments, overrides = _parser().parse_known_args(argv)
        verbs[arguments.verb](arguments, overrides)
    except StoppedError as error:
        return _fail(error, 128 + error.signum)
    except SkinjaxError as error:
        return _fail(error, 1)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f": {error.filename}" if error.filename else ""
            return _fail(f"the disk is full ({error.strerror}{where}); make room and go on", 1)
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return 0


def _fail(message: object, code: int) -> int:
    print(f"skinjax: {message}", file=sys.stderr)
    return code


def _log_to_stderr() -> None:
    """Shows the package's own messages from info on, and of the libraries only their errors."""
    import logging as python_logging

    from absl import flags, logging

    flags.FLAGS.mark_as_parsed()  # absl logs a warning before; its flags are not used here

    def own_or_error(record: python_logging.LogRecord) -> bool:
        # Orbax logs a traceback for what it raises as well, and that is told in one line.
        foreign_error = record.levelno >= python_logging.ERROR and "orbax" not in record.pathname
        return record.pathname.startswith(os.path.dirname(__file__)) or foreign_error

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    handler = logging.get_absl_handler()
    handler.setFormatter(python_logging.Formatter("%(message)s"))
    handler.addFilter(own_or_error)
    handler.python_handler.stream = sys.stderr
    logging.set_verbosity(logging.INFO)
    logging.set_stderrthreshold("info")
    logging.use_absl_handler()


if __name__ == "__main__":
    sys.exit(main())
