"""The verb `evaluate`: evaluate a checkpoint on a split."""

import argparse
from collections.abc import Sequence

from skinjax.verbs.arguments import DISCLAIMER, refuse

SUMMARY = "evaluate a checkpoint on a split"
DESCRIPTION = (
    "Evaluates a checkpoint of a work directory on one of its splits: predictions, metrics and"
    " plots go to WORKDIR/evaluation/SPLIT."
)


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
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


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    from skinjax import checkpoint, metrics

    refuse(overrides, "evaluate", add_flags)
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
    print(f"report: {arguments.workdir}/evaluation/{arguments.split}/report.md. {DISCLAIMER}")
