"""The verb `prepare`: verify, split and resize a data set."""

import argparse
import os
import shlex
from collections.abc import Sequence

from skinjax.errors import InputError
from skinjax.verbs.arguments import is_override, refuse

SUMMARY = "verify, split and resize a data set"
DESCRIPTION = (
    "Reads the published files, verifies every image, splits by lesion and writes what training"
    " reads. The same command goes on with what was interrupted."
)
_COLUMNS = ("image", "label", "lesion", "patient", "age", "sex", "site", "split")


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    verb.add_argument(
        "--dataset", metavar="NAME",
        help="ham10000, ham10000_binary, isic2018, isic2019, isic9, folder, csv or synthetic",
    )  # fmt: skip
    verb.add_argument(
        "--raw_dir", nargs="+", action="extend", metavar="DIR",
        help="the published files; several folders are searched in this order",
    )  # fmt: skip
    verb.add_argument("--out", metavar="DIR", help="prepared data sets go there")
    verb.add_argument("--config", metavar="FILE.py", help="take its settings (default: none)")
    verb.add_argument("--table", metavar="FILE.csv", help="of --dataset=csv")
    for column in _COLUMNS:
        verb.add_argument(
            f"--{column}_column", metavar="NAME", help=f"of --dataset=csv: the {column}"
        )
    verb.add_argument(
        "--beam_runner", metavar="NAME", help="build with Apache Beam, e.g. on DirectRunner"
    )
    verb.add_argument(
        "--beam_option", action="append", default=[], metavar="--FLAG=VALUE",
        help="one of Beam's own, as --beam_option=--direct_num_workers=4; may be repeated",
    )  # fmt: skip
    verb.epilog = (
        "Any field of the config can be set, as --config.data.image_size=256; the settings of"
        " `data` are listed with their meaning in skinjax/default_config.py."
    )


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    from skinjax import config_file

    for folder in arguments.raw_dir or ():
        if os.pathsep in folder and len(arguments.raw_dir) > 1:
            raise InputError(
                f"--raw_dir {folder}: a name with {os.pathsep!r} can't be one of several folders;"
                " rename it, or link to it under another name"
            )
    fields = {
        "dataset": arguments.dataset,
        "raw_dir": os.pathsep.join(arguments.raw_dir) if arguments.raw_dir else None,
        "prepared_dir": arguments.out,
        "table": arguments.table,
    }
    columns = {f"columns.{name}": getattr(arguments, f"{name}_column") for name in _COLUMNS}
    given = {name: value for name, value in (fields | columns).items() if value is not None}
    # What is typed out wins over what a flag of this verb says.
    flags = [f"--config.data.{name}={value}" for name, value in given.items()]
    refuse([o for o in overrides if not is_override(o)], "prepare", add_flags)
    config = config_file.load(arguments.config, [*flags, *overrides])
    if not arguments.dataset and not arguments.config:
        raise InputError("prepare needs --dataset=NAME (or --config=FILE.py)")
    from skinjax.data import beam, builder, folds, image_store
    from skinjax.models import pretrained

    runner: image_store.Runner = image_store.on_this_machine
    if arguments.beam_runner:
        runner = beam.runner([f"--runner={arguments.beam_runner}", *arguments.beam_option])
    elif arguments.beam_option:
        raise InputError("--beam_option needs --beam_runner=NAME")
    if not config.data.image_size:
        config = pretrained.resolve(config)
    every_fold = folds.are_all_wanted(config.data)
    prepared_K = folds.prepare(config, runner) if every_fold else [builder.prepare(config, runner)]
    for fold, prepared in enumerate(prepared_K):
        for split, counts in prepared.counts.items():
            by_class = zip(prepared.classes, counts, strict=True)
            shown = ", ".join(f"{name} {n}" for name, n in by_class)
            of_fold = f"fold {fold}, " if every_fold else ""
            print(f"{of_fold}{split}: {sum(counts)} images ({shown})")
    first = prepared_K[0]
    folder = first.store if every_fold else first.directory
    print(f"prepared: {folder}")
    print(f"next: python -m skinjax.main explore --data={shlex.quote(str(first.directory))}")
    print(
        "      python -m skinjax.main train --config=configs/effnet.py --workdir=runs/NAME"
        f" --config.data.directory={shlex.quote(str(folder))}"
        + (f" --config.data.folds={len(prepared_K)}" if every_fold else "")
    )
