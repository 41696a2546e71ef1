"""Files that are on the disk: listed, taken, unpacked, deleted, and all of it remembered."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from absl import logging

from skinjax.download import archive, contents, holdings
from skinjax.download.catalog import File
from skinjax.download.orders import Order
from skinjax.download.progress import Progress
from skinjax.download.state import Entry
from skinjax.download.transfer import Digest
from skinjax.errors import InputError


def list_all(
    order: Order, missing: Sequence[File], places: Mapping[str, Path]
) -> dict[str, dict[str, int]]:
    """Size by path of what each archive in `places` holds, and of what is unpacked.

    Raises:
      InputError: an archive is damaged, not safe, or not the published one.
    """
    lists = {}
    for file in order.publication.files:
        if not file.is_archive:
            continue
        if file not in missing:
            lists[file.name] = order.state.members(file)
        elif file.name in places:
            with _deleting_damaged(order, file, places[file.name]):
                lists[file.name] = archive.sizes(places[file.name])
    unpacked = {file.name: order.out / file.folder for file in order.publication.files}
    contents.check(order.publication, lists, {**unpacked, **places})
    return lists


def inside(order: Order, files: Sequence[File]) -> dict[str, Path]:
    """What somebody has put into the folder."""
    entries = order.state.entries
    paths = [
        order.out / name
        for file in files
        if not (file.name in entries and entries[file.name].own)
        for name in (file.name, *file.aliases)
    ]
    return holdings.find([path for path in paths if path.is_file()], order.publication)


def take(order: Order, file: File, path: Path, found: Digest) -> None:
    """Makes use of a file that is on the disk already."""
    logging.info("using %s as %s", path, file.name)
    inside = path.parent.resolve() == order.out.resolve()
    # A table under another name may be of another format, which its ending tells.
    stored = path.name if inside else "" if file.is_archive else _table_name(file, path)
    if stored and not inside:
        part = order.state.folder / f"{stored}.part"
        shutil.copyfile(path, part)
        os.replace(part, order.out / stored)
    before = order.state.entries.get(file.name)
    if before and before.own and before.stored not in ("", stored):
        (order.out / before.stored).unlink(missing_ok=True)
    placed = order.state.is_placed(file)
    entry = Entry(str(path.resolve()), found.size, found.sha256, stored, False, placed)
    order.state.entries[file.name] = entry
    order.state.save()


def unpack(order: Order, file: File, source: Path, progress: Progress) -> None:
    """Unpacks an archive into its folder; who is killed in between does it again."""
    entry = order.state.entries[file.name]
    folder = order.state.folder / f"{file.folder}.unpacking"
    shutil.rmtree(folder, ignore_errors=True)  # of a call that was killed
    logging.info("unpacking %s", source)
    with contextlib.ExitStack() as cleaning:
        cleaning.callback(shutil.rmtree, folder, ignore_errors=True)
        with _deleting_damaged(order, file, source):
            progress.expect(sum(archive.sizes(source).values()))
            sizes = archive.unpack(source, folder, progress)
        entry.placed = True
        order.state.save()
        archive.place(folder, order.out / file.folder)
    order.state.save_members(file, sizes)
    entry.whole = True
    order.state.save()


def delete_archives(order: Order) -> None:
    """Deletes the archives that were downloaded."""
    for file in order.publication.files:
        entry = order.state.entries[file.name]
        if file.is_archive and entry.own and entry.stored:
            (order.out / entry.stored).unlink(missing_ok=True)
            entry.stored = ""
            order.state.save()


@contextlib.contextmanager
def _deleting_damaged(order: Order, file: File, source: Path) -> Iterator[None]:
    """Deletes an archive that is damaged, if it was downloaded here."""
    try:
        yield
    except archive.DamagedArchiveError as error:
        entry = order.state.entries.get(file.name)
        if entry is None or not entry.own or source != order.out / entry.stored:
            raise
        source.unlink()
        entry.stored = ""
        order.state.save()
        raise InputError(
            f"{error}; it was deleted, and the same command downloads it again"
        ) from None


def _table_name(file: File, path: Path) -> str:
    return path.name if path.name in file.aliases else file.name
