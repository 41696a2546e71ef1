"""A data set that a model is tested on and was not trained on: published files, or prepared."""

import functools
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from ml_collections import ConfigDict

from skinjax.config import default_config, nearest
from skinjax.data import duplicates, image_store, images, labels, sources, threads
from skinjax.data.prepared import MANIFEST, PreparedDataset, open_prepared
from skinjax.data.preprocess import Preprocess
from skinjax.data.records import Reading, Record
from skinjax.data.sources import isic2019_test
from skinjax.data.sources.folders import Folder, split_raw_dir, walk
from skinjax.errors import InputError
from skinjax.predict.outputs import Prepared, Runner

_ISIC2019_TEST = "isic2019_test"  # is for testing alone: no run can be trained on it
_DATASETS = (
    *("csv", "folder", "ham10000", "ham10000_binary", "isic2018", "isic2019"),
    *(_ISIC2019_TEST, "isic9"),
)
# The tables that tell the published layouts apart, in lower case.
_TABLES = {
    "isic2018_task3_training_groundtruth.csv": "isic2018",
    "isic2018_task3_validation_groundtruth.csv": "isic2018",
    "isic2018_task3_test_groundtruth.csv": "isic2018",
    "isic_2019_training_groundtruth.csv": "isic2019",
    "isic_2019_test_groundtruth.csv": _ISIC2019_TEST,
    "ham10000_metadata.csv": "ham10000",
    "ham10000_metadata": "ham10000",
    "ham10000_metadata.tab": "ham10000",
}


@dataclass(frozen=True)
class ExternalData:
    """What is known of each image, and how to get at them.

    Attributes:
      dataset: the published layout, or what a prepared data set was made from.
      classes: in the order of the data set.
      rows: one per image: image_id, lesion_id, age, sex, site, source, label (a class's name).
      notes: what was passed over, a line each.
      hashes: perceptual hash of each of some rows, given by their places; '' where there is none.
      prepared: the images of some rows as the network takes them, in constant memory.
    """

    dataset: str
    classes: tuple[str, ...]
    rows: list[dict[str, Any]]
    notes: tuple[str, ...]
    hashes: Callable[[Sequence[int]], list[str]]
    prepared: Callable[[Runner, Sequence[int]], Iterable[Prepared]]


def read(data: str, dataset: str, run: ConfigDict, preprocess: Preprocess) -> ExternalData:
    """Reads a data set; opens no image yet.

    Where it has a published test split (ISIC 2018, folders called Test), that is what is read.

    Args:
      data: the folder with the published files (several joined with os.pathsep), or that of
        a prepared data set.
      dataset: the layout, as in `config.data.dataset`, or "isic2019_test", the challenge's own
        test set; '' is to be told by the files.
      run: `config.data` of the model's run; its columns and classes are used for its own layout.
      preprocess: of the model.

    Raises:
      InputError: no such folder, a layout that can't be told, whatever its reader finds wrong, or
        a data set that was prepared otherwise than the model needs.
    """
    _check(data, dataset)
    if not dataset and _is_prepared(data):
        return _of_prepared(open_prepared(Path(data)), preprocess)
    config = default_config()
    config.data.dataset = dataset or _recognised(data)
    config.data.raw_dir = data
    if config.data.dataset == run.dataset:
        for name in ("classes", "columns", "table"):
            config.data[name] = run[name]
    reading = _read(config)
    records = [record for record in reading.records if record.split == "test"]
    notes = []
    if records and len(records) < len(reading.records):
        others = len(reading.records) - len(records)
        notes.append(f"{others} images of its published training or validation are passed over")
    records = records or list(reading.records)
    if reading.left_out:
        first = reading.left_out[0]
        notes.append(
            f"{len(reading.left_out)} rows give no image; the first is {first.image_id}:"
            f" {first.reason}"
        )
    return ExternalData(
        dataset=config.data.dataset,
        classes=reading.classes,
        rows=[_row(record, reading.classes[record.label]) for record in records],
        notes=tuple(notes),
        hashes=functools.partial(_hashes_of_files, [record.path for record in records]),
        prepared=functools.partial(_prepared_files, records),
    )


def _check(data: str, dataset: str) -> None:
    """Refuses flags that no reader can follow, before one speaks of a config."""
    if dataset == "synthetic":
        raise InputError("--dataset=synthetic has no files: give the folder that they lie in")
    if dataset and dataset not in _DATASETS:
        raise InputError(
            f"--dataset={dataset} is none of {', '.join(_DATASETS)}{nearest(dataset, _DATASETS)}"
        )
    names = [data] if Path(data).is_dir() else [name for name in data.split(os.pathsep) if name]
    for name in names or [data]:
        if not name or not Path(name).is_dir():
            raise InputError(
                f"no folder {name or 'in --data='}: give --data the folder of the published files"
                f" or of a prepared data set, or several joined with {os.pathsep!r}"
            )


