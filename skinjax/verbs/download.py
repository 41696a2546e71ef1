"""The verb `download`: download a published data set."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from skinjax.verbs.arguments import refuse

SUMMARY = "download a published data set"
DESCRIPTION = (
    "Downloads a published data set from its official address, checks and unpacks it. The same"
    " command goes on with what was interrupted."
)


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    verb.add_argument(
        "--dataset", required=True, metavar="NAME", help="ham10000, isic2018, isic2019 or isic9"
    )
    verb.add_argument("--out", required=True, metavar="DIR", help="made if missing")
    verb.add_argument(
        "--from", dest="archives", action="append", default=[], metavar="FILE",
        help="an archive that is on the disk already (or a folder of them); may be repeated",
    )  # fmt: skip
    verb.add_argument(
        "--via", default="auto", metavar="auto|http|kaggle",
        help="the publisher's server or Kaggle's client (default: the former where there is one)",
    )  # fmt: skip
    verb.add_argument("--keep_archives", action="store_true", help="after they are unpacked")


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    from skinjax.download import download

    refuse(overrides, "download", add_flags)
    download(
        arguments.dataset,
        Path(arguments.out),
        archives=[Path(archive).expanduser() for archive in arguments.archives],
        via=arguments.via,
        keep_archives=arguments.keep_archives,
    )
    print(
        f"next: python -m skinjax.main prepare --dataset={arguments.dataset}"
        f" --raw_dir {shlex.quote(arguments.out)} --out=data/prepared"
    )
