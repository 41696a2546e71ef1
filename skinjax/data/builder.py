"""From a published data set to a prepared one on disk: read, decode once, group, split, write."""

import csv
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from skinjax import config as config_lib
from skinjax import logs
from skinjax.data import (
    data_report,
    duplicates,
    fingerprints,
    groups,
    image_store,
    sampling,
    shards,
    sources,
    splits,
    staging,
)
from skinjax.data.prepared import (
    FORMAT_VERSION,
    MANIFEST,
    RECORD_COLUMNS,
    PreparedDataset,
    open_prepared,
)
from skinjax.data.preprocess import Preprocess
from skinjax.data.records import LeftOut, Reading, Record
from skinjax.data.rows import Rows
from skinjax.errors import InputError

# The fields of config.data that say nothing about the result: where things lie, and reading.
_NOT_SHAPING = (
    "raw_dir", "prepared_dir", "directory", "table", "split_file",
    "train_on", "balance", "cache", "on_device", "num_threads", "num_workers",
)  # fmt: skip


_FACTS = ("reason", "height", "width", "mode")  # of a file, that say whether and what is used


# What comes from data.directory even where the config has a value of its own.
_TAKEN_OVER = ("dataset", "encoding")


def prepare(
    config: ConfigDict, runner: image_store.Runner = image_store.on_this_machine
) -> PreparedDataset:
    """Reads, verifies, resizes and splits the data set of `config.data`, unless that was done.

    The images lie in `<prepared_dir>/<dataset>/<fingerprint>`, decoded once, and each way to split
    them in a folder inside, which only says what image is where: another split or another fold
    builds no image anew. The fingerprints cover the tables, the images' content and every setting
    that shapes the result, so whatever changes is built beside what was there, and what doesn't is
    opened at once. A run that was killed goes on where it was.

    Files that don't decode are left out after the split, so that one broken file doesn't move the
    others between train and test; so are the duplicates that `config.data.duplicates` drops.

    With `config.data.directory` it opens that folder and builds nothing.

    Raises:
      InputError: anything wrong with the input (see `sources.read`, `splits.from_config`), a
        class without a training image, or with `config.data.strict` any row left out.
      OSError: among others a full disk; the same call goes on from there.
    """
    data = config.data
    if data.directory:
        check(data)
        return _open_fitting(data)
    reading = read(config)
    records = reading.records
    # What is wrong with the split is said before the images are decoded, which may take hours.
    splits.from_config(records, _group_names(records), data, reading.classes)
    folder = Path(data.prepared_dir) / data.dataset
    digests = fingerprints.hash_images(records, folder / "hashes.csv")
    store = image_store.build(folder, records, digests, _spec(data, reading.classes), runner)
    content = {
        "format_version": FORMAT_VERSION,
        "images": store.fingerprint,
        "settings": settings(data),
        "records": (record_row(record) for record in records),
        "left_out": [(row.image_id, row.reason) for row in reading.left_out],
        "tables": [fingerprints.hash_file(path) for path in reading.tables],
        "split_file": data.split_file and fingerprints.hash_file(Path(data.split_file)),
    }
    name = fingerprints.combine(content)
    directory = store.directory / f"split-{name[:12]}"
    staging.build_folder(
        directory,
        lambda target: _build_split(target, data, reading, records, digests, store, name),
    )
    return open_prepared(directory)


def read(config: ConfigDict) -> Reading:
    """Checks `config.data` and reads the records; opens no image.

    Writes nothing, but for the raw files of `synthetic`, which are drawn where they aren't yet.

    Raises:
      InputError: as in `prepare`, but for what only the images can tell.
    """
    data = config.data
    check(data)
    reading = sources.read(config)
    logging.info("%d images, %d rows left out", len(reading.records), len(reading.left_out))
    if data.strict:
        _check_nothing_left_out(reading.left_out, len(reading.records))
    return reading


def planned_counts(config: ConfigDict) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """The classes, and images of each class by split, as far as can be told without the images.

    Raises:
      InputError: as `read`.
    """
    if config.data.directory:
        prepared = open_prepared(Path(config.data.directory))
        return prepared.classes, {name: np.array(n) for name, n in prepared.counts.items()}
    reading, split_N = _planned(config)
    label_N = np.array([record.label for record in reading.records])
    return reading.classes, {
        name: splits.class_counts(label_N[split_N == name], len(reading.classes))
        for name in splits.SPLITS
    }


