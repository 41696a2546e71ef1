"""Readers, one per published layout: files and tables in, records out."""

import collections
import csv
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from absl import logging
from ml_collections import ConfigDict

from skinjax.data import labels, staging, synthetic
from skinjax.data.records import LeftOut, Reading, Record
from skinjax.errors import InputError

# Harvard Dataverse's download has no ending; its tab-separated form is called .tab.
_HAM10000_TABLES = ("HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab")
# dx_type is not read on purpose: how a diagnosis was made gives it away (follow_up is always nv).
_HAM10000_COLUMNS = ("lesion_id", "image_id", "dx", "age", "sex", "localization")
_HAM10000_IMAGES = "ham10000_images_part"  # how its folders' names start, in lower case
_MISSING = frozenset({"", "unknown", "nan", "na", "n/a", "none", "null"})
_IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png"})
_IMAGE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


def read(config: ConfigDict) -> Reading:
    """Reads the data set that `config.data.dataset` names; draws it first if it is synthetic.

    Raises:
      InputError: an unknown source, or whatever its reader finds wrong.
    """
    readers = {"ham10000": _read_published_ham10000, "synthetic": _read_synthetic}
    if config.data.dataset not in readers:
        raise InputError(
            f"data.dataset is {config.data.dataset!r}: expected one of {', '.join(sorted(readers))}"
        )
    return readers[config.data.dataset](config)


def read_ham10000(raw_dir: Path, source: str = "HAM10000") -> Reading:
    """Reads HAM10000 as published: one table and the images, in whatever folders under `raw_dir`.

    Tschandl, Rosendahl, Kittler, Sci. Data 5, 180161 (2018), doi:10.7910/DVN/DBW86T. Records come
    in the table's order. Rows without an image file are left out. `source` is what the records say
    where the table has no `dataset` column.

    Raises:
      InputError: no folder, table, column, row or image; a column twice, or quotes left open; or
        a row with an unknown class, a bad or repeated image id, or an age that is no number.
    """
    if not raw_dir.is_dir():
        raise InputError(
            f"no folder {raw_dir}: set data.raw_dir to the folder that holds"
            f" {_HAM10000_TABLES[0]} and the images"
        )
    table = _find_table(raw_dir)
    rows = _read_rows(table)
    images = _index_images(raw_dir)
    records: list[Record] = []
    left_out: list[LeftOut] = []
    first_line: dict[str, int] = {}
    for line, row in rows:
        record = _ham10000_record(row, f"{table}, line {line}", images, source)
        if record.image_id in first_line:
            raise InputError(
                f"{table}, line {line}: image id {record.image_id} is already on line"
                f" {first_line[record.image_id]}; every image must have one row"
            )
        first_line[record.image_id] = line
        if record.path.is_file():  # and not a link to a file that was never fetched
            records.append(record)
        else:
            left_out.append(LeftOut(record.image_id, "no image file"))
    if not records:
        raise InputError(
            f"none of the {len(rows)} images of {table} is under {raw_dir} (looked in every folder"
            f" for e.g. {rows[0][1]['image_id'].strip()}.jpg): unpack HAM10000_images_part_1 and"
            " _part_2 there"
        )
    return Reading(tuple(records), tuple(left_out), labels.HAM10000_CLASSES, (table,))


def _ham10000_record(
    row: dict[str, str], where: str, images: dict[str, Path], source: str
) -> Record:
    image_id, name = row["image_id"].strip(), row["dx"].strip()
    if not _IMAGE_ID.fullmatch(image_id):
        raise InputError(
            f"{where}: image id {image_id!r} is not a file name without its ending: expected"
            " letters, digits, _, - and . only, and no . in front"
        )
    if name not in labels.HAM10000_CLASSES:
        raise InputError(
            f"{where}: image {image_id} has the unknown class {name!r} (column dx): expected one"
            f" of {', '.join(labels.HAM10000_CLASSES)}"
        )
    return Record(
        image_id=image_id,
        path=images.get(image_id, Path()),
        label=labels.HAM10000_CLASSES.index(name),
        lesion_id=_known(row["lesion_id"]) or image_id,
        age=_age(row["age"], f"{where}: image {image_id}"),
        sex=_known(row["sex"]),
        site=_known(row["localization"]),
        source=(row.get("dataset") or "").strip() or source,
    )


def _known(text: str) -> str:
    text = text.strip()
    return "" if text.lower() in _MISSING else text


def _age(text: str, where: str) -> float | None:
    text = _known(text)
    if not text:
        return None
    try:
        age = float(text)
    except ValueError:
        age = math.nan
    if not 0 <= age < math.inf:
        raise InputError(f"{where} has age {text!r}: expected a number of years, or nothing")
    return age


