"""One data set, from wherever it is published, into one folder, checked."""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from absl import logging

from skinjax.download import archive, catalog, contents, holdings, orders, state
from skinjax.download.catalog import Addresses, Dataset, File, Publication
from skinjax.download.orders import Order
from skinjax.download.progress import Progress
from skinjax.download.server import Patience, Session
from skinjax.download.state import Entry, State
from skinjax.download.transfer import Digest
from skinjax.errors import InputError

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
    used instead of downloads, and left alone; they are checked before anything is downloaded. `via` is "http" (the publisher), "kaggle" (its own
    client), or "auto": the publisher where it has a server. Archives that were downloaded are
    deleted once their images are counted, unless `keep_archives`.

    Raises:
      InputError: wrong arguments; no Kaggle client; an archive that is damaged, not safe, or not
        the published one; not as many images as published; something of others in `out`, or made
        of other archives than are given now.
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
    given = [Path(path) for path in archives]
    publication = holdings.choose(dataset, via, given, out)
    _make(out)
    with _only_run(out), Session() as session:
        session.headers["User-Agent"] = "skinjax"
        known = state.read(out, dataset.name)
        if via == "auto" and not given:
            publication = _continued(dataset, known, publication)
        order = Order(
            dataset, publication, known, session, addresses or Addresses(), patience or Patience()
        )
        _show_attribution(order)
        _deliver(order, given, keep_archives)


def _make(out: Path) -> None:
    """Makes the folder, and sees that files can be made in it."""
    try:
        (out / state.FOLDER).mkdir(parents=True, exist_ok=True)
        for folder in (out, out / state.FOLDER):
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise InputError(
            f"--out={out} can't be made or written to ({error.strerror}): give a folder that can"
        ) from None


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
    found = holdings.find(given, order.publication)
    digests = _check_given(order, missing, found)
    if not missing and known.complete:
        logging.info("%s is complete: nothing to do", order.out)
    else:
        known.complete = False
        known.save()
        _check_folders(order, missing)
        _obtain(order, missing, found, digests)
        if not keep_archives:
            _delete_archives(order)
        known.complete = True
        known.save()
    logging.info("%s is in %s; its licence is in %s", known.dataset, order.out, ATTRIBUTION)


def _check_given(
    order: Order, missing: Sequence[File], found: Mapping[str, Path]
) -> dict[str, Digest]:
    """Refuses files that are not as published, or other ones than the folder is made of."""
    digests = {}
    for file in order.publication.files:
        if file.name not in found:
            continue
        path = found[file.name]
        digests[file.name] = holdings.check(path, file)
        entry = order.state.entries.get(file.name)
        same = entry is None or entry.sha256 == digests[file.name].sha256
        unpacked = order.state.is_placed(file) and (order.out / file.folder).exists()
        if entry and not same and (unpacked or file not in missing):
            raise InputError(
                f"{order.out} is made of another {file.name} ({entry.origin}) than --from={path}:"
                " choose another --out for this one, or remove the folder"
            )
    return digests


def _check_folders(order: Order, missing: Sequence[File]) -> None:
    """Refuses to write over what this command has not written."""
    for file in missing:
        folder = order.out / file.folder
        if file.is_archive and folder.exists() and not order.state.is_placed(file):
            raise InputError(
                f"{folder} is there already, and not from this command: `prepare` can use it as it"
                " is; to download, move it away or choose another --out"
            )


def _obtain(
    order: Order,
    missing: Sequence[File],
    found: Mapping[str, Path],
    digests: Mapping[str, Digest],
) -> None:
    """Gets, checks and unpacks `missing`; `found` are those that were given, with `digests`."""
    entries = order.state.entries
    stored = {
        file.name: order.out / entries[file.name].stored
        for file in missing
        if order.state.has_stored(file)
        and (file.name not in digests or digests[file.name].sha256 == entries[file.name].sha256)
    }
    places = {**_inside(order, missing), **found, **stored}
    local = [file for file in missing if file.name in places and file.name not in stored]
    remote = [file for file in missing if file.name not in places]
    # All that is on the disk is checked before gigabytes are fetched.
    known = {
        file.name: digests.get(file.name) or holdings.check(places[file.name], file)
        for file in local
    }
    lists = _list(order, missing, places)
    for file in local:
        _take(order, file, places[file.name], known[file.name])
    there = [file.name for file in missing if file.name in lists]
    orders.fetch_all(order, remote, sum(sum(lists[name].values()) for name in there))
    places |= {file.name: order.out / file.name for file in remote}
    contents.log(order.publication, _list(order, missing, places))
    with Progress("unpacking", 0) as progress:
        for file in missing:
            if file.is_archive:
                _unpack(order, file, places[file.name], progress)


def _list(
    order: Order, missing: Sequence[File], places: Mapping[str, Path]
) -> dict[str, dict[str, int]]:
    """Size by path of what each archive in `places` holds, and of what is unpacked; checked."""
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


def _inside(order: Order, files: Sequence[File]) -> dict[str, Path]:
    """What somebody has put into the folder."""
    entries = order.state.entries
    paths = [
        order.out / name
        for file in files
        if not (file.name in entries and entries[file.name].own)
        for name in (file.name, *file.aliases)
    ]
    return holdings.find([path for path in paths if path.is_file()], order.publication)


def _take(order: Order, file: File, path: Path, found: Digest) -> None:
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


def _table_name(file: File, path: Path) -> str:
    return path.name if path.name in file.aliases else file.name


def _unpack(order: Order, file: File, source: Path, progress: Progress) -> None:
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


def _delete_archives(order: Order) -> None:
    for file in order.publication.files:
        entry = order.state.entries[file.name]
        if file.is_archive and entry.own and entry.stored:
            (order.out / entry.stored).unlink(missing_ok=True)
            entry.stored = ""
            order.state.save()
