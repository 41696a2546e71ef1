"""The verb `ensemble`: combine the predictions of several runs."""

import argparse
from collections.abc import Sequence

from skinjax.verbs.arguments import (
    DISCLAIMER,
    add_checkpoint,
    add_moved_data,
    add_num_resamples,
    refuse,
    start_jax,
)

SUMMARY = "combine the predictions of several runs"
DESCRIPTION = (
    "Combines what several runs, or the folds of a cross-validation, predict of the test split"
    " that they share, and evaluates it: OUTPUT/evaluation/test as evaluate writes it, and"
    " OUTPUT/ensemble.md with the members. Runs that were not evaluated yet are evaluated first."
)


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    verb.add_argument(
        "--runs",
        required=True,
        nargs="+",
        metavar="DIR",
        help="work directories, or that of a cross-validation for all its folds",
    )
    verb.add_argument("--output", required=True, metavar="DIR", help="new folder for the ensemble")
    verb.add_argument(
        "--method",
        default="mean",
        metavar="mean|rank_mean|greedy",
        help="mean of probabilities (default), of ranks, or weights chosen on validation",
    )
    verb.add_argument(
        "--metric",
        default="balanced_accuracy",
        metavar="NAME",
        help="that greedy chooses by (default: balanced_accuracy)",
    )
    add_checkpoint(verb, "of each")
    verb.add_argument(
        "--tta",
        default="none",
        metavar="none|flips|crops",
        help="test-time augmentation of each member (default: none)",
    )
    add_moved_data(verb, "the runs'")
    add_num_resamples(verb)


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    from skinjax import metrics
    from skinjax.ensemble import files as ensemble_files

    refuse(overrides, "ensemble", add_flags)
    start_jax()
    result = ensemble_files.write(
        arguments.runs,
        arguments.output,
        method=arguments.method,
        metric=arguments.metric,
        which=arguments.checkpoint,
        tta=arguments.tta,
        num_resamples=arguments.num_resamples,
        raw_dir=arguments.raw_dir,
        prepared_dir=arguments.prepared_dir,
        data=arguments.data,
    )
    count = {"num_examples": result["metrics"]["num_examples"]}
    for member in result["members"]:
        line = metrics.summary_line({**member["metrics"], **count})
        print(f"{member['run']} (weight {member['weight']:.3g}): {line}")
    print(f"{arguments.method}: {metrics.summary_line(result['metrics'])}")
    print(f"report: {arguments.output}/ensemble.md. {DISCLAIMER}")