def _find_table(raw_dir: Path) -> Path:
    for name in _HAM10000_TABLES:
        if (raw_dir / name).is_file():
            return raw_dir / name
    raise InputError(
        f"no {' or '.join(_HAM10000_TABLES)} in {raw_dir}: set data.raw_dir to the folder that"
        " holds it"
    )


def _read_rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    """Line number and columns of each row, every wanted column being there."""
    rows = []
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:  # -sig: a BOM is no column name
            lines = _read_lines(file, table)
            _, columns = next(lines, (0, []))
            _check_columns(columns, table)
            for line, values in lines:
                if len(values) != len(columns):
                    raise InputError(
                        f"{table}, line {line}: expected {len(columns)} values, as many as there"
                        f" are columns, and there are {len(values)}"
                    )
                rows.append((line, dict(zip(columns, values, strict=True))))
    except UnicodeDecodeError as error:
        raise InputError(f"{table} is not a table in UTF-8: {error}") from None
    if not rows:
        raise InputError(f"{table} is empty: expected one row per image")
    return rows


def _read_lines(file: TextIO, table: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and values of each line that isn't blank, the header being the first.

    A quote left open takes in all that follows up to the next quote, and with it whole rows: so no
    value may go on in the next line.
    """
    header = file.readline()
    file.seek(0)
    reader = csv.reader(file, delimiter="\t" if "\t" in header else ",", strict=True)
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{table}, line {line}: {error}; expected every quote to be closed"
            ) from None
        if values is None:
            return
        if any("\n" in value or "\r" in value for value in values):
            raise InputError(
                f"{table}, line {line}: a value goes on in the next line; expected every quote to"
                " be closed in its line"
            )
        if values:
            yield line, values


def _check_columns(columns: list[str], table: Path) -> None:
    missing = [name for name in _HAM10000_COLUMNS if name not in columns]
    if missing and columns:
        raise InputError(f"{table} has no column {', '.join(missing)}; it has {', '.join(columns)}")
    repeated = [name for name, count in collections.Counter(columns).items() if count > 1]
    if repeated:
        raise InputError(
            f"{table} has column {', '.join(repeated)} more than once: expected it once, so that"
            " its values are clear"
        )


def _index_images(raw_dir: Path) -> dict[str, Path]:
    """Image files under `raw_dir` by name without ending, found in one walk.

    One name may stand in several folders (Kaggle's archive holds both parts twice): the folders as
    published come first, before any of resized copies, say, and then the first in sorted order, so
    that the choice doesn't depend on the file system.
    """
    found: dict[str, list[Path]] = collections.defaultdict(list)
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(raw_dir, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back up would never end
            subfolders.clear()
            continue
        seen.add(real)
        subfolders.sort()
        for name in sorted(names):
            stem, ending = os.path.splitext(name)
            if ending.lower() in _IMAGE_ENDINGS:
                found[stem].append(Path(folder, name))
    several = sum(len({path.parent for path in paths}) > 1 for paths in found.values())
    if several:
        logging.warning(
            "%d images stand in several folders under %s: taken from those called %s..., then"
            " from the first by name",
            several, raw_dir, _HAM10000_IMAGES,
        )  # fmt: skip
    return {stem: min(paths, key=_is_unpublished_folder) for stem, paths in found.items()}


def _is_unpublished_folder(image: Path) -> bool:
    return not image.parent.name.lower().startswith(_HAM10000_IMAGES)


def _read_published_ham10000(config: ConfigDict) -> Reading:
    if not config.data.raw_dir:
        raise InputError(
            "data.raw_dir is empty: set --config.data.raw_dir to the folder that holds"
            f" {_HAM10000_TABLES[0]} and the images, or --config.data.dataset=synthetic"
        )
    return read_ham10000(Path(config.data.raw_dir))


def _read_synthetic(config: ConfigDict) -> Reading:
    """Draws the synthetic data set where it is not drawn yet, then reads it like HAM10000."""
    settings = dict(config.synthetic)
    if config.data.raw_dir:
        raw_dir = Path(config.data.raw_dir)
    else:
        shown = "-".join(str(settings[name]) for name in ("num_lesions", "image_size", "seed"))
        name = f"synthetic_raw-v{synthetic.VERSION}-{shown}"
        raw_dir = Path(config.data.prepared_dir) / name
    staging.build_folder(raw_dir, lambda folder: synthetic.write(folder, **settings))
    # Returns at once from what it wrote with these settings, and refuses any folder not its own.
    synthetic.write(raw_dir, **settings)
    return read_ham10000(raw_dir, source="synthetic")
