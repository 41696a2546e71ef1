"""The verb `errors`: show what a model gets wrong."""

import argparse
from collections.abc import Sequence

from skinjax.verbs.arguments import DISCLAIMER, add_moved_data, refuse, start_jax

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
    add_moved_data(verb)


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
