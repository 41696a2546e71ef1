"""The command line: one entry point with verbs; with none, it trains."""

import argparse
import functools
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from skinjax.errors import InputError, SkinjaxError, StoppedError, describe_system_error

_DISCLAIMER = "For research and education, not for diagnosis."
_COLUMNS = ("image", "label", "lesion", "patient", "age", "sex", "site", "split")


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
    for name, (_, summary, description, add_flags) in _VERBS.items():
        verb = verbs.add_parser(
            name, help=summary, description=f"{description} {_DISCLAIMER}", allow_abbrev=False
        )
        add_flags(verb)
    return parser


def _download_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--dataset", required=True, metavar="NAME", help="ham10000, isic2018, isic2019 or isic9"
    )
    verb.add_argument("--out", required=True, metavar="DIR", help="made if missing")
    verb.add_argument(
        "--from", dest="archives", action="append", default=[], metavar="FILE",
        help="an archive that is on the disk already (or a folder of them); may be repeated",
    )  # fmt: skip
    verb.add_argument(
        "--via", default="auto", metavar="auto|http|kaggle",
        help="the publisher's server or Kaggle's client (default: the former where there is one)",
    )  # fmt: skip
    verb.add_argument("--keep_archives", action="store_true", help="after they are unpacked")


def _download(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    from skinjax.download import download

    _refuse(overrides, "download", _download_flags)
    download(
        arguments.dataset,
        Path(arguments.out),
        archives=[Path(archive).expanduser() for archive in arguments.archives],
        via=arguments.via,
        keep_archives=arguments.keep_archives,
    )
    print(
        f"next: python -m skinjax.main prepare --dataset={arguments.dataset}"
        f" --raw_dir {shlex.quote(arguments.out)} --out=data/prepared"
    )


def _prepare_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--dataset", metavar="NAME",
        help="ham10000, ham10000_binary, isic2018, isic2019, isic9, folder, csv or synthetic",
    )  # fmt: skip
    verb.add_argument(
        "--raw_dir", nargs="+", action="extend", metavar="DIR",
        help="the published files; several folders are searched in this order",
    )  # fmt: skip
    verb.add_argument("--out", metavar="DIR", help="prepared data sets go there")
    verb.add_argument("--config", metavar="FILE.py", help="take its settings (default: none)")
    verb.add_argument("--table", metavar="FILE.csv", help="of --dataset=csv")
    for column in _COLUMNS:
        verb.add_argument(
            f"--{column}_column", metavar="NAME", help=f"of --dataset=csv: the {column}"
        )
    verb.add_argument(
        "--beam_runner", metavar="NAME", help="build with Apache Beam, e.g. on DirectRunner"
    )
    verb.add_argument(
        "--beam_option", action="append", default=[], metavar="--FLAG=VALUE",
        help="one of Beam's own, as --beam_option=--direct_num_workers=4; may be repeated",
    )  # fmt: skip
    verb.epilog = (
        "Any field of the config can be set, as --config.data.image_size=256; the settings of"
        " `data` are listed with their meaning in skinjax/config.py."
    )


