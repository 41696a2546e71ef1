"""A prepared data set on disk: images by index, and a table of what is known of each."""

import contextlib
import csv
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from skinjax.data import cache, image_store, pipeline, shards, splits
from skinjax.data.metadata import Encoder
from skinjax.data.rows import Rows
from skinjax.errors import InputError

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
RECORD_COLUMNS = (
    "split", "image_id", "lesion_id", "patient_id", "group", "age", "sex", "site", "source",
    "label", "height", "width", "mode", "position",
)  # fmt: skip


# What isn't text.
_TYPES: dict[str, Callable[[str], Any]] = {
    "age": lambda text: float(text) if text else None,
    "height": int,
    "width": int,
}
_CHUNK = 4096  # rows of metadata that are encoded at a time


@dataclass(frozen=True)
class PreparedDataset:
    """A data set on disk, decoded, resized and split.

    Attributes:
      directory: of the split and its tables; `store` is that of the images.
      fingerprint: of all that is in it.
      classes: names in the order of the labels.
      image_size: side of the square images, in pixels.
      counts: images of each class, by split.
      settings: the fields of `config.data` that it was prepared with.
    """

    directory: Path
    store: Path
    fingerprint: str
    classes: tuple[str, ...]
    image_size: int
    counts: dict[str, tuple[int, ...]]
    settings: dict[str, Any]

    def source(
        self, names: Sequence[str], *, cached: bool = False, encoder: Encoder | None = None
    ) -> "Subset | WithMetadata":
        """Random access to the images of these splits, one after the other in the order given.

        Args:
          names: of the splits.
          cached: read from a memory-mapped file of decoded images, which is made where it isn't.
          encoder: of the patient metadata that each record is to have; None is without.

        Raises:
          InputError: an unknown split, or one named twice.
        """
        images: Any = ImageSource(self.store)
        if cached:
            images = cache.cached(images, self.store / "decoded", self.image_size)
        subset = Subset(images, self._numbers(names, "position", int, np.int64))
        if encoder is None:
            return subset
        return WithMetadata(subset, self._encoded(names, encoder))

    def labels(self, names: Sequence[str]) -> np.ndarray:
        """Class of each image of `source(names)`: int32 (N,)."""
        index = {name: number for number, name in enumerate(self.classes)}
        return self._numbers(names, "label", index.__getitem__, np.int32)

    def table(self, *names: str, columns: Sequence[str] = RECORD_COLUMNS) -> Rows:
        """What is known of each image of these splits: one row per image, as `source(names)`'s.

        Of the columns image_id, lesion_id, patient_id, group (what is never parted), split, age
        (years, or None), sex, site, source, label (the class's name), height and width (pixels) and
        mode of the file as published, and position among the images of the store. Unknown text is
        ''.

        Raises:
          InputError: an unknown split, or one named twice.
        """
        # Of several splits each is read by itself, in their order, so that none is kept twice.
        _check_splits(names)
        return Rows(columns, (row for name in names for row in self._typed(name, columns)))

    def _numbers(
        self, names: Sequence[str], column: str, convert: Callable[[str], int], dtype: type
    ) -> np.ndarray:
        """A column of the splits as numbers: dtype (N,), with no more memory than that."""
        _check_splits(names)
        parts: list[np.ndarray] = [
            np.fromiter((convert(text) for (text,) in self._lines(name, (column,))), dtype)
            for name in names
        ]
        return np.concatenate(parts)

    def _encoded(self, names: Sequence[str], encoder: Encoder) -> np.ndarray:
        """The metadata of the splits: float32 (N, M)."""
        columns = [feature.name for feature in encoder.features]
        parts = [np.empty((0, len(encoder.names)), np.float32)]
        for name in names:
            values = self._typed(name, columns)
            while chunk := list(itertools.islice(values, _CHUNK)):
                parts.append(encoder.encode(Rows(columns, chunk)))
        return np.concatenate(parts)

    def _typed(self, name: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        convert = [_TYPES.get(column, str) for column in columns]
        for texts in self._lines(name, columns):
            yield tuple(of(text) for of, text in zip(convert, texts, strict=True))

    def _lines(self, name: str, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Some columns of a split's rows in `records.csv`."""
        with (self.directory / "records.csv").open(newline="", encoding="utf-8") as file:
            lines = csv.reader(file)
            header = next(lines, [])
            split, places = header.index("split"), [header.index(column) for column in columns]
            for line in lines:
                if line[split] == name:
                    yield tuple(line[place] for place in places)


class ImageSource:
    """Every image of a store: `source[i]` is {'image': uint8 (S, S, 3) RGB, 'label': int32 scalar}.

    Can be pickled (Grain's worker processes) and read by several threads; the shards are opened at
    the first read.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        self._lock = threading.Lock()
        self._opened: Any = None

    def __len__(self) -> int:
        return len(self._examples())

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[dict[str, Any]]:
        with self._explained():
            examples = self._examples().__getitems__([index.__index__() for index in indices])
        return [
            {"image": example["image"], "label": np.int32(example["label"])} for example in examples
        ]

    def load(self, indices: Sequence[int]) -> pipeline.Batch:
        """Image and label of these records; see `pipeline.BatchSource`."""
        with self._explained():
            return self._examples().load(indices)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Says what is wrong where the shards can't be read."""
        try:
            yield
        except (OSError, RuntimeError, ValueError) as error:  # TFDS's, ArrayRecord's, Riegeli's
            why = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise InputError(
                f"the prepared images in {self._directory} can't be read ({why}): the folder is"
                " gone or damaged since; restore it, or prepare it again with the same command"
            ) from error

    def _examples(self) -> Any:
        with self._lock:
            if self._opened is None:
                self._opened = shards.open_shards(self._directory)
            return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {"directory": self._directory}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


class Subset:
    """Some records of a source, in an order: `subset[i]` is `source[position_N[i]]`."""

    def __init__(self, source: Any, position_N: np.ndarray):
        self._source = source
        self._position_N = position_N

    def __len__(self) -> int:
        return len(self._position_N)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[dict[str, Any]]:
        wanted = [index.__index__() for index in indices]
        return self._source.__getitems__(self._positions(wanted)) if wanted else []

    def load(self, indices: Sequence[int]) -> pipeline.Batch:
        """These records in one array each; see `pipeline.BatchSource`."""
        return pipeline.load(self._source, self._positions(indices))

    def _positions(self, wanted: Sequence[int]) -> list[int]:
        if min(wanted) < 0 or max(wanted) >= len(self):
            raise IndexError(f"indices from {min(wanted)} to {max(wanted)} of {len(self)} images")
        positions: list[int] = self._position_N[wanted].tolist()
        return positions


class WithMetadata:
    """A source whose every record also has a row of numbers: 'metadata' float32 (M,)."""

    def __init__(self, source: Any, metadata_NM: np.ndarray):
        if len(source) != len(metadata_NM):
            raise ValueError(f"{len(source)} records and {len(metadata_NM)} rows of metadata")
        self._source = source
        self._metadata_NM = metadata_NM

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[dict[str, Any]]:
        wanted = [index.__index__() for index in indices]
        records = self._source.__getitems__(wanted)
        return [
            {**record, "metadata": self._metadata_NM[i]}
            for record, i in zip(records, wanted, strict=True)
        ]

    def load(self, indices: Sequence[int]) -> pipeline.Batch:
        """These records in one array each; see `pipeline.BatchSource`."""
        return pipeline.load(self._source, indices) | {"metadata": self._metadata_NM[indices]}


def open_prepared(directory: Path) -> PreparedDataset:
    """Opens what `prepare` built, by its folder alone.

    `directory` may also be a folder around it, as long as there is one data set in it only.

    Raises:
      InputError: no such folder, several data sets in it, another format, or files that are missing
        or cut short.
    """
    directory = _find(Path(directory))
    store = image_store.open_store(directory.parent)
    manifest = image_store.read_manifest(directory / MANIFEST, FORMAT_VERSION, delete=directory)
    return PreparedDataset(
        directory=directory,
        store=store.directory,
        fingerprint=manifest["fingerprint"],
        classes=tuple(manifest["classes"]),
        image_size=manifest["settings"]["image_size"],
        counts={name: tuple(counts) for name, counts in manifest["counts"].items()},
        settings=manifest["settings"],
    )


def _find(directory: Path) -> Path:
    """The folder with the manifest, at most three levels inside (data set, images, split)."""
    for depth in range(4):
        found = sorted(directory.glob("*/" * depth + MANIFEST))
        found = [path.parent for path in found if not path.parent.name.startswith(".")]
        if len(found) > 1:
            listed = ", ".join(str(path) for path in found)
            raise InputError(f"{directory} holds several prepared data sets, name one: {listed}")
        if found:
            return found[0]
    raise InputError(f"no prepared data set in {directory}: no {MANIFEST} in it or inside")


def _check_splits(names: Sequence[str]) -> None:
    wrong = [name for name in names if name not in splits.SPLITS]
    if wrong or len(set(names)) != len(names) or not names:
        raise InputError(
            f"splits {tuple(names)}: expected one or more of {', '.join(splits.SPLITS)}, each once"
        )
