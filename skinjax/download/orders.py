"""What is wanted and from whom, and fetching it."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from absl import logging

from skinjax.download import archive, dataverse, kaggle, server, tables, transfer
from skinjax.download.catalog import Addresses, Dataset, File, Publication
from skinjax.download.progress import Progress, readable
from skinjax.download.server import Patience, Session, TransferError
from skinjax.download.state import Entry, State
from skinjax.download.transfer import Remote
from skinjax.errors import InputError


@dataclass(frozen=True)
class Order:
    """What is wanted, and how to get it."""

    dataset: Dataset
    publication: Publication
    state: State
    session: Session
    addresses: Addresses
    patience: Patience

    @property
    def out(self) -> Path:
        """The folder that it goes to."""
        return self.state.out


def fetch_all(order: Order, files: Sequence[File], unpacked: int) -> None:
    """Downloads `files` into the folder of the order, each under its name once it is whole.

    `unpacked` are the bytes that are needed besides.

    Raises:
      InputError, TransferError, OSError: as `download`.
    """
    if not files:
        archive.check_space(order.out, unpacked, "unpacking")
    elif order.publication.by_kaggle:
        for file in files:
            _fetch_from_kaggle(order, file)
    else:
        _fetch_over_http(order, files, unpacked)


def _fetch_from_kaggle(order: Order, file: File) -> None:
    folder = order.state.folder / "kaggle"
    path = kaggle.fetch(file.path, folder, order.publication.page)
    _keep(order, file, path, transfer.digest(path), order.publication.page)
    shutil.rmtree(folder)


def _fetch_over_http(order: Order, files: Sequence[File], unpacked: int) -> None:
    remotes = _remotes(order, files)
    total = sum(remote.size or 0 for remote in remotes)
    parts = {remote.name: order.state.folder / f"{remote.name}.part" for remote in remotes}
    there = sum(part.stat().st_size for part in parts.values() if part.is_file())
    # Images hardly shrink in a zip: unpacked, they take as much again.
    archive.check_space(order.out, 2 * total - there + unpacked, f"downloading to {order.out}")
    logging.info("%d files, %s", len(files), readable(total))
    with Progress("downloading", total) as progress:
        for file, remote in zip(files, remotes, strict=True):
            _fetch(order, file, remote, progress)


def _remotes(order: Order, files: Sequence[File]) -> list[Remote]:
    """Addresses, sizes and checksums, as the publishers' servers tell them now."""
    publication, session, patience = order.publication, order.session, order.patience
    isic = publication.publisher == "isic"
    base = order.addresses.isic if isic else order.addresses.dataverse
    if not isic:
        doi = order.dataset.doi
        by_hand = f"download the files from {publication.page} by hand and pass them with --from"
        files = dataverse.list_files(session, base, doi, files, patience, by_hand)
    remotes = []
    for file in files:
        by_hand = f"download {file.name} from {publication.page} by hand and pass it as --from=FILE"
        url, size = base + file.path, file.size
        if size is None and isic:
            size = server.head(session, url, patience, by_hand)
        remotes.append(Remote(file.name, url, size, file.md5, isic, by_hand))
    return remotes


def _fetch(order: Order, file: File, remote: Remote, progress: Progress) -> None:
    part = order.state.folder / f"{file.name}.part"
    logging.info("downloading %s from %s", file.name, remote.url)
    found = transfer.fetch(order.session, remote, part, order.patience, progress)
    if remote.size is None:
        progress.expect(found.size)
    if not file.is_archive and _is_page(part):
        transfer.discard(part)
        raise InputError(
            f"{remote.url} answered with a web page, not with a table: a login or a proxy may be"
            f" in between; {remote.help}"
        )
    if fault := tables.fault(part, file):
        transfer.discard(part)
        raise TransferError(
            f"{remote.url}: {fault}; the same command gets it again, or {remote.help}"
        )
    _keep(order, file, part, found, remote.url)


def _is_page(part: Path) -> bool:
    with part.open("rb") as file:
        return file.read(256).lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<")


def _keep(order: Order, file: File, path: Path, found: transfer.Digest, origin: str) -> None:
    """Gives a file that is whole its name; who is killed in between does it again."""
    placed = order.state.is_placed(file)
    entry = Entry(origin, found.size, found.sha256, file.name, own=True, placed=placed)
    order.state.entries[file.name] = entry
    order.state.save()
    os.replace(path, order.out / file.name)
    transfer.discard(path)