def _prepare(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    from skinjax import config_file

    for folder in arguments.raw_dir or ():
        if os.pathsep in folder and len(arguments.raw_dir) > 1:
            raise InputError(
                f"--raw_dir {folder}: a name with {os.pathsep!r} can't be one of several folders;"
                " rename it, or link to it under another name"
            )
    fields = {
        "dataset": arguments.dataset,
        "raw_dir": os.pathsep.join(arguments.raw_dir) if arguments.raw_dir else None,
        "prepared_dir": arguments.out,
        "table": arguments.table,
    }
    columns = {f"columns.{name}": getattr(arguments, f"{name}_column") for name in _COLUMNS}
    given = {name: value for name, value in (fields | columns).items() if value is not None}
    # What is typed out wins over what a flag of this verb says.
    flags = [f"--config.data.{name}={value}" for name, value in given.items()]
    _refuse([o for o in overrides if not _is_override(o)], "prepare", _prepare_flags)
    config = config_file.load(arguments.config, [*flags, *overrides])
    if not arguments.dataset and not arguments.config:
        raise InputError("prepare needs --dataset=NAME (or --config=FILE.py)")
    from skinjax.data import beam, builder, folds, image_store
    from skinjax.models import pretrained

    runner: image_store.Runner = image_store.on_this_machine
    if arguments.beam_runner:
        runner = beam.runner([f"--runner={arguments.beam_runner}", *arguments.beam_option])
    elif arguments.beam_option:
        raise InputError("--beam_option needs --beam_runner=NAME")
    if not config.data.image_size:
        config = pretrained.resolve(config)
    every_fold = folds.are_all_wanted(config.data)
    prepared_K = folds.prepare(config, runner) if every_fold else [builder.prepare(config, runner)]
    for fold, prepared in enumerate(prepared_K):
        for split, counts in prepared.counts.items():
            by_class = zip(prepared.classes, counts, strict=True)
            shown = ", ".join(f"{name} {n}" for name, n in by_class)
            of_fold = f"fold {fold}, " if every_fold else ""
            print(f"{of_fold}{split}: {sum(counts)} images ({shown})")
    first = prepared_K[0]
    folder = first.store if every_fold else first.directory
    print(f"prepared: {folder}")
    print(f"next: python -m skinjax.main explore --data={shlex.quote(str(first.directory))}")
    print(
        "      python -m skinjax.main train --config=configs/effnet.py --workdir=runs/NAME"
        f" --config.data.directory={shlex.quote(str(folder))}"
        + (f" --config.data.folds={len(prepared_K)}" if every_fold else "")
    )


def _explore_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--data",
        metavar="DIR",
        help="the folder that prepare printed, or one with no other data set in it",
    )
    verb.add_argument("--out", metavar="DIR", help="of the pages (default: explore/ in --data)")
    verb.add_argument(
        "--config", metavar="FILE.py",
        help="add a page of augmented training samples; prepares its data without --data",
    )  # fmt: skip


