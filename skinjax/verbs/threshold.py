"""The verb `threshold`: choose the threshold of a decision on validation."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from skinjax.verbs.arguments import DISCLAIMER, add_moved_data, add_run, refuse, start_jax

SUMMARY = "choose the threshold of a decision for a sensitivity or specificity"
DESCRIPTION = (
    "Chooses on the validation split from which probability on an image is called positive, for a"
    " sensitivity or a specificity to be reached there, and measures it on the test split. predict"
    " uses it; a copy and a plot go to WORKDIR/evaluation/threshold."
)
_SHOWN = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV"}


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    add_run(verb)
    verb.add_argument(
        "--positive",
        default="",
        metavar="malignant|CLASS[,CLASS...]",
        help="what is called positive (default: the second of two classes, else the malignant)",
    )
    for name in ("sensitivity", "specificity"):
        verb.add_argument(
            f"--target_{name}", type=float, metavar="SHARE", help=f"{name} to reach, as 0.90"
        )
    add_moved_data(verb)


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    refuse(overrides, "threshold", add_flags)
    start_jax()
    from skinjax import calibrate, threshold
    from skinjax.threshold.setting import set_threshold

    done = set_threshold(
        arguments.workdir,
        which=arguments.checkpoint,
        positive=arguments.positive,
        target_sensitivity=arguments.target_sensitivity,
        target_specificity=arguments.target_specificity,
        raw_dir=arguments.raw_dir,
        prepared_dir=arguments.prepared_dir,
        data=arguments.data,
    )
    chosen = done.chosen
    new = ", fitted now, as there was none" if done.fitted_now else ""
    print(f"calibration: {calibrate.describe(done.calibration, done.classes)}{new}")
    (name, target), *_ = chosen.target.items()
    print(
        f"positive: {threshold.in_words(chosen.positive)}, from a probability of "
        f"{chosen.threshold:.4g} (for a {name} of {target:g} on val)"
    )
    for split, point in (("val", chosen.val), ("test", chosen.test)):
        print(f"{split}: {'not available' if point is None else _line(point)}")
    print(f"kept: {done.path}; copy and plot: {done.copy.parent}. {DISCLAIMER}")


def _line(point: Mapping[str, Any]) -> str:
    parts = []
    for name, label in _SHOWN.items():
        value, interval = point[name], point["intervals"][name]
        if value is None:
            parts.append(f"{label} n/a")
            continue
        bounds = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
        parts.append(f"{label} {value:.3f}{bounds}")
    return f"{', '.join(parts)} (n={point['num_examples']}, {point['num_positive']} positive)"
