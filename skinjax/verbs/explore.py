"""The verb `explore`: show a prepared data set on a page."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from skinjax.errors import InputError
from skinjax.verbs.arguments import DISCLAIMER, is_override, refuse

SUMMARY = "show a prepared data set on a page"
DESCRIPTION = "Writes an HTML page with counts, plots and samples of a prepared data set."


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    verb.add_argument(
        "--data",
        metavar="DIR",
        help="the folder that prepare printed, or one with no other data set in it",
    )
    verb.add_argument("--out", metavar="DIR", help="of the pages (default: explore/ in --data)")
    verb.add_argument(
        "--config", metavar="FILE.py",
        help="add a page of augmented training samples; prepares its data without --data",
    )  # fmt: skip


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    from skinjax import config_file

    if not arguments.data and not arguments.config:
        raise InputError("explore needs --data=DIR or --config=FILE.py")
    refuse([o for o in overrides if not (arguments.config and is_override(o))], "explore",
            add_flags)  # fmt: skip
    from skinjax import explore
    from skinjax.data import builder
    from skinjax.data.prepared import open_prepared
    from skinjax.models import pretrained

    if arguments.config:
        config = config_file.load(arguments.config, overrides)
        config.data.directory = arguments.data or config.data.directory
        config = builder.settled(config)
        if config.data.image_size:  # all that it would need the weights for
            config.model.pretrained = ""
        config = pretrained.resolve(config)
        prepared = builder.prepare(config)
    else:
        prepared = open_prepared(Path(arguments.data))
    out = Path(arguments.out or prepared.directory / "explore")
    print(f"page: {explore.explore(prepared, out)}")
    if arguments.config:
        print(f"page: {explore.augmented(config, prepared, out)}")
    print(DISCLAIMER)
