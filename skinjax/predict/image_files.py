"""Image files as a user names them: files, folders with all inside, patterns."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import logging

from skinjax.data.sources.folders import (
    IMAGE_ENDINGS,
    OTHER_IMAGE_ENDINGS,
    is_hidden,
    split_ending,
)
from skinjax.errors import InputError

_ENDINGS = IMAGE_ENDINGS | OTHER_IMAGE_ENDINGS  # of the second a row says that they can't be read


def find(names: Sequence[str | Path]) -> Iterator[Path]:
    """Yields the files that `names` stand for, in their order and then by name; opens none.

    A file is taken whatever it is called. Of a folder all files in it and in the folders inside
    are, whose ending is that of an image; hidden ones are passed over. A pattern such as
    `scans/**/*.jpg` stands for what matches it. A file that two names stand for comes twice. Only
    the names in one folder, or those that match one pattern, are in memory at once.

    Raises:
      InputError: at once, where a name stands for nothing: no such file, or a folder without image.
    """
    wanted = [os.path.expanduser(str(name)) for name in names]
    if not wanted:
        raise InputError("no images given: name files, folders or patterns")
    for name in wanted:
        if next(_files(name), None) is not None:
            continue
        if os.path.isdir(name):
            endings = ", ".join(sorted(IMAGE_ENDINGS))
            raise InputError(f"no image in {name} or the folders inside: expected {endings}")
        what = "nothing matches" if glob.has_magic(name) else "there is no file or folder"
        raise InputError(f"{what} {name}: give images as files, folders or patterns in quotes")
    return (path for name in wanted for path in _files(name))


def _files(name: str) -> Iterator[Path]:
    if os.path.isdir(name):
        yield from _walk(Path(name))
    elif os.path.lexists(name):
        yield Path(name)
    elif glob.has_magic(name):
        seen: set[str] = set()
        for found in sorted(glob.iglob(name, recursive=True)):
            real = os.path.realpath(found)
            if real in seen:  # ** follows a link back up, over and over
                continue
            seen.add(real)
            # The pattern `scans/**` matches the folders as well as the files in them.
            if not os.path.isdir(found):
                yield Path(found)
            elif "**" not in name:
                yield from _walk(Path(found))


def _walk(folder: Path) -> Iterator[Path]:
    """Image files of a folder, then those of the folders inside; each folder once."""
    seen: set[str] = set()
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        real = os.path.realpath(path)
        if real in seen:  # a link back up would never end
            continue
        seen.add(real)
        try:
            with os.scandir(path) as scanned:
                entries = sorted((one.name, one.is_dir()) for one in scanned)
        except OSError as error:
            logging.warning("%s is passed over: %s", path, error.strerror)
            continue
        entries = [(name, is_folder) for name, is_folder in entries if not is_hidden(name)]
        for name, is_folder in entries:
            if not is_folder and split_ending(name)[1] in _ENDINGS:
                yield path / name
        waiting += [path / name for name, is_folder in reversed(entries) if is_folder]
