"""What a folder already holds of a data set, remembered in it, so that nothing is done twice."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from absl import logging

from skinjax.download import transfer
from skinjax.download.catalog import File
from skinjax.errors import InputError

FOLDER = ".download"  # of the data set's folder: state and everything unfinished
_NAME = "state.json"


@dataclass
class Entry:
    """One published file that was had once, wherever from.

    `stored` is the name of the file in the data set's folder, "" if it is not kept there. `own`
    says that it was downloaded here and so may be deleted. `placed` says that the folder beside it
    is unpacked from it, perhaps not yet to the end; `whole`, to the end.
    """

    origin: str  # address or path
    size: int
    sha256: str
    stored: str
    own: bool
    placed: bool = False
    whole: bool = False


@dataclass
class State:
    """The entries by the names of the published files, and where they are kept."""

    out: Path
    dataset: str
    publisher: str = ""
    complete: bool = False
    entries: dict[str, Entry] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where parts, lists and the state itself are."""
        return self.out / FOLDER

    @property
    def has_begun(self) -> bool:
        """True if anything of the data set is in its folder."""
        return any(entry.stored or entry.placed for entry in self.entries.values())

    def is_placed(self, file: File) -> bool:
        """True if the folder of an archive is this command's."""
        entry = self.entries.get(file.name)
        return entry is not None and entry.placed

    def save(self) -> None:
        """Writes the state, whole or not at all."""
        values = {
            "dataset": self.dataset,
            "publisher": self.publisher,
            "complete": self.complete,
            "files": {name: asdict(entry) for name, entry in self.entries.items()},
        }
        _write(self.folder / _NAME, json.dumps(values, indent=1))

    def save_members(self, file: File, sizes: dict[str, int]) -> None:
        """Writes down what an archive was unpacked to."""
        _write(self.folder / f"{file.name}.files.json", json.dumps(sizes, indent=0))

    def members(self, file: File) -> dict[str, int]:
        """Size in bytes by path of what an archive was unpacked to."""
        sizes: dict[str, int] = _read(self.folder / f"{file.name}.files.json")
        return sizes

    def has(self, file: File) -> bool:
        """True if the file is there as it came: a table by its bytes, an archive unpacked."""
        entry = self.entries.get(file.name)
        if entry is None:
            return False
        if not file.is_archive:
            return self.has_stored(file)
        if not entry.whole:
            return False
        folder = self.out / file.folder
        sizes = self.members(file)
        lost = [path for path, size in sizes.items() if _size(folder / path) != size]
        if lost:
            logging.warning(
                "%s: %d of %d files are lost or changed, as %s",
                folder, len(lost), len(sizes), lost[0],
            )  # fmt: skip
        return not lost and bool(sizes)

    def has_stored(self, file: File) -> bool:
        """True if the file as downloaded is there, byte by byte."""
        entry = self.entries.get(file.name)
        if entry is None or not entry.stored:
            return False
        path = self.out / entry.stored
        if _size(path) == entry.size and transfer.digest(path).sha256 == entry.sha256:
            return True
        if path.exists():
            logging.warning("%s is not as it was when it was downloaded", path)
        return False


def read(out: Path, dataset: str) -> State:
    """Reads the state of a folder; an empty one where there is none.

    Raises:
      InputError: the folder is another data set's.
    """
    path = out / FOLDER / _NAME
    state = State(out, dataset)
    if not path.exists():
        return state
    values = _read(path)
    try:
        entries = {name: Entry(**entry) for name, entry in values["files"].items()}
        found = str(values["dataset"])
        state.publisher, state.complete = str(values["publisher"]), bool(values["complete"])
    except (KeyError, TypeError, AttributeError):
        logging.warning("%s can't be read: what is there is checked anew", path)
        return State(out, dataset)
    if found != dataset:
        raise InputError(
            f"{out} holds the data set {found}, and {dataset} was asked for: choose another --out"
        )
    state.entries = entries
    return state


def _read(path: Path) -> dict:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
