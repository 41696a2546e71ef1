"""One data set, from wherever it is published, into one folder, checked."""

import contextlib
import errno
import fcntl
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from absl import logging

from skinjax.download import catalog, contents, holdings, orders, state, stock
from skinjax.download.catalog import Addresses, Dataset, File, Publication
from skinjax.download.orders import Order
from skinjax.download.progress import Progress
from skinjax.download.server import Patience, Session
from skinjax.download.state import State
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
    used instead of downloads, checked before anything is downloaded, and left alone. `via` is
    "http" (the publisher), "kaggle" (its own client), or "auto": the publisher where it has a
    server. Archives that were downloaded are deleted once unpacked, unless `keep_archives`.

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
            stock.delete_archives(order)
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
    places = {**stock.inside(order, missing), **found, **stored}
    local = [file for file in missing if file.name in places and file.name not in stored]
    remote = [file for file in missing if file.name not in places]
    # All that is on the disk is checked before gigabytes are fetched.
    known = {
        file.name: digests.get(file.name) or holdings.check(places[file.name], file)
        for file in local
    }
    lists = stock.list_all(order, missing, places)
    for file in local:
        stock.take(order, file, places[file.name], known[file.name])
    there = [file.name for file in missing if file.name in lists]
    orders.fetch_all(order, remote, sum(sum(lists[name].values()) for name in there))
    places |= {file.name: order.out / file.name for file in remote}
    contents.log(order.publication, stock.list_all(order, missing, places))
    with Progress("unpacking", 0) as progress:
        for file in missing:
            if file.is_archive:
                stock.unpack(order, file, places[file.name], progress)
