"""The verb `errors`: show what a model gets wrong."""

import argparse
from collections.abc import Sequence

from skinjax.verbs.arguments import DISCLAIMER, refuse, start_jax

SUMMARY = "show what a model gets wrong"
DESCRIPTION = (
    "Writes a page on a split that was evaluated: which classes are confused, how sure the model is"
    " when it is wrong, and the most confident errors and least confident hits, with maps."
)


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    verb.add_argument("--workdir", required=True, metavar="DIR", help="that was evaluated")
    verb.add_argument(
        "--split", default="test", metavar="NAME",
        help="a folder of WORKDIR/evaluation: train, val, test, test_flips (default: test)",
    )  # fmt: skip
    verb.add_argument(
        "--num", type=int, default=12, metavar="N", help="cases of each kind (default: 12)"
    )
    for name in ("raw_dir", "prepared_dir"):
        verb.add_argument(
            f"--{name}", metavar="DIR", help=f"in place of the run's data.{name}, if it has moved"
        )
    verb.add_argument("--data", metavar="DIR", help="the prepared data set, if it has moved")


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    refuse(overrides, "errors", add_flags)
    start_jax()
    from skinjax.explain import errors_page

    page = errors_page.write(
        arguments.workdir,
        arguments.split,
        num=arguments.num,
        raw_dir=arguments.raw_dir,
        prepared_dir=arguments.prepared_dir,
        data=arguments.data,
    )
    print(f"page: {page}. {DISCLAIMER}")
