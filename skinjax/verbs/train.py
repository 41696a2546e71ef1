"""The verb `train`: train a config, or go on with an interrupted run."""

import argparse
import shlex
from collections.abc import Sequence
from typing import Any

from skinjax.errors import InputError
from skinjax.verbs.arguments import DISCLAIMER

SUMMARY = "train a config, or go on with an interrupted run"
DESCRIPTION = (
    "Trains a config in a work directory. The same command on the same work directory goes on"
    " where the run stopped (Ctrl-C and SIGTERM save first)."
)


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
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


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
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
    print(f"next: python -m skinjax.main evaluate --workdir={shlex.quote(arguments.workdir)}")


def _cross_validate(config: Any, workdir: str) -> None:
    from skinjax import cross_validation, metrics
    from skinjax.parallel import is_main_process

    computed = cross_validation.cross_validate(config, workdir)
    if not config.parallel.fold_per_device and not is_main_process():
        return
    print(f"out of fold: {metrics.summary_line(computed)}")
    print(f"report: {workdir}/out_of_fold/report.md. {DISCLAIMER}")
    print(f"next: python -m skinjax.main evaluate --workdir={shlex.quote(workdir)}/fold_0")
