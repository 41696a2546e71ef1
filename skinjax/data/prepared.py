"""A prepared data set on disk: images by index, and a table of what is known of each."""

import csv
import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from skinjax.data import shards, splits
from skinjax.errors import InputError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class PreparedDataset:
    """A data set on disk, decoded, resized and split. `counts[split]` has one count per class."""

    directory: Path
    fingerprint: str
    classes: tuple[str, ...]
    image_size: int
    counts: dict[str, tuple[int, ...]]

    def source(self, names: Sequence[str]) -> "ImageSource":
        """Random access to the images of these splits, one after the other in the order given.

        Raises:
          InputError: an unknown split, or one named twice.
        """
        _check_splits(names)
        return ImageSource(self.directory, {name: sum(self.counts[name]) for name in names})

    def table(self, name: str) -> list[dict[str, Any]]:
        """What is known of each image of a split: one row per image, in `source((name,))`'s order.

        Keys: image_id, lesion_id, split, age (years, or None), sex, site, source, label (the
        class's name). Unknown text is ''.
        """
        _check_splits((name,))
        with (self.directory / "records.csv").open(newline="", encoding="utf-8") as file:
            rows = [dict(row) for row in csv.DictReader(file) if row["split"] == name]
        return [{**row, "age": float(row["age"]) if row["age"] else None} for row in rows]


class ImageSource:
    """Random access: `source[i]` is {'image': uint8 (S, S, 3) RGB, 'label': int32 scalar}.

    Can be pickled (Grain's worker processes) and read by several threads; the shards are opened at
    the first read.
    """

    def __init__(self, directory: Path, lengths: dict[str, int]):
        self._directory = directory
        self._lengths = lengths
        self._lock = threading.Lock()
        self._opened: Any = None

    def __len__(self) -> int:
        return sum(self._lengths.values())

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[dict[str, Any]]:
        wanted = [index.__index__() for index in indices]
        if not wanted:
            return []
        if min(wanted) < 0 or max(wanted) >= len(self):
            raise IndexError(f"indices from {min(wanted)} to {max(wanted)} of {len(self)} images")
        return [
            {"image": example["image"], "label": np.int32(example["label"])}
            for example in self._examples().__getitems__(wanted)
        ]

    def _examples(self) -> Any:
        with self._lock:
            if self._opened is None:
                names = [name for name, length in self._lengths.items() if length]
                self._opened = shards.open_splits(self._directory, names)
            return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {"directory": self._directory, "lengths": self._lengths}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def open_prepared(directory: Path) -> PreparedDataset:
    """Opens what `prepare` built, by its folder alone.

    Raises:
      InputError: no such folder, another format, or files that are missing or cut short.
    """
    directory = Path(directory)
    manifest = _read_manifest(directory)
    for name, size in manifest["files"].items():
        path = directory / name
        if not path.is_file() or path.stat().st_size != size:
            found = f"has {path.stat().st_size} bytes" if path.is_file() else "is missing"
            raise InputError(
                f"{path} {found}, expected {size} bytes: the prepared data set is not whole;"
                f" delete {directory} to build it anew"
            )
    return PreparedDataset(
        directory=directory,
        fingerprint=manifest["fingerprint"],
        classes=tuple(manifest["classes"]),
        image_size=manifest["image_size"],
        counts={name: tuple(counts) for name, counts in manifest["counts"].items()},
    )


def _read_manifest(directory: Path) -> dict[str, Any]:
    """What `prepare` noted of a data set, checked to be of this program's format.

    Raises:
      InputError: no folder or no manifest in it, or another format.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found = manifest["format_version"]
    except OSError:
        raise InputError(f"no prepared data set in {directory}: {path} cannot be read") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is broken: delete {directory} to build it anew") from None
    if found != FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {found}, expected {FORMAT_VERSION}: delete {directory} to"
            " build it anew"
        )
    return manifest


def _check_splits(names: Sequence[str]) -> None:
    wrong = [name for name in names if name not in splits.SPLITS]
    if wrong or len(set(names)) != len(names) or not names:
        raise InputError(
            f"splits {tuple(names)}: expected one or more of {', '.join(splits.SPLITS)}, each once"
        )