def _explore(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    from skinjax import config_file

    if not arguments.data and not arguments.config:
        raise InputError("explore needs --data=DIR or --config=FILE.py")
    _refuse([o for o in overrides if not (arguments.config and _is_override(o))], "explore",
            _explore_flags)  # fmt: skip
    from skinjax import explore
    from skinjax.data import builder
    from skinjax.data.prepared import open_prepared
    from skinjax.models import pretrained

    if arguments.config:
        config = config_file.load(arguments.config, overrides)
        config.data.directory = arguments.data or config.data.directory
        config = builder.settled(config)
        if config.data.image_size:  # all that it would need the weights for
            config.model.pretrained = ""
        config = pretrained.resolve(config)
        prepared = builder.prepare(config)
    else:
        prepared = open_prepared(Path(arguments.data))
    out = Path(arguments.out or prepared.directory / "explore")
    print(f"page: {explore.explore(prepared, out)}")
    if arguments.config:
        print(f"page: {explore.augmented(config, prepared, out)}")
    print(_DISCLAIMER)


def _train_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--config", required=True, metavar="FILE.py", help="a file of configs/")
    verb.add_argument("--workdir", metavar="DIR", help="made if missing; everything goes there")
    verb.add_argument(
        "--dry_run",
        action="store_true",
        help="print the config, parameters by stage, steps per phase and a memory estimate",
    )
    verb.epilog = (
        "Any field of the config can be set, as --config.optimizer.learning_rate=1e-4;"
        " --dry_run lists them all."
    )


def _train(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    from skinjax import config_file
    from skinjax.data import folds

    config = config_file.load(arguments.config, overrides)
    every_fold = folds.are_all_wanted(config.data)
    if arguments.dry_run:
        from skinjax import cross_validation, dry_run

        if every_fold:
            print(f"cross-validation: {config.data.folds} times a run like this one, of fold 0\n")
            config = cross_validation.first_fold(config)
        print(dry_run.describe(config))
        return
    if not arguments.workdir:
        raise InputError("train needs --workdir=DIR (or --dry_run)")
    if every_fold:
        _cross_validate(config, arguments.workdir)
        return
    from skinjax.parallel import is_main_process
    from skinjax.train import train

    best = train(config, arguments.workdir)
    if not is_main_process():
        return
    print(f"trained; the best checkpoint is step {best['step']} (epoch {best['epoch']:g})")
    print(f"next: python -m skinjax.main evaluate --workdir={arguments.workdir}")


def _cross_validate(config: Any, workdir: str) -> None:
    from skinjax import cross_validation, metrics
    from skinjax.parallel import is_main_process

    computed = cross_validation.cross_validate(config, workdir)
    if not config.parallel.fold_per_device and not is_main_process():
        return
    print(f"out of fold: {metrics.summary_line(computed)}")
    print(f"report: {workdir}/out_of_fold/report.md. {_DISCLAIMER}")
    print(f"next: python -m skinjax.main evaluate --workdir={workdir}/fold_0")


def _evaluate_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--workdir", required=True, metavar="DIR", help="that was trained in")
    verb.add_argument(
        "--checkpoint", default="best", metavar="best|latest|STEP", help="which (default: best)"
    )
    verb.add_argument(
        "--split", default="test", metavar="train|val|test", help="which (default: test)"
    )
    for name in ("raw_dir", "prepared_dir"):
        verb.add_argument(
            f"--{name}", metavar="DIR", help=f"in place of the run's data.{name}, if it has moved"
        )
    verb.add_argument("--data", metavar="DIR", help="the prepared data set, if it has moved")
    verb.add_argument(
        "--list", action="store_true", help="list the checkpoints: step, epoch and metric"
    )


def _evaluate(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    from skinjax import checkpoint, metrics

    _refuse(overrides, "evaluate", _evaluate_flags)
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
        data=arguments.data,
    )
    print(f"{arguments.split}: {metrics.summary_line(computed)}")
    print(f"report: {arguments.workdir}/evaluation/{arguments.split}/report.md. {_DISCLAIMER}")


def _tune_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--config", required=True, metavar="FILE.py", help="a file with get_search_space()"
    )
    verb.add_argument(
        "--workdir", required=True, metavar="DIR", help="of the search; all workers see it"
    )
    verb.add_argument(
        "--sampler", default="tpe", metavar="grid|random|tpe", help="(default: %(default)s)"
    )
    verb.add_argument(
        "--trials", type=int, metavar="N",
        help="over all workers and restarts (default: 20; of a grid all)",
    )  # fmt: skip
    verb.add_argument(
        "--pruner", default="median", metavar="none|median|hyperband",
        help="which trials end early (default: %(default)s)",
    )  # fmt: skip
    verb.add_argument(
        "--storage", default="", metavar="ADDRESS",
        help="an SQLAlchemy address; keep a password out of it (default: WORKDIR/study.db)",
    )  # fmt: skip
    verb.add_argument(
        "--study", default="", metavar="NAME", help="in --storage (default: WORKDIR's name)"
    )
    verb.add_argument("--seed", default=0, type=int, metavar="N", help="(default: %(default)s)")
    verb.add_argument(
        "--keep", default=1, type=int, metavar="N",
        help="so many of the best trials keep their checkpoints (default: %(default)s)",
    )  # fmt: skip
    verb.epilog = "Any field of the config can be set that is not searched, as --config.epochs=10."


def _tune(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    from skinjax import config_file

    _refuse([o for o in overrides if not _is_override(o)], "tune", _tune_flags)
    config = config_file.load(arguments.config, overrides)
    space = config_file.load_search_space(arguments.config, overrides)
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise InputError("Optuna is not installed: pip install 'skinjax[tune]'") from None
    from skinjax.tune import search

    lines = search.tune(
        config,
        space,
        arguments.workdir,
        sampler=arguments.sampler,
        pruner=arguments.pruner,
        trials=arguments.trials,
        seed=arguments.seed,
        keep=arguments.keep,
        storage=arguments.storage,
        name=arguments.study,
    )
    print("\n".join(lines))


def _import_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--keras", required=True, metavar="FILE.h5",
        help="a whole model that Keras saved, or hf://OWNER/REPOSITORY/FILE.h5 on the hub",
    )  # fmt: skip
    verb.add_argument("--out", required=True, metavar="DIR", help="a new work directory")
    verb.add_argument(
        "--classes", default="benign,malignant", metavar="A,B,...",
        help="names in the order of the outputs; a sigmoid is of the second (default: %(default)s)",
    )  # fmt: skip


def _import(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    _refuse(overrides, "import", _import_flags)
    from skinjax.keras_import import import_keras

    imported = import_keras(
        arguments.keras,
        arguments.out,
        classes=tuple(name.strip() for name in arguments.classes.split(",")),
    )
    print(f"imported: {imported['model']}, {imported['parameters']:,} parameters")
    print(f"next: python -m skinjax.main evaluate --workdir={arguments.out} --data=PREPARED")
    print(_DISCLAIMER)


def _is_override(argument: str) -> bool:
    return argument.lstrip("-").removeprefix("no").startswith("config.")


def _refuse(
    arguments: Sequence[str], verb: str, add_flags: Callable[[argparse.ArgumentParser], None]
) -> None:
    """Stops at an argument that a verb doesn't know, with the nearest that it does."""
    from skinjax.config import default_config, field_names, nearest

    if not arguments:
        return
    parser = argparse.ArgumentParser()
    add_flags(parser)
    known = re.findall(r"--\w+", parser.format_usage())
    name = arguments[0].split("=")[0]
    hint = nearest(name, known)
    fields = [f"--config.{one}" for one in field_names(default_config())]
    meant = [one for one in fields if one.endswith(f".{name.lstrip('-')}")]
    if meant and "--config" in known:
        hint = f"; did you mean {meant[0]}?"
    if not name.startswith("-"):
        hint = "; several folders are given as --raw_dir A B" if "--raw_dir" in known else ""
    raise InputError(
        f"{verb} does not know {arguments[0]}{hint}; see python -m skinjax.main {verb} --help"
    )


# What runs, its line in the list of verbs, what its own help says, and its flags.
_VERBS = {
    "download": (
        _download,
        "download a published data set",
        "Downloads a published data set from its official address, checks and unpacks it. The same"
        " command goes on with what was interrupted.",
        _download_flags,
    ),
    "prepare": (
        _prepare,
        "verify, split and resize a data set",
        "Reads the published files, verifies every image, splits by lesion and writes what training"
        " reads. The same command goes on with what was interrupted.",
        _prepare_flags,
    ),
    "explore": (
        _explore,
        "show a prepared data set on a page",
        "Writes an HTML page with counts, plots and samples of a prepared data set.",
        _explore_flags,
    ),
    "train": (
        _train,
        "train a config, or go on with an interrupted run",
        "Trains a config in a work directory. The same command on the same work directory goes on"
        " where the run stopped (Ctrl-C and SIGTERM save first).",
        _train_flags,
    ),
    "tune": (
        _tune,
        "search for hyper-parameters",
        "Trains the config with values drawn from its search space, and writes the best config. The"
        " same command goes on where the search stopped; started several times, its workers share"
        " the trials.",
        _tune_flags,
    ),
    "evaluate": (
        _evaluate,
        "evaluate a checkpoint on a split",
        "Evaluates a checkpoint of a work directory on one of its splits: predictions, metrics and"
        " plots go to WORKDIR/evaluation/SPLIT.",
        _evaluate_flags,
    ),
    "import": (
        _import,
        "make a checkpoint of a Keras model",
        "Turns a whole Keras model (an .h5 file with its architecture) into a work directory with a"
        " checkpoint, which evaluates like any other.",
        _import_flags,
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit code: 0, 1 for a wrong input, 128 + signal where stopped."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or (
        argv[0] not in _VERBS and argv[0].startswith("-") and argv[0] not in ("-h", "--help")
    ):
        argv = ["train", *argv]
    _log_to_stderr()
    before = _take_sigterm()
    try:
        arguments, overrides = _parser().parse_known_args(argv)
        _expand_home(arguments)
        _VERBS[arguments.verb][0](arguments, overrides)
    except StoppedError as error:
        return _fail(error, 128 + error.signum)
    except SkinjaxError as error:
        return _fail(error, 1)
    except OSError as error:
        return _fail(describe_system_error(error), 1)
    except _Terminated:
        return _fail("stopped by SIGTERM; the same command goes on with what is done", 143)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on with what is done", 130)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    return 0


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends what is being done as Ctrl-C does; training has a handler of its own."""


def _take_sigterm() -> Any:
    """Has SIGTERM end the command with a line; returns what was in its place, or None."""
    if threading.current_thread() is not threading.main_thread():
        return None  # Python delivers signals to the main thread only

    def terminate(signum: int, frame: Any) -> None:
        del frame
        signal.signal(signum, signal.SIG_DFL)  # a second one ends the process at once
        raise _Terminated

    return signal.signal(signal.SIGTERM, terminate)


def _expand_home(arguments: argparse.Namespace) -> None:
    """Writes out ~, which shells leave as it is behind an equals sign."""
    for name in ("raw_dir", "prepared_dir", "out", "data", "table", "workdir"):
        value = getattr(arguments, name, None)
        if isinstance(value, list):
            setattr(arguments, name, [os.path.expanduser(one) for one in value])
        elif value:
            setattr(arguments, name, os.path.expanduser(value))


def _fail(message: object, code: int) -> int:
    print(f"skinjax: {message}", file=sys.stderr)
    return code


def _log_to_stderr() -> None:
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


if __name__ == "__main__":
    sys.exit(main())
