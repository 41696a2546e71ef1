"""The verb `explain`: show what in images speaks for a class."""

import argparse
from collections.abc import Sequence

from skinjax.verbs.arguments import DISCLAIMER, add_run, refuse, start_jax

SUMMARY = "show what in images speaks for a class"
DESCRIPTION = (
    "Writes a map over each image, as PNG, of what speaks for the predicted or another class, and a"
    " table of them. A map shows what the network looked at, not that it was right."
)


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    add_run(verb)
    verb.add_argument(
        "--images", required=True, nargs="+", action="extend", metavar="FILE|FOLDER|GLOB",
        help="JPEG or PNG; folders with all below them",
    )  # fmt: skip
    verb.add_argument("--output", required=True, metavar="DIR", help="of the PNGs and the table")
    verb.add_argument(
        "--method", default="grad_cam",
        metavar="grad_cam|saliency|smooth_grad|integrated_gradients",
        help="how the maps are made (default: grad_cam)",
    )  # fmt: skip
    verb.add_argument(
        "--target", default="predicted", metavar="predicted|CLASS",
        help="the class that is explained (default: each image's predicted one)",
    )  # fmt: skip
    verb.add_argument(
        "--stage", default="", metavar="NAME",
        help="of the network, whose feature map grad_cam looks at (default: the deepest with a map"
        " of 4 x 4 values or more)",
    )  # fmt: skip
    verb.add_argument(
        "--sanity_check", action="store_true",
        help="test on the first images whether the maps change when the weights are drawn anew",
    )  # fmt: skip


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    refuse(overrides, "explain", add_flags)
    start_jax()
    from skinjax.explain.files import explain_files

    result = explain_files(
        arguments.workdir,
        arguments.images,
        arguments.output,
        method=arguments.method,
        target=arguments.target,
        which=arguments.checkpoint,
        stage=arguments.stage,
        sanity_check=arguments.sanity_check,
    )
    if result.sanity:
        print(result.sanity)
    failed = f", {len(result.errors)} images could not be read" if result.errors else ""
    print(f"{result.num_maps} maps{failed}; table: {result.table}. {DISCLAIMER}")
