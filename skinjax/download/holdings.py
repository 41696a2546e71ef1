"""Published files that are on the disk already, found by their names."""

import re
from collections.abc import Sequence
from pathlib import Path

from skinjax.download import transfer
from skinjax.download.catalog import Dataset, File, Publication
from skinjax.errors import InputError


def find(archives: Sequence[Path], publication: Publication) -> dict[str, Path]:
    """Path by published name of what is among `archives`: files, and folders of files.

    A browser's " (1)" in a name is overlooked.
    """
    found: dict[str, Path] = {}
    for path in _files(archives):
        file = _match(path, publication)
        if file is not None:
            found.setdefault(file.name, path)
    return found


def choose(dataset: Dataset, via: str, archives: Sequence[Path]) -> Publication:
    """The place to get a data set from: one that `via` allows and that `archives` are of.

    Raises:
      InputError: there is none, an archive is missing, or one belongs to none.
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
        for file in (file for one in allowed for file in one.files if file.is_archive):
            if (path / file.folder).is_dir() and not (path / file.name).exists():
                raise InputError(
                    f"--from={path} is unpacked already (it has {file.folder}/): there is nothing"
                    f" to download, `prepare --raw_dir {path}` reads it as it is"
                )
    best = max(allowed, key=lambda one: len(find(archives, one)) / len(one.files))
    known = find(archives, best).values()
    for path in archives:
        if not any(one == path or one.parent == path for one in known):
            names = ", ".join(file.name for file in best.files)
            raise InputError(
                f"--from={path} is none of the files of {dataset.name} at {best.page}: expected"
                f" {names}, or a folder with any of them"
            )
    return best


def check(path: Path, file: File) -> transfer.Digest:
    """Reads a file, and compares an archive with what is published of it.

    A table may be an older version or in another format; what reads it will check it.

    Raises:
      InputError: an archive has another size or MD5 than the published one.
    """
    found = transfer.digest(path)
    published = (file.size if file.size is not None else found.size, file.md5 or found.md5)
    if file.is_archive and (found.size, found.md5) != published:
        raise InputError(
            f"{path} has {found.size} bytes and MD5 {found.md5}: {file.name} is published with"
            f" {published[0]} bytes and MD5 {published[1]}, so this is cut off or something else;"
            " leave it out of --from to have it downloaded"
        )
    return found


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