def _read(config: ConfigDict) -> Reading:
    """Reads published files; an error speaks of the flags that were given."""
    try:
        if config.data.dataset == _ISIC2019_TEST:
            return isic2019_test.read(config.data.raw_dir)
        return sources.read(config)
    except InputError as error:
        said = str(error).replace("data.raw_dir", "--data").replace("data.dataset", "--dataset")
        raise InputError(said) from None


def _row(record: Record, label: str) -> dict[str, Any]:
    names = ("image_id", "lesion_id", "age", "sex", "site", "source")
    return {**{name: getattr(record, name) for name in names}, "label": label}


def _hashes_of_files(paths: Sequence[Path], places: Sequence[int]) -> list[str]:
    return list(threads.map_in_order(_hash, [paths[place] for place in places], chunk_size=8))


def _hash(path: Path) -> str:
    try:
        return duplicates.perceptual_hash(images.decode(path))
    except (InputError, OSError, cv2.error):
        return ""  # predicting it says why


def _prepared_files(
    records: Sequence[Record], runner: Runner, places: Sequence[int]
) -> Iterable[Prepared]:
    chosen = [records[place] for place in places]
    metadata = [{"age": one.age, "sex": one.sex, "site": one.site} for one in chosen]
    return runner.prepared([one.path for one in chosen], metadata)


def _is_prepared(data: str) -> bool:
    """As `open_prepared` looks for it."""
    return any(any(Path(data).glob("*/" * depth + MANIFEST)) for depth in range(4))


def _of_prepared(prepared: PreparedDataset, preprocess: Preprocess) -> ExternalData:
    own = Preprocess.from_config(ConfigDict(prepared.settings)).settings()
    for name, value in preprocess.settings().items():
        if own[name] != value:
            raise InputError(
                f"{prepared.directory} was prepared with {name} {own[name]!r}, and the model needs"
                f" {value!r}: give the folder of the published files instead, or prepare it so"
            )
    names = [name for name, counts in prepared.counts.items() if sum(counts)]
    rows = [row for name in names for row in prepared.table(name)]
    return ExternalData(
        dataset=str(prepared.settings["dataset"]),
        classes=prepared.classes,
        rows=rows,
        notes=(),
        hashes=functools.partial(_hashes_of_store, prepared, rows),
        prepared=functools.partial(_prepared_images, prepared, names, rows),
    )


def _hashes_of_store(
    prepared: PreparedDataset, rows: Sequence[dict[str, Any]], places: Sequence[int]
) -> list[str]:
    facts = image_store.open_store(prepared.store).facts()
    hash_of = {one.image_id: one.perceptual_hash for one in facts}
    return [hash_of.get(rows[place]["image_id"], "") for place in places]


def _prepared_images(
    prepared: PreparedDataset,
    names: Sequence[str],
    rows: Sequence[dict[str, Any]],
    runner: Runner,
    places: Sequence[int],
) -> Generator[Prepared]:
    source = prepared.source(names)
    encoder = runner.model.encoder
    for place in places:
        metadata_M = None if encoder is None else encoder.encode([rows[place]])[0]
        yield Prepared(rows[place]["image_id"], source[place]["image"], metadata_M)


def _recognised(data: str) -> str:
    """The layout of the folders' files."""
    folders = walk(split_raw_dir(data))
    names = {name.casefold() for folder in folders for name in folder.names}
    found = sorted({dataset for table, dataset in _TABLES.items() if table in names})
    if len(found) > 1:
        raise InputError(
            f"{data} holds the tables of several data sets: say with --dataset which is meant, one"
            f" of {', '.join(found)}"
        )
    if found:
        return found[0]
    if _is_isic9(folders):
        return "isic9"
    if any(folder.parts and folder.images() for folder in folders):
        return "folder"
    where = " or ".join(data.split(os.pathsep))
    raise InputError(
        f"no known data set in {where}: expected a prepared data set ({MANIFEST}), the table of"
        " HAM10000, ISIC 2018 or ISIC 2019, or folders of classes with JPEG or PNG images"
    )


def _is_isic9(folders: Sequence[Folder]) -> bool:
    """Whether there are folders Train or Test, with folders of isic9's classes and no others."""
    inside = {
        " ".join(folder.parts[-1].replace("_", " ").lower().split())
        for folder in folders
        if len(folder.parts) > 1 and folder.parts[-2].lower() in ("train", "test")
    }
    return len(inside) > 1 and inside <= set(labels.ISIC9_CLASSES)
