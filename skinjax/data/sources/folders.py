"""The files under the folders of `data.raw_dir`: walked once, then looked up by name."""

import collections
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from absl import logging

from skinjax.errors import InputError

IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png"})
OTHER_IMAGE_ENDINGS = frozenset({
    ".avif", ".bmp", ".dcm", ".dicom", ".dng", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe",
    ".nef", ".tif", ".tiff", ".webp",
})  # fmt: skip
# ISIC 2019's name for an image that it made smaller: other years have it without.
_DOWNSAMPLED = "_downsampled"
# Which of the folders given, whether it isn't in a published folder, number of its folder, name.
_File = tuple[int, bool, int, str]


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder: `parts` are the folders that lead to it from the `root`-th folder given."""

    root: int
    parts: tuple[str, ...]
    path: Path
    names: tuple[str, ...]  # of the files right in it, sorted

    def images(self) -> list[str]:
        """Names of the image files right in this folder, sorted."""
        return [name for name in self.names if split_ending(name)[1] in IMAGE_ENDINGS]


def split_raw_dir(raw_dir: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The folders that `raw_dir` names, joined with os.pathsep; or the one of that very name.

    Raises:
      InputError: there is none, or one that is no folder.
    """
    text = os.fspath(raw_dir)
    names = [text] if os.path.isdir(text) else text.split(os.pathsep)
    roots = tuple(Path(name) for name in names if name)
    if not roots:
        raise InputError(
            "data.raw_dir is empty: set it to the folder that holds the published files, or several"
            f" joined with {os.pathsep!r}; or set data.dataset to 'synthetic'"
        )
    for root in roots:
        if not root.is_dir():
            raise InputError(
                f"no folder {root}: set data.raw_dir to the folder that holds the data set's files"
            )
    return roots


def walk(roots: Sequence[Path]) -> tuple[Folder, ...]:
    """All folders under `roots`, in the order of `roots` and then by name; each only once.

    Links are followed, but only after the folders themselves, so that a file has its own path and
    not a link's. Hidden files and folders, and macOS's copies of them, are passed over. Images of a
    type that is not read are counted in a warning.
    """
    found: list[Folder] = []
    seen: set[str] = set()
    for number, root in enumerate(roots):
        waiting: list[tuple[str, ...]] = [()]
        links: list[tuple[str, ...]] = []
        while waiting or links:
            parts = waiting.pop() if waiting else links.pop(0)
            path = Path(root, *parts)
            real = os.path.realpath(path)
            if real in seen:  # a link back up would never end
                continue
            seen.add(real)
            subfolders, linked, names = _scan(path)
            waiting += [(*parts, name) for name in subfolders]
            links += [(*parts, name) for name in sorted(linked)]
            found.append(Folder(number, parts, path, tuple(sorted(names))))
    found.sort(key=lambda folder: (folder.root, folder.parts))
    _warn_of_other_types(found)
    return tuple(found)


def split_ending(name: str) -> tuple[str, str]:
    """A file's name without its ending, and the ending in lower case."""
    stem, _, ending = name.rpartition(".")
    return (stem, f".{ending.lower()}") if stem else (name, "")


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over."""
    return name.startswith(".") or name == "__MACOSX"


def bare(image_id: str) -> str:
    """An image's name in whatever year's data set."""
    return image_id.removesuffix(_DOWNSAMPLED)


class ImageIndex:
    """Image files by name without ending, and with or without `_downsampled`.

    One name may stand in several folders (Kaggle's archive of HAM10000 holds both parts twice). The
    choice doesn't depend on the file system: first by the order of the folders given, then those
    whose name starts like the `published` one (in lower case), before any of resized copies, say;
    then by how exactly the name is the one asked for, then by path.
    """

    def __init__(self, folders: Sequence[Folder], published: str) -> None:
        """Indexes the images of `folders`; warns if names stand in several of them."""
        self._folders = [folder.path for folder in folders]
        # Tuples of nothing but text and numbers cost the garbage collector nothing.
        self._first: dict[str, _File] = {}
        self._several: dict[str, list[_File]] = {}
        for place, folder in enumerate(folders):
            unpublished = not folder.path.name.lower().startswith(published)
            for name in folder.images():
                file = (folder.root, unpublished, place, name)
                stem = bare(split_ending(name)[0])
                first = self._first.setdefault(stem, file)
                if first is not file:
                    self._several.setdefault(stem, [first]).append(file)
        several = sum(len({file[2] for file in files}) > 1 for files in self._several.values())
        if several:
            preferred = (
                f"there from those called {published}..., then from" if published else "then"
            )
            logging.warning(
                "%d images stand in several folders: taken from the first folder given, %s the"
                " first by name",
                several, preferred,
            )  # fmt: skip

    def find(self, image_id: str, file_name: str = "") -> Path | None:
        """The file of an image; of several, rather the one called `file_name`."""
        stem = bare(image_id)
        if stem in self._several:
            *_, place, name = min(
                (
                    root,
                    unpublished,
                    name != file_name,
                    split_ending(name)[0] != image_id,
                    place,
                    name,
                )
                for root, unpublished, place, name in self._several[stem]
            )
        elif stem in self._first:
            *_, place, name = self._first[stem]
        else:
            return None
        return self._folders[place] / name


def _scan(path: Path) -> tuple[list[str], list[str], list[str]]:
    """Names of the folders, of the links to folders, and of the files in a folder."""
    subfolders: list[str] = []
    links: list[str] = []
    names: list[str] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                try:
                    is_folder, is_file = entry.is_dir(), entry.is_file()
                except OSError:  # a link to itself
                    continue
                if is_folder:
                    (links if entry.is_symlink() else subfolders).append(entry.name)
                elif is_file:  # and not a link to a file that was never fetched
                    names.append(entry.name)
    except OSError as error:
        logging.warning("%s can't be listed (%s): its files are not found", path, error.strerror)
    return subfolders, links, names


def _warn_of_other_types(folders: Sequence[Folder]) -> None:
    endings = (split_ending(name)[1] for folder in folders for name in folder.names)
    counts = collections.Counter(ending for ending in endings if ending in OTHER_IMAGE_ENDINGS)
    if counts:
        logging.warning(
            "%d files are images of types that are not read (%s): convert them to JPEG or PNG",
            counts.total(), ", ".join(sorted(counts)),
        )  # fmt: skip
