"""The verb `compare`: runs side by side, with paired tests."""

import argparse
from collections.abc import Sequence

from skinjax.errors import InputError
from skinjax.verbs.arguments import DISCLAIMER, refuse

SUMMARY = "put runs side by side, with paired tests"
DESCRIPTION = (
    "Compares runs on the same images: comparison.html, which needs no other file, comparison.md,"
    " comparison.json and comparison.png. Each run is tested against the first; runs that differ"
    " only in the seed are grouped. Reads what evaluate wrote and predicts nothing."
)


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    verb.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="a work directory that was evaluated, or a folder with a table of predictions",
    )
    verb.add_argument(
        "--split", default="test", metavar="NAME", help="of the evaluations (default: test)"
    )
    verb.add_argument(
        "--output", default="comparison", metavar="DIR", help="folder (default: comparison)"
    )
    verb.add_argument(
        "--num_resamples",
        type=int,
        default=2000,
        metavar="N",
        help="of the bootstrap (default: 2000)",
    )


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    refuse(overrides, "compare", add_flags)
    if not 100 <= arguments.num_resamples <= 1_000_000:
        raise InputError(
            f"--num_resamples={arguments.num_resamples}: expected 100 to 1,000,000; 2000 is usual"
        )
    from skinjax import comparison
    from skinjax.comparison.runs import read

    runs = read(arguments.runs, arguments.split)
    result = comparison.compare(runs, num_resamples=arguments.num_resamples)
    paths = comparison.write(result, arguments.split, arguments.output)
    for run_ in result["runs"]:
        value = run_["metrics"]["balanced_accuracy"]
        interval = run_["intervals"]["balanced_accuracy"]
        bounds = f" ({interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
        print(f"{run_['name']}: balanced accuracy {value:.4f}{bounds}")
    print(f"comparison: {paths[0]}. {DISCLAIMER}")
