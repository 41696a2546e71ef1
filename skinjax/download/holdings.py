"""Published files that are on the disk already, found by their names."""

import re
from collections.abc import Sequence
from pathlib import Path

from skinjax.download import contents, tables, transfer
from skinjax.download.catalog import Dataset, File, Publication
from skinjax.errors import InputError


def find(archives: Sequence[Path], publication: Publication) -> dict[str, Path]:
    """Path by published name of what is among `archives`: files, and folders of files.

    A browser's " (1)" in a name is overlooked. The published name goes before the others.
    """
    found: dict[str, Path] = {}
    for path in _files(archives):
        file = _match(path, publication)
        if file is None:
            continue
        if found.setdefault(file.name, path).name != file.name == path.name:
            found[file.name] = path
    return found


def choose(dataset: Dataset, via: str, archives: Sequence[Path], out: Path) -> Publication:
    """The place to get a data set from: one that `via` allows and that `archives` are of.

    `out` is where the data set goes; it may be among `archives`.

    Raises:
      InputError: there is none; an archive is missing, belongs to none, or is unpacked already.
    """
    kinds = {"auto": (True, False), "http": (False,), "kaggle": (True,)}
    if via not in kinds:
        raise InputError(f"--via is {via!r}: expected one of {', '.join(kinds)}")
    allowed = [one for one in dataset.publications if one.by_kaggle in kinds[via]]
    if not allowed:
        pages = ", ".join(one.page for one in dataset.publications)
        raise InputError(
            f"{dataset.name} can't be had with --via={via}: it is published at {pages}"
        )
    for path in archives:
        if not path.exists():
            raise InputError(f"no file or folder {path}: check --from")
    best = max(allowed, key=lambda one: len(find(archives, one)) / len(one.files))
    found = find(archives, best)
    if any(file.is_archive and file.name not in found for file in best.files):
        for path in archives:
            if path.resolve() != out.resolve():
                _refuse_unpacked(dataset, path)
    for path in archives:
        if not any(one == path or one.parent == path for one in found.values()):
            names = ", ".join(file.name for file in best.files)
            raise InputError(
                f"--from={path} is none of the files of {dataset.name} at {best.page}: expected"
                f" {names}, or a folder with any of them"
            )
    return best


def check(path: Path, file: File) -> transfer.Digest:
    """Compares a file with what is published of it, first by its size, and reads it.

    A table may be an older version or in another format, of as many rows; what reads it will check
    it.

    Raises:
      InputError: an archive has another size or MD5 than the published one, or a table is cut off.
    """
    mend = "so this is cut off or something else; leave it out of --from to have it downloaded"
    size = path.stat().st_size
    if file.is_archive and file.size not in (None, size):
        raise InputError(
            f"{path} has {size} bytes: {file.name} is published with {file.size} bytes, {mend}"
        )
    found = transfer.digest(path)
    if file.is_archive and file.md5 not in ("", found.md5):
        raise InputError(
            f"{path} has MD5 {found.md5}: {file.name} is published with MD5 {file.md5}, {mend}"
        )
    if fault := tables.fault(path, file):
        raise InputError(f"{path}: {fault}; leave it out of --from to have it downloaded")
    return found


def _refuse_unpacked(dataset: Dataset, path: Path) -> None:
    """Raises InputError if a folder, or one in it, has folders that the archives unpack to."""
    files = [file for one in dataset.publications for file in one.files if file.is_archive]
    wanted = {file.folder for file in files}
    wanted |= {held for file in files for held in file.holds if held.endswith("/")}
    for base in [path, *_folders(path).values()]:
        for name in sorted(wanted):
            folder: Path | None = base
            for part in contents.plain(name).strip("/").split("/"):
                folder = _folders(folder).get(part) if folder else None
            if folder:
                raise InputError(
                    f"--from={path} is unpacked already (it has {folder}): `prepare"
                    f" --dataset={dataset.name} --raw_dir={base}` reads it as it is; to download"
                    " what lacks, give archives and tables only"
                )


def _folders(path: Path) -> dict[str, Path]:
    """The folders in a folder by their plain names; none where they can't be listed."""
    try:
        return {contents.plain(one.name): one for one in path.iterdir() if one.is_dir()}
    except OSError:
        return {}


def _files(archives: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in archives:
        inside = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
        files.extend(inside)
    return files


def _match(path: Path, publication: Publication) -> File | None:
    name = re.sub(r" ?\(\d+\)(?=\.|$)", "", path.name)
    for file in publication.files:
        if name in (file.name, *file.aliases):
            return file
    return None
