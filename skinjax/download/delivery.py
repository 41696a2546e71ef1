"""One data set, from wherever it is published, into one folder, checked."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import requests
from absl import logging

from skinjax.download import archive, catalog, holdings, orders, state
from skinjax.download.catalog import Addresses, Count, Dataset, File, Publication
from skinjax.download.orders import Order
from skinjax.download.progress import Progress
from skinjax.download.server import Patience
from skinjax.download.state import Entry, State
from skinjax.errors import InputError

# How far the number of images may be off where there are several versions.
_OTHER_VERSION = 0.02
ATTRIBUTION = "LICENSE_AND_ATTRIBUTION.txt"


def download(
    dataset: str,
    out: Path,
    *,
    archives: Sequence[Path] = (),
    via: str = "auto",
    keep_archives: bool = False,
) -> None:
    """Downloads, unpacks and checks a published data set into the folder `out`.

    The same call again goes on where the last one was stopped, and does nothing but check where
    all is there. `archives` are published files on the disk already, or folders of them; they are
    used instead of downloads, and left alone. `via` is "http" (the publisher), "kaggle" (its own
    client), or "auto": the publisher where it has a server. Archives that were downloaded are
    deleted once their images are counted, unless `keep_archives`.

    Raises:
      InputError: wrong arguments; no Kaggle client; an archive that is damaged, not safe, or not
        the published one; not as many images as published; something of others in `out`.
      TransferError: a file can't be downloaded.
      OSError: the disk is full (ENOSPC), also where it would be.
    """
    deliver(catalog.dataset(dataset), out, archives=archives, via=via, keep_archives=keep_archives)


def deliver(
    dataset: Dataset,
    out: Path,
    *,
    archives: Sequence[Path] = (),
    via: str = "auto",
    keep_archives: bool = False,
    addresses: Addresses | None = None,
    patience: Patience | None = None,
) -> None:
    """As `download`, of any data set, from servers at other `addresses`, with other `patience`."""
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out={out} is a file: give a folder")
    given = [Path(path) for path in archives]
    publication = holdings.choose(dataset, via, given)
    (out / state.FOLDER).mkdir(parents=True, exist_ok=True)
    with _only_run(out), requests.Session() as session:
        session.headers["User-Agent"] = "skinjax"
        known = state.read(out, dataset.name)
        if via == "auto" and not given:
            publication = _continued(dataset, known, publication)
        order = Order(
            dataset, publication, known, session, addresses or Addresses(), patience or Patience()
        )
        _show_attribution(order)
        _deliver(order, given, keep_archives)


@contextlib.contextmanager
def _only_run(out: Path) -> Iterator[None]:
    with (out / state.FOLDER / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another download into {out} is running: wait for it") from None
        except OSError as error:  # some network file systems
            logging.warning("no file locks in %s (%s)", out, error)
        yield


def _continued(dataset: Dataset, known: State, default: Publication) -> Publication:
    """The place that an earlier call took, so that no flag has to be given again."""
    same = (one for one in dataset.publications if one.publisher == known.publisher)
    return next(same, default) if known.has_begun else default


def _show_attribution(order: Order) -> None:
    text = order.dataset.attribution()
    logging.info("%s", text.rstrip())
    (order.out / ATTRIBUTION).write_text(text, encoding="utf-8")


def _deliver(order: Order, given: Sequence[Path], keep_archives: bool) -> None:
    known, files = order.state, order.publication.files
    if known.has_begun and known.publisher != order.publication.publisher:
        raise InputError(
            f"{order.out} holds {known.dataset} as published by {known.publisher}, and"
            f" {order.publication.publisher} was asked for: choose another --out"
        )
    known.publisher = order.publication.publisher
    missing = [file for file in files if not known.has(file)]
    if not missing and known.complete:
        _check_same(order, given)
        logging.info("%s is complete: nothing to do", order.out)
    else:
        known.complete = False
        known.save()
        _check_folders(order, missing)
        _obtain(order, missing, given)
        for count in order.publication.counts:
            _check_count(order, count)
        if not keep_archives:
            _delete_archives(order)
        known.complete = True
        known.save()
    logging.info("%s is in %s; its licence is in %s", known.dataset, order.out, ATTRIBUTION)


def _check_same(order: Order, given: Sequence[Path]) -> None:
    """Refuses archives other than those that a complete folder was made of."""
    for name, path in holdings.find(given, order.publication).items():
        if path.stat().st_size != order.state.entries[name].size:
            raise InputError(
                f"{order.out} is complete, and {path} is not the {name} that it was made of: choose"
                " another --out for it, or remove the folder"
            )


def _check_folders(order: Order, missing: Sequence[File]) -> None:
    """Refuses to write over what this command has not written."""
    for file in missing:
        folder = order.out / file.folder
        if file.is_archive and folder.exists() and not order.state.is_placed(file):
            raise InputError(
                f"{folder} is there already, and not from this command: `prepare` can use it as it"
                " is; to download, move it away or choose another --out"
            )


def _obtain(order: Order, missing: Sequence[File], given: Sequence[Path]) -> None:
    stored = [file for file in missing if order.state.has_stored(file)]
    local = _local(order, missing, given)
    remote = [file for file in missing if file not in stored and file.name not in local]
    unpacked = _unpacked_size(order, [file for file in missing if file not in remote], local)
    # First what is there, so that a wrong archive is told before the others are downloaded.
    for file in missing:
        if file not in stored and file not in remote:
            _take(order, file, local[file.name])
    orders.fetch_all(order, remote, unpacked)
    with Progress("unpacking", 0) as progress:
        for file in missing:
            if file.is_archive:
                name = order.state.entries[file.name].stored
                _unpack(order, file, order.out / name if name else local[file.name], progress)


def _local(order: Order, files: Sequence[File], given: Sequence[Path]) -> dict[str, Path]:
    """Files that are on the disk: given ones, and what somebody has put into the folder."""
    entries = order.state.entries
    inside = [
        order.out / name
        for file in files
        if not (file.name in entries and entries[file.name].own)
        for name in (file.name, *file.aliases)
    ]
    found = holdings.find([path for path in inside if path.is_file()], order.publication)
    return {**found, **holdings.find(given, order.publication)}


def _unpacked_size(order: Order, files: Sequence[File], local: dict[str, Path]) -> int:
    """Bytes that archives on the disk are going to take."""
    total = 0
    for file in files:
        if file.is_archive:
            with contextlib.suppress(InputError):  # which is told when it is unpacked
                path = local.get(file.name, order.out / file.name)
                total += sum(archive.sizes(path).values())
    return total


def _take(order: Order, file: File, path: Path) -> None:
    """Makes use of a file that is on the disk already."""
    logging.info("using %s as %s", path, file.name)
    found = holdings.check(path, file)
    inside = path.parent.resolve() == order.out.resolve()
    # A table under another name may be of another format, which its ending tells.
    stored = path.name if inside else "" if file.is_archive else _table_name(file, path)
    if stored and not inside:
        part = order.state.folder / f"{stored}.part"
        shutil.copyfile(path, part)
        os.replace(part, order.out / stored)
    placed = order.state.is_placed(file)
    entry = Entry(str(path.resolve()), found.size, found.sha256, stored, False, placed)
    order.state.entries[file.name] = entry
    order.state.save()


def _table_name(file: File, path: Path) -> str:
    return path.name if path.name in file.aliases else file.name


def _unpack(order: Order, file: File, source: Path, progress: Progress) -> None:
    entry = order.state.entries[file.name]
    folder = order.state.folder / f"{file.folder}.unpacking"
    shutil.rmtree(folder, ignore_errors=True)  # of a call that was killed
    logging.info("unpacking %s", source)
    with contextlib.ExitStack() as cleaning:
        cleaning.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            progress.expect(sum(archive.sizes(source).values()))
            sizes = archive.unpack(source, folder, progress)
        except archive.DamagedArchiveError as error:
            if not entry.own:
                raise
            source.unlink()
            entry.stored = ""
            order.state.save()
            raise InputError(
                f"{error}; it was deleted, and the same command downloads it again"
            ) from None
        entry.placed = True
        order.state.save()
        archive.place(folder, order.out / file.folder)
    order.state.save_members(file, sizes)
    entry.whole = True
    order.state.save()


def _check_count(order: Order, count: Count) -> None:
    paths = [
        PurePosixPath(path)
        for file in order.publication.files
        if file.name in count.names
        for path in order.state.members(file)
    ]
    images = [path for path in paths if path.suffix.lower() in catalog.IMAGE_ENDINGS]
    found = len({path.name for path in images}) if count.distinct else len(images)
    if found == count.images:
        logging.info("%s: %d images, as published", ", ".join(count.names), found)
        return
    seen = f"{', '.join(count.names)}: {found} images; {count.images} are published"
    if not count.fixed and abs(found - count.images) <= _OTHER_VERSION * count.images:
        logging.warning("%s; there are several versions", seen)
        return
    raise InputError(
        f"{seen} at {order.publication.page}: an archive is not the published one, or"
        f" it was published anew; remove {order.out} to get it again from there"
    )


def _delete_archives(order: Order) -> None:
    for file in order.publication.files:
        entry = order.state.entries[file.name]
        if file.is_archive and entry.own and entry.stored:
            (order.out / entry.stored).unlink(missing_ok=True)
            entry.stored = ""
            order.state.save()