def planned_metadata(config: ConfigDict, names: Sequence[str]) -> list[dict[str, Any]]:
    """Age, sex and site of each record of these splits, as `planned_counts` counts them.

    Raises:
      InputError: as `read`.
    """
    if config.data.directory:
        prepared = open_prepared(Path(config.data.directory))
        return [row for name in names for row in prepared.table(name)]
    reading, split_N = _planned(config)
    return [
        {"age": record.age, "sex": record.sex, "site": record.site}
        for record, split in zip(reading.records, split_N, strict=True)
        if split in names
    ]


def _planned(config: ConfigDict) -> tuple[Reading, np.ndarray]:
    """The records, and the split of each."""
    reading = read(config)
    group_N = _group_names(reading.records)
    return reading, splits.from_config(reading.records, group_N, config.data, reading.classes)[0]


def settings(data: ConfigDict) -> dict[str, Any]:
    """The fields of `config.data` that shape a prepared data set, as JSON can write them."""
    return {
        name: value for name, value in config_lib.plain(data).items() if name not in _NOT_SHAPING
    }


def settled(config: ConfigDict) -> ConfigDict:
    """The config with the settings of the prepared data set that `config.data.directory` names.

    So a run on a folder that `prepare` made says in its own config how the images came about.
    Without `directory` it is the config itself.

    Raises:
      InputError: the folder is no prepared data set, or the config asks for other settings.
    """
    if not config.data.directory:
        return config
    prepared = open_prepared(Path(config.data.directory))
    if config.data.split_file:
        raise InputError(
            f"data.split_file and data.directory are both set, and {prepared.directory} is split"
            " already: prepare with the file, and give the folder that it prints"
        )
    asked, default = settings(config.data), settings(config_lib.default_config().data)
    for name, value in asked.items():
        there = prepared.settings.get(name)
        if name not in _TAKEN_OVER and value not in (there, default[name]):
            raise InputError(
                f"data.{name} is {value!r}, and {prepared.directory} was prepared with {there!r}:"
                f" set --config.data.{name} to that, or prepare what is wanted"
            )
    taken = config_lib.with_fields(config, "data", prepared.settings)
    # Absolute, and the very data set: another may come to lie beside it.
    taken.data.directory = str(prepared.directory.resolve())
    return taken


def check(data: ConfigDict) -> None:
    """Checks the settings that need no data.

    Raises:
      InputError: naming the field, its value and what is allowed.
    """
    Preprocess.from_config(data)
    for name, choices in (("encoding", shards.ENCODINGS), ("duplicates", ("keep", "drop"))):
        if data[name] not in choices:
            raise InputError(f"data.{name} is {data[name]!r}: expected one of {', '.join(choices)}")
    for name, least, what in (
        ("min_side", 1, "pixels"),
        ("num_threads", 0, "threads (0 reads in the caller's)"),
        ("num_workers", 0, "processes (0 reads in this one)"),
    ):
        if data[name] < least:
            raise InputError(f"data.{name} is {data[name]}: expected {least} or more {what}")
    if data.split_file and not Path(data.split_file).is_file():
        raise InputError(
            f"data.split_file: there is no file {data.split_file} (what was prepared with it can"
            " still be opened by its folder: data.directory, or evaluate --data=DIR)"
        )
    sampling.check_balance(data.balance)
    if not data.prepared_dir:
        raise InputError("data.prepared_dir is empty: set it to a folder for prepared data sets")


def _open_fitting(data: ConfigDict) -> PreparedDataset:
    prepared = open_prepared(Path(data.directory))
    differing = [k for k, v in settings(data).items() if prepared.settings.get(k) != v]
    if differing:
        raise InputError(
            f"{prepared.directory} was prepared with another data.{differing[0]}"
            f" ({prepared.settings.get(differing[0])!r}, and {data[differing[0]]!r} is asked for):"
            " give the data set that fits, or take its settings over with builder.settled(config)"
        )
    return prepared


def _spec(data: ConfigDict, classes: tuple[str, ...]) -> shards.Spec:
    return shards.Spec(classes, Preprocess.from_config(data), data.encoding, data.min_side)


