"""The verb `import`: make a checkpoint of a Keras model."""

import argparse
import shlex
from collections.abc import Sequence

from skinjax.verbs.arguments import DISCLAIMER, refuse

SUMMARY = "make a checkpoint of a Keras model"
DESCRIPTION = (
    "Turns a whole Keras model (an .h5 file with its architecture) into a work directory with a"
    " checkpoint, which evaluates like any other."
)


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    verb.add_argument(
        "--keras", required=True, metavar="FILE.h5",
        help="a whole model that Keras saved, or hf://OWNER/REPOSITORY/FILE.h5 on the hub",
    )  # fmt: skip
    verb.add_argument("--out", required=True, metavar="DIR", help="a new work directory")
    verb.add_argument(
        "--classes", default="benign,malignant", metavar="A,B,...",
        help="names in the order of the outputs; a sigmoid is of the second (default: %(default)s)",
    )  # fmt: skip


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    refuse(overrides, "import", add_flags)
    from skinjax.keras_import import import_keras

    imported = import_keras(
        arguments.keras,
        arguments.out,
        classes=tuple(name.strip() for name in arguments.classes.split(",")),
    )
    print(f"imported: {imported['model']}, {imported['parameters']:,} parameters")
    out = shlex.quote(arguments.out)
    print(f"next: python -m skinjax.main evaluate --workdir={out} --data=PREPARED")
    print(DISCLAIMER)
