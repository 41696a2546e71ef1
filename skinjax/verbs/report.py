"""The verb `report`: write the report on a trained model, and its model card."""

import argparse
from collections.abc import Sequence

from skinjax.errors import InputError
from skinjax.verbs.arguments import DISCLAIMER, add_num_resamples, refuse

SUMMARY = "write the report on a trained model, and its model card"
DESCRIPTION = (
    "Writes report.html, which needs no other file, model_card.md and report.json (the figures)"
    " from what evaluate and other verbs left in a work directory, or from tables of predictions"
    " alone. Predicts nothing."
)


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    source = verb.add_mutually_exclusive_group(required=True)
    source.add_argument("--workdir", metavar="DIR", help="that was trained in, and evaluated")
    source.add_argument(
        "--predictions",
        metavar="DIR",
        help="a folder with predictions_test.csv, and predictions_val.csv for the calibration"
        " there or in ../val",
    )
    verb.add_argument(
        "--method",
        metavar="NAME",
        help="of the calibration that --predictions fits: temperature or vector"
        " (default: temperature)",
    )
    verb.add_argument(
        "--split", default="test", metavar="NAME", help="that the figures are of (default: test)"
    )
    verb.add_argument("--output", metavar="DIR", help="default: report/ in the folder given")
    add_num_resamples(verb)


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    refuse(overrides, "report", add_flags)
    if not 0 <= arguments.num_resamples <= 1_000_000:
        raise InputError(
            f"--num_resamples={arguments.num_resamples}: expected 0 to 1,000,000; 2000 is usual"
        )
    if arguments.method is not None and arguments.workdir:
        raise InputError(
            f"--method={arguments.method} is for --predictions; a work directory has the"
            " calibration of skinjax calibrate"
        )
    if arguments.method not in (None, "temperature", "vector"):
        raise InputError(f"--method={arguments.method} is neither temperature nor vector")
    from skinjax import report

    options = {
        "split": arguments.split,
        "output": arguments.output,
        "num_resamples": arguments.num_resamples,
    }
    if arguments.workdir:
        written = report.write_run(arguments.workdir, **options)
    else:
        options["method"] = arguments.method or "temperature"
        written = report.write_predictions_report(arguments.predictions, **options)
    for path in written:
        print(f"written: {path}")
    print(DISCLAIMER)