def _build_split(
    directory: Path,
    data: ConfigDict,
    reading: Reading,
    records: Sequence[Record],
    digests: Sequence[str],
    store: image_store.ImageStore,
    fingerprint: str,
) -> None:
    """Fills `directory`, which gets its own name when everything is in it."""
    # Each for itself: of many records, the hashes are most of what is known of their files.
    near = []
    if data.near_duplicates:
        near = duplicates.near([one.perceptual_hash for one in store.read_facts()])
    facts = Rows(_FACTS, ([getattr(one, name) for name in _FACTS] for one in store.read_facts()))
    reason_N = facts.column("reason")
    broken = [
        LeftOut(record.image_id, reason)
        for record, reason in zip(records, reason_N, strict=True)
        if reason
    ]
    for row in broken:
        logging.warning("left out %s: %s", row.image_id, row.reason)
    # Broken files are no copies of each other, though many are empty alike.
    digest_N = ["" if reason else of for reason, of in zip(reason_N, digests, strict=True)]
    copies = duplicates.exact(digest_N)
    group_N = _group_names(records, digest_N, near)
    split_N, unsplit = splits.from_config(records, group_N, data, reading.classes)
    if data.strict:
        _check_nothing_left_out([*broken, *unsplit], len(records) - len(broken) - len(unsplit))
    dropped = []
    if data.duplicates == "drop":
        # Among those that are used: the copy that a published split leaves out isn't the one kept.
        used = [[index for index in group if split_N[index]] for group in copies]
        dropped = duplicates.to_drop([group for group in used if len(group) > 1], records)
    # An image may be there for several reasons: the first counts.
    first_reasons = {row.image_id: row for row in reversed([*broken, *unsplit, *dropped])}
    left_out = [*reading.left_out, *reversed(first_reasons.values())]

    used_N = np.array([record.image_id not in first_reasons for record in records], dtype=bool)
    if not used_N.any():
        raise InputError(
            f"none of {len(records)} images is left; the first went because: {left_out[0].reason}"
        )
    position_N = np.cumsum([not reason for reason in reason_N]) - 1

    def row_of(index: int) -> dict[str, Any]:
        record = records[index]
        known = record_row(record) | {"label": reading.classes[record.label]}
        split = sys.intern(str(split_N[index]))  # NumPy gives a new one each time
        known |= {"split": split, "group": group_N[index]}
        return known | facts[index] | {"position": int(position_N[index])}

    # By split, and in each as the images lie in the store.
    order = [np.flatnonzero(used_N & (split_N == name)).tolist() for name in splits.SPLITS]
    rows = Rows(
        RECORD_COLUMNS,
        ([row[name] for name in RECORD_COLUMNS] for row in map(row_of, itertools.chain(*order))),
    )
    wanted = splits.wanted_fractions(records, data)
    _write_rows(directory, rows, reading.classes, wanted)
    report = data_report.compute(data, reading, rows, left_out, records, copies, near)
    data_report.log(report)
    logs.write_json(directory / "data_report.json", report)
    counts = data_report.counts(rows, reading.classes)
    content = {
        "fingerprint": fingerprint,
        "images": store.fingerprint,
        "classes": list(reading.classes),
        "counts": {split: list(by_class.values()) for split, by_class in counts.items()},
        "settings": settings(data),
    }
    image_store.write_manifest(directory / MANIFEST, FORMAT_VERSION, content)


def _write_rows(
    directory: Path,
    rows: Rows,
    classes: Sequence[str],
    wanted: Sequence[float] | None,
) -> None:
    """`records.csv`, `split.csv` and `split.json`."""
    with (directory / "records.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, RECORD_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    columns = {name: rows.column(name) for name in RECORD_COLUMNS}
    splits.write_split_csv(
        directory / "split.csv",
        *(columns[name] for name in ("image_id", "lesion_id", "label", "split")),
    )
    index = {name: number for number, name in enumerate(classes)}
    label_N = np.array([index[name] for name in columns["label"]])
    split_N = np.array(columns["split"])
    splits.check_no_leak(columns["group"], split_N)
    splits.check_train_classes(label_N, split_N, classes)
    statistics = splits.statistics(
        label_N, columns["group"], columns["lesion_id"], split_N, classes, wanted
    )
    splits.log_fractions(statistics)
    logs.write_json(directory / "split.json", statistics)


def record_row(record: Record) -> dict[str, Any]:
    """What is known of a record, but for where its file lies."""
    return {
        name: getattr(record, name)
        for name in (
            "image_id", "lesion_id", "patient_id", "age", "sex", "site", "source", "label", "split",
        )
    }  # fmt: skip


def _group_names(
    records: Sequence[Record],
    digests: Sequence[str] = (),
    near: Sequence[tuple[int, int]] = (),
) -> list[str]:
    """Group of each record: images of one lesion, one patient or one photograph are together."""
    columns = [
        [record.lesion_id for record in records],
        [record.patient_id for record in records],
        *([digests] if digests else []),
    ]
    group_N = groups.join(len(records), *columns, pairs=near)
    return groups.names(group_N, columns[0])


def _check_nothing_left_out(left_out: Sequence[LeftOut], num_records: int) -> None:
    if left_out:
        raise InputError(
            f"{len(left_out)} rows give no image and {num_records} do, and data.strict is set; the"
            f" first is {left_out[0].image_id}: {left_out[0].reason}"
        )
