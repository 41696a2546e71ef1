"""From a published data set to a prepared one on disk: read, split, decode, write, report."""

import collections
import csv
import errno
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from skinjax.data import fingerprints, shards, sources, splits, staging
from skinjax.data.prepared import FORMAT_VERSION, MANIFEST, PreparedDataset, open_prepared
from skinjax.data.records import LeftOut, Reading, Record
from skinjax.errors import InputError

_RECORD_COLUMNS = (
    'split', 'image_id', 'lesion_id', 'age', 'sex', 'site', 'source', 'label',
)  # fmt: skip


def prepare(config: ConfigDict) -> PreparedDataset:
    """Reads, splits, decodes and resizes the data set of `config.data`, unless that was done.

    The result lies in `<prepared_dir>/<source>/<fingerprint>`. The fingerprint covers the tables',
    the images' content and every setting that shapes the result, so whatever changes is built
    anew, beside what was there, and what doesn't is opened at once.

    Files that don't decode are left out after the split, so that one broken file doesn't move the
    others between train and test.

    Raises:
      InputError: anything wrong with the input (see `sources.read`, `splits.grouped_split`), a
        class without a training image, or with `config.data.strict` any row left out.
      OSError: among others a full disk; nothing is left behind then.
    """
    data = config.data
    reading, split_N = read_and_split(config)
    folder = Path(data.prepared_dir) / data.dataset
    settings = _settings(data, reading.classes)
    fingerprint = fingerprints.fingerprint(reading, settings, folder / "hashes.csv")
    directory = folder / fingerprint[:12]
    staging.build_folder(
        directory, lambda target: _build(target, config, reading, split_N, fingerprint)
    )
    return open_prepared(directory)


def read_and_split(config: ConfigDict) -> tuple[Reading, np.ndarray]:
    """Reads the records and lays them out over the splits; decodes nothing.

    Writes nothing either, but for the raw files of `synthetic`, which are drawn where they aren't
    there yet.

    Returns:
      The reading, and the name of the split of each of its records.

    Raises:
      InputError: as in `prepare`, but for images that don't decode.
    """
    data = config.data
    _check_config(data)
    reading = sources.read(config)
    logging.info("%d images, %d rows left out", len(reading.records), len(reading.left_out))
    if data.strict:
        _check_nothing_left_out(reading.left_out, len(reading.records))
    label_N = np.array([record.label for record in reading.records])
    lesion_N = [record.lesion_id for record in reading.records]
    split_N = splits.grouped_split(label_N, lesion_N, data.split, data.split_seed)
    splits.check_no_leak(lesion_N, split_N)
    splits.check_train_classes(label_N, split_N, reading.classes)
    return reading, split_N


def _build(
    directory: Path, config: ConfigDict, reading: Reading, split_N: np.ndarray, name: str
) -> None:
    """Fills `directory`, which gets its own name when everything is in it."""
    data = config.data
    _check_space(directory, len(reading.records), data)
    planned = {split: _of_split(reading.records, split_N, split) for split in splits.SPLITS}
    written, broken = shards.write(
        directory,
        planned,
        classes=reading.classes,
        image_size=data.image_size,
        encoding=data.encoding,
    )
    if data.strict:
        _check_nothing_left_out(broken, len(reading.records) - len(broken))
    for row in broken:
        logging.warning("left out %s: %s", row.image_id, row.reason)
    records = [record for split in written for record in written[split]]
    if not records:
        raise InputError(
            f"none of {len(reading.records)} images can be used; the first is"
            f" {broken[0].image_id}, which {broken[0].reason}"
        )
    split_of_record = [split for split in written for _ in written[split]]
    label_N = np.array([record.label for record in records])
    splits.check_train_classes(label_N, np.array(split_of_record), reading.classes)

    _write_tables(directory, records, split_of_record, reading.classes)
    counts = _counts(records, split_of_record, reading.classes)
    _write_json(directory / "split.json", _split_statistics(data, records, split_of_record, counts))
    _write_json(directory / "data_report.json", _data_report(data, counts, reading, broken))
    manifest = {
        **_settings(data, reading.classes),
        "fingerprint": name,
        "counts": {split: list(by_class.values()) for split, by_class in counts.items()},
        "files": {path.name: path.stat().st_size for path in sorted(directory.iterdir())},
    }
    _write_json(directory / MANIFEST, manifest)


def _of_split(records: Sequence[Record], split_N: np.ndarray, name: str) -> list[Record]:
    return [record for record, split in zip(records, split_N, strict=True) if split == name]


def _settings(data: ConfigDict, classes: Sequence[str]) -> dict[str, Any]:
    """Every setting that shapes the result."""
    return {
        "format_version": FORMAT_VERSION,
        "dataset": data.dataset,
        "classes": list(classes),
        "image_size": data.image_size,
        "encoding": data.encoding,
        "split": [float(fraction) for fraction in data.split],
        "split_seed": data.split_seed,
        "strict": data.strict,
    }


