"""Finding the published tables under the folders given."""

from collections.abc import Sequence
from pathlib import Path

from absl import logging

from skinjax.config import nearest
from skinjax.data.sources.folders import Folder
from skinjax.errors import InputError


def find(folders: Sequence[Folder], *names: str) -> Path:
    """The table that has one of `names`, as `find_all`'s first.

    Raises:
      InputError: there is none.
    """
    found = find_all(folders, *names)
    if not found:
        roots = ", ".join(str(folder.path) for folder in folders if not folder.parts)
        tables = {name for folder in folders for name in folder.names if _may_be_table(name)}
        raise InputError(
            f"no {' or '.join(names)} in {roots}, nor in a folder inside: set data.raw_dir to the"
            f" folder that holds it{nearest(names[0], sorted(tables))}"
        )
    return found[0]


def find_all(folders: Sequence[Folder], *names: str) -> list[Path]:
    """All tables that have one of `names` in any case, with a warning if there are several.

    The first is under the folder that was given first; in there, the one least deep; then by the
    order of `names`, then one in the very case, then by path.
    """
    number_of = {name.casefold(): number for number, name in enumerate(names)}
    found = sorted(
        (
            folder.root,
            len(folder.parts),
            number_of[name.casefold()],
            name not in names,
            folder.parts,
            folder.path / name,
        )
        for folder in folders
        for name in folder.names
        if name.casefold() in number_of
    )
    paths = [path for *_, path in found]
    if len(paths) > 1:
        logging.warning(
            "%d tables are called %s: taken is %s, and not %s",
            len(paths), " or ".join(names), paths[0], ", ".join(map(str, paths[1:])),
        )  # fmt: skip
    return paths


def _may_be_table(name: str) -> bool:
    return name.lower().endswith((".csv", ".tab", ".tsv", ".txt"))
