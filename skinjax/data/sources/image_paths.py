"""Images as a hospital's own table names them: by file name, or by path, with or without ending."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skinjax.data.sources import fields
from skinjax.data.sources.folders import (
    IMAGE_ENDINGS,
    OTHER_IMAGE_ENDINGS,
    ImageIndex,
    is_hidden,
    split_ending,
)
from skinjax.errors import InputError

_ENDINGS = IMAGE_ENDINGS | OTHER_IMAGE_ENDINGS
_TRIED = sorted(IMAGE_ENDINGS) + sorted(ending.upper() for ending in IMAGE_ENDINGS)
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class ImagePath:
    """Folders and file name, below `root`, or where that is None below any of the folders given."""

    parts: tuple[str, ...]
    root: Path | None

    @property
    def stem(self) -> str:
        """The file's name without an image's ending."""
        return _without_ending(self.parts[-1])

    @property
    def stem_parts(self) -> tuple[str, ...]:
        """The folders and the stem."""
        return (*self.parts[:-1], self.stem)


def parse(value: str, roots: Sequence[Path], where: str) -> ImagePath:
    """Takes a table's value apart; an absolute path must lie below one of `roots`.

    Raises:
      InputError: it is empty, leads up or elsewhere, is hidden or can't be printed.
    """
    text = value.replace("\\", "/")
    parts = tuple(part for part in text.split("/") if part not in ("", "."))
    stem = "" if text.endswith("/") or not parts else _without_ending(parts[-1])
    if ".." in parts:
        raise InputError(
            f"{where}: image {fields.short(value)} leads up: expected a file name, or a path"
            " without '..'"
        )
    unfit = not value.isprintable() or '"' in value or len(stem) > 200
    if unfit or not stem or stem.startswith("."):
        raise InputError(
            f"{where}: image {fields.short(value)} names no file: expected a file's name or path"
        )
    is_absolute = text.startswith("/")
    if not is_absolute and not _DRIVE.match(text):
        return ImagePath(parts, None)
    found = _below("/" + "/".join(parts), roots) if is_absolute else None
    if found is None:
        raise InputError(
            f"{where}: image {fields.short(value)} is not a path below"
            f" {' or '.join(map(str, roots))}: expected a file name, or a path from a folder of"
            " data.raw_dir or below it"
        )
    return found


def find(image: ImagePath, images: ImageIndex, roots: Sequence[Path]) -> Path | None:
    """The file, if it is there: a name is looked for in all folders, a path in its place only."""
    if any(is_hidden(part) for part in image.parts):
        return None
    if len(image.parts) == 1 and image.root is None:
        return images.find(image.stem, image.parts[0])
    name = image.parts[-1]
    named = [name] if split_ending(name)[1] in IMAGE_ENDINGS else []
    for root in roots if image.root is None else (image.root,):
        folder = os.sep.join((str(root), *image.parts[:-1]))
        for tried in (*named, *(image.stem + ending for ending in _TRIED)):
            path = f"{folder}{os.sep}{tried}"
            if os.path.isfile(path):
                return Path(path)
    return None


def _below(text: str, roots: Sequence[Path]) -> ImagePath | None:
    """The absolute path as one from the first of `roots` that holds it, links followed or not.

    The file itself may be a link to anywhere.
    """
    folder, name = os.path.split(text)
    for root in roots:
        for top, path in (
            (os.path.abspath(root), folder),
            (os.path.realpath(root), os.path.realpath(folder)),
        ):
            if Path(path).is_relative_to(top):
                return ImagePath((*Path(path).relative_to(top).parts, name), root)
    return None


def _without_ending(name: str) -> str:
    stem, ending = split_ending(name)
    return stem if ending in _ENDINGS else name