def _counts(
    records: Sequence[Record], split_of_record: Sequence[str], classes: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Images by split and class."""
    seen = collections.Counter(
        (split, record.label) for record, split in zip(records, split_of_record, strict=True)
    )
    return {
        split: {name: seen[split, label] for label, name in enumerate(classes)}
        for split in splits.SPLITS
    }


def _split_statistics(
    data: ConfigDict,
    records: Sequence[Record],
    split_of_record: Sequence[str],
    counts: dict[str, dict[str, int]],
) -> dict[str, Any]:
    lesions: dict[str, set[str]] = {split: set() for split in splits.SPLITS}
    for record, split in zip(records, split_of_record, strict=True):
        lesions[split].add(record.lesion_id)
    return {
        "fractions": [float(fraction) for fraction in data.split],
        "seed": data.split_seed,
        "images": {split: sum(by_class.values()) for split, by_class in counts.items()},
        "lesions": {split: len(of_split) for split, of_split in lesions.items()},
        "images_by_class": counts,
    }


def _data_report(
    data: ConfigDict,
    counts: dict[str, dict[str, int]],
    reading: Reading,
    broken: Sequence[LeftOut],
) -> dict[str, Any]:
    left_out = (*reading.left_out, *broken)
    # A reason may name a file; the kind of reason is what comes before the first colon.
    reasons = collections.Counter(row.reason.split(":")[0] for row in left_out)
    lesions = _lesions_with_several_classes(reading.records)
    if lesions:
        logging.warning(
            "%d lesions have images of several classes, e.g. %s", len(lesions), lesions[0]
        )
    return {
        "dataset": data.dataset,
        "images": sum(sum(by_class.values()) for by_class in counts.values()),
        "images_by_class": {
            name: sum(by_class[name] for by_class in counts.values()) for name in counts["train"]
        },
        "left_out": len(left_out),
        "left_out_by_reason": dict(sorted(reasons.items())),
        "left_out_rows": [{"image_id": row.image_id, "reason": row.reason} for row in left_out],
        "lesions_with_several_classes": {"count": len(lesions), "lesion_ids": lesions},
    }


def _lesions_with_several_classes(records: Sequence[Record]) -> list[str]:
    """Ids of the lesions with more than one diagnosis, of which one must be wrong; sorted."""
    labels: dict[str, set[int]] = collections.defaultdict(set)
    for record in records:
        labels[record.lesion_id].add(record.label)
    return sorted(lesion_id for lesion_id, of_lesion in labels.items() if len(of_lesion) > 1)


def _write_tables(
    directory: Path,
    records: Sequence[Record],
    split_of_record: Sequence[str],
    classes: Sequence[str],
) -> None:
    """`split.csv`, and `records.csv` in the order of the shards."""
    splits.write_split_csv(
        directory / "split.csv",
        [record.image_id for record in records],
        [record.lesion_id for record in records],
        [classes[record.label] for record in records],
        split_of_record,
    )
    with (directory / "records.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _RECORD_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for record, split in zip(records, split_of_record, strict=True):
            known = {name: getattr(record, name) for name in _RECORD_COLUMNS[1:-1]}
            writer.writerow({**known, "split": split, "label": classes[record.label]})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _check_config(data: ConfigDict) -> None:
    if data.encoding not in shards.ENCODINGS:
        raise InputError(
            f"data.encoding is {data.encoding!r}: expected one of {', '.join(shards.ENCODINGS)}"
        )
    if not 2 <= data.image_size <= 4096:
        raise InputError(f"data.image_size is {data.image_size}: expected 2 to 4096 pixels")
    if data.num_threads < 0:
        raise InputError(
            f"data.num_threads is {data.num_threads}: expected 0 (read in the caller's thread) or"
            " more"
        )
    if data.num_workers < 0:
        raise InputError(
            f"data.num_workers is {data.num_workers}: expected 0 (read in this process) or more"
        )
    if not data.prepared_dir:
        raise InputError("data.prepared_dir is empty: set it to a folder for prepared data sets")


def _check_nothing_left_out(left_out: Sequence[LeftOut], num_records: int) -> None:
    if left_out:
        raise InputError(
            f"{len(left_out)} rows give no image and {num_records} do, and data.strict is set; the"
            f" first is {left_out[0].image_id}: {left_out[0].reason}"
        )


def _check_space(directory: Path, num_images: int, data: ConfigDict) -> None:
    """Stops at the start where the disk is sure to fill up; PNG and JPEG sizes aren't known."""
    needed = num_images * data.image_size**2 * 3 if data.encoding == "raw" else 0
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"{num_images} images of {data.image_size} px take {needed / 1e9:.2f} GB and"
            f" {free / 1e9:.2f} GB are free in",
            os.fspath(directory.parent),
        )
