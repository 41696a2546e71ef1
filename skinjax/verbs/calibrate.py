"""The verb `calibrate`: fit a calibration to a checkpoint."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from skinjax.verbs.arguments import DISCLAIMER, add_moved_data, add_run, refuse, start_jax

SUMMARY = "calibrate a checkpoint's probabilities"
DESCRIPTION = (
    "Fits a calibration to a checkpoint's validation predictions and keeps it with the checkpoint,"
    " draws reliability plots before and after to WORKDIR/evaluation/calibration, and fits what"
    " tells images unlike the training data."
)
_SHOWN = {
    "log_loss": "log loss (NLL)",
    "expected_calibration_error": "ECE",
    "balanced_accuracy": "balanced accuracy",
}


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    add_run(verb)
    verb.add_argument(
        "--method",
        default="temperature",
        metavar="temperature|vector|none",
        help="one temperature for all classes (default), a scale and a bias for each class, or "
        "the probabilities as they are",
    )
    verb.add_argument(
        "--no_unknown", action="store_true", help="leave out the score of unlike images"
    )
    add_moved_data(verb)


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    refuse(overrides, "calibrate", add_flags)
    start_jax()
    from skinjax import calibrate

    moved = {name: getattr(arguments, name) for name in ("raw_dir", "prepared_dir", "data")}
    done = calibrate.calibrate(
        arguments.workdir, which=arguments.checkpoint, method=arguments.method, **moved
    )
    classes = tuple(done.before["val"]["per_class"])
    print(f"{done.calibration.method}: {calibrate.describe(done.calibration, classes)}")
    for split, before in done.before.items():
        print(f"{split}: {_changes(before, done.after[split])} (n={before['num_examples']})")
    if done.dropped:
        print("the threshold was for other probabilities and is deleted: run skinjax threshold")
    if done.changed and "test" in done.before:
        print("evaluation/test tells of the calibration before: run skinjax evaluate again")
    print(f"kept: {done.path}; plot: {done.plot}. {DISCLAIMER}")
    if not arguments.no_unknown:
        from skinjax import unknown

        path = unknown.fit(arguments.workdir, which=arguments.checkpoint, **moved)
        print(f"score of unlike images: {path}")


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{label} {_number(before[name])} -> {_number(after[name])}"
        for name, label in _SHOWN.items()
    )


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
