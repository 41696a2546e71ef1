"""Broken tables: each is read with the right label for every image it keeps, or is refused."""

import os
import re
import zlib

import numpy as np
import pytest

from skinjax.config import default_config
from skinjax.data import sources
from skinjax.errors import InputError

IDS = [f"ISIC_{number:07d}" for number in range(8)]
LABELS = ("mel", "nv", "bcc", "mel", "nv", "bcc", "vasc", "mel")
SPELLED = {"mel": "mel", "nv": "nevus", "bcc": "melanoma-like", "vasc": "Gefäß"}
FOLDERS = {"mel": "melanoma", "nv": "nevus", "bcc": "basal cell carcinoma",
           "vasc": "vascular lesion"}  # fmt: skip


def one_hot(columns, ids=IDS, names=LABELS):
    names = [name.upper() for name in names]
    rows = [
        [image_id, *("1.0" if column == name else "0.0" for column in columns.split(","))]
        for image_id, name in zip(ids, names, strict=True)
    ]
    return "image," + columns, rows


def table(header, row):
    return header, [[str(value) for value in row(*pair)] for pair in zip(IDS, LABELS, strict=True)]


HAM = table(
    "lesion_id,image_id,dx,dx_type,age,sex,localization",
    lambda image_id, name: (f"H{image_id[-1]}", image_id, name, "histo", 50, "male", "Gefäß"),
)
METADATA = table(
    "image,age_approx,anatom_site_general,lesion_id,sex",
    lambda image_id, _: (image_id, 45, "Rücken", f"BCN_{image_id[-1]}", "female"),
)
SEVEN, NINE = "MEL,NV,BCC,AKIEC,BKL,DF,VASC", "MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
# Data set: its tables.
LAYOUTS = {
    "ham10000": {"HAM10000_metadata.csv": HAM},
    "ham10000_binary": {"HAM10000_metadata.csv": HAM},
    "isic2018": {
        "ISIC2018_Task3_Training_GroundTruth.csv": one_hot(SEVEN, IDS[:4], LABELS[:4]),
        "ISIC2018_Task3_Test_GroundTruth.csv": one_hot(SEVEN, IDS[4:], LABELS[4:]),
        "ISIC2018_Task3_Training_LesionGroupings.csv": (
            "image,lesion_id,diagnosis_confirm_type",
            [[image_id, f"H{image_id[-1]}", "histo"] for image_id in IDS[:4]],
        ),
    },
    "isic2019": {
        "ISIC_2019_Training_GroundTruth.csv": one_hot(NINE),
        "ISIC_2019_Training_Metadata.csv": METADATA,
    },
    "isic9": {"ISIC_2019_Training_Metadata.csv": METADATA},
    "csv": {
        "t.csv": table(
            "image,lesion,age,split,label",
            lambda image_id, name: (f"{image_id}.jpg", f"L{image_id[-1]}", 9, "test", SPELLED[name])
        )
    },
}  # fmt: skip


def lines(header, rows, separator=",", end="\n"):
    return "".join(separator.join(row) + end for row in [header.split(","), *rows])


def text(header, rows):
    return lines(header, rows).encode()


def with_value(column, value):
    """Puts a value into a column (by number, or by a pattern on its name) of one row."""

    def mutate(header, rows, rng):
        names = header.split(",")
        found = [i for i, name in enumerate(names) if re.fullmatch(column, name)]
        if not found:
            return None
        row = rows[rng.integers(len(rows))]
        row[rng.choice(found)] = value
        return text(header, rows)

    return mutate


def with_header(change):
    return lambda header, rows, rng: text(change(header.split(","), rng), rows)


def renamed(names, rng):
    place = rng.integers(len(names))
    return ",".join([*names[:place], names[place] + "_1", *names[place + 1 :]])


def repeated_name(names, rng):
    return ",".join([*names[:-1], names[0]])


def without_column(header, rows, rng):
    names = header.split(",")
    place = rng.integers(len(names))
    return text(
        ",".join(names[:place] + names[place + 1 :]), [r[:place] + r[place + 1 :] for r in rows]
    )


def inserted(what):
    def mutate(header, rows, rng):
        data = text(header, rows)
        place = rng.integers(len(header) + 1, len(data))
        return data[:place] + what + data[place:]

    return mutate


def cut(header, rows, rng):
    data = text(header, rows)
    return data[: rng.integers(1, len(data))]


def cut_in_last_value(header, rows, rng):
    return text(header, rows)[: -rng.integers(2, len(rows[-1][-1].encode()) + 2)]


def changed_row(change):
    def mutate(header, rows, rng):
        place = rng.integers(len(rows))
        rows[place : place + 1] = change(rows[place])
        return text(header, rows)

    return mutate


def ones(how_many):
    def mutate(header, rows, rng):
        if "MEL" not in header:
            return None
        row = rows[rng.integers(len(rows))]
        row[1:] = ["1.0"] * how_many + ["0.0"] * (len(row) - 1 - how_many)
        return text(header, rows)

    return mutate


def encoded(encoding, prefix=""):
    return lambda header, rows, rng: (prefix + lines(header, rows)).encode(encoding)


def with_notes(notes, added=""):
    """Puts in a column that isn't read, anywhere, with these values in turn; and adds something."""

    def mutate(header, rows, rng):
        place = rng.integers(len(rows[0]) + 1)
        names = header.split(",")
        names.insert(place, "more")
        first = rng.integers(len(rows))
        for number, row in enumerate(rows):
            row.insert(place, notes[(first + number) % len(notes)])
        data = text(",".join(names), rows)
        at = rng.integers(len(",".join(names)) + 1, len(data))
        return data[:at] + added.encode() + data[at:]

    return mutate


READ, REFUSED, EITHER = "read", "refused", "either"
CLASS = "dx|label|MEL|NV|BCC|VASC"
MUTATIONS = {
    "unchanged": (encoded("utf-8"), READ),
    "bom": (encoded("utf-8", "\ufeff"), READ),
    "utf-16": (encoded("utf-16"), REFUSED),
    "utf-16-le": (encoded("utf-16-le"), REFUSED),
    "utf-32": (encoded("utf-32"), REFUSED),
    "latin-1": (encoded("latin-1"), EITHER),  # refused where there are umlauts
    "crlf": (lambda header, rows, rng: lines(header, rows, end="\r\n").encode(), READ),
    "cr": (lambda header, rows, rng: lines(header, rows, end="\r").encode(), READ),
    "semicolons": (lambda header, rows, rng: lines(header, rows, ";").encode(), READ),
    "tabs": (lambda header, rows, rng: lines(header, rows, "\t").encode(), READ),
    "bars": (lambda header, rows, rng: lines(header, rows, "|").encode(), REFUSED),
    "semicolons_in_a_row": (changed_row(lambda row: [[";".join(row)]]), REFUSED),
    "semicolons_in_the_header": (with_header(lambda names, _: ";".join(names)), REFUSED),
    "blank_lines": (changed_row(lambda row: [[""], row, [""]]), READ),
    "row_of_commas": (changed_row(lambda row: [row, [""] * len(row)]), REFUSED),
    "quoted": (changed_row(lambda row: [[f'"{value}"' for value in row]]), READ),
    "open_quote": (changed_row(lambda row: [['"' + row[0], *row[1:]]]), REFUSED),
    "open_quote_at_the_end": (changed_row(lambda row: [[*row[:-1], '"' + row[-1]]]), REFUSED),
    "quote_anywhere": (inserted(b'"'), EITHER),
    "quote_and_space": (changed_row(lambda row: [[f' "{value}"' for value in row]]), REFUSED),
    "zero_byte": (inserted(b"\0"), REFUSED),
    "line_end_anywhere": (inserted(b"\n"), EITHER),
    "comma_anywhere": (inserted(b","), REFUSED),
    "bad_byte": (inserted(b"\xff"), REFUSED),
    "huge_value": (inserted(b"9" * 200_000), REFUSED),
    "long_id": (with_value("image(_id)?", "I" * 5000), REFUSED),
    "renamed_column": (with_header(renamed), EITHER),
    "missing_column": (without_column, EITHER),
    "extra_column": (
        lambda header, rows, rng: text(header + ",more", [[*row, "x"] for row in rows]),
        READ,
    ),
    "notes_of_two_lines": (with_notes(['"one,\r\n\ntwo"']), READ),
    "open_note": (with_notes(['"one', "two", "three", "four"]), REFUSED),
    "open_and_closed_note": (with_notes(['"one', 'two"']), REFUSED),
    "notes_and_an_open_one": (with_notes(['"one\ntwo"', '"one\ntwo', '"one"', '""']), REFUSED),
    "notes_and_a_quote": (with_notes(['"one\ntwo"', "", '"\ntwo"'], added='"'), EITHER),
    "column_twice": (with_header(repeated_name), REFUSED),
    "no_header": (lambda header, rows, rng: text(",".join(rows[0]), rows[1:]), REFUSED),
    "value_more": (changed_row(lambda row: [[*row, "x"]]), REFUSED),
    "value_less": (changed_row(lambda row: [row[:-1]]), REFUSED),
    "row_twice": (changed_row(lambda row: [row, row]), REFUSED),
    "id_that_leads_up": (with_value("image(_id)?", "../ISIC_0000001"), REFUSED),
    "absolute_id": (with_value("image(_id)?", "/etc/passwd"), REFUSED),
    "no_id": (with_value("image(_id)?", ""), REFUSED),
    "id_of_another": (with_value("image(_id)?", IDS[0]), EITHER),
    "nan_label": (with_value(CLASS, "nan"), EITHER),
    "no_label": (with_value(CLASS, ""), EITHER),
    "label_in_words": (with_value(CLASS.replace("label|", ""), "one"), EITHER),
    "label_in_capitals": (with_value("dx|label", "MEL"), REFUSED),
    "age_in_words": (with_value("age.*", "fifty"), EITHER),
    "no_ones": (ones(0), REFUSED),
    "two_ones": (ones(2), REFUSED),
    "half_and_half": (with_value("MEL|NV|BCC|VASC", "0.5"), EITHER),
    "cut": (cut, EITHER),
    "cut_in_last_value": (cut_in_last_value, EITHER),
    "empty": (lambda header, rows, rng: b"", REFUSED),
    "header_only": (lambda header, rows, rng: text(header, []), REFUSED),
    "binary": (lambda header, rows, rng: rng.bytes(500), REFUSED),
}


@pytest.fixture
def config(tmp_path):
    """The whole and right data set of each layout, with images that nobody opens."""
    config = default_config()
    config.data.raw_dir = str(tmp_path)
    config.data.table = "t.csv"
    config.data.columns.update({"lesion": "lesion", "age": "age", "split": "split"})
    for image_id, name in zip(IDS, LABELS, strict=True):
        path = tmp_path / "Train" / FOLDERS[name] / f"{image_id}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return config


def truth(dataset):
    spelled = {
        "ham10000_binary": {"mel": "malignant", "bcc": "malignant", "nv": "benign",
                            "vasc": "benign"},
        "isic9": FOLDERS,
        "csv": SPELLED,
    }.get(dataset, {})  # fmt: skip
    return {image_id: spelled.get(name, name) for image_id, name in zip(IDS, LABELS, strict=True)}


def mutated(dataset, name, mutation, seed):
    """The table's bytes, or None where it has no column for the mutation."""
    header, rows = LAYOUTS[dataset][name]
    rng = np.random.default_rng([seed, zlib.crc32(f"{dataset} {name} {mutation}".encode())])
    return MUTATIONS[mutation][0](header, [list(row) for row in rows], rng)


CASES = [
    (dataset, name, mutation)
    for dataset, tables in LAYOUTS.items()
    for name in tables
    for mutation in MUTATIONS
    if mutated(dataset, name, mutation, 0) is not None
]


@pytest.mark.parametrize(("dataset", "name", "mutation"), CASES)
def test_is_read_right_or_refused(config, tmp_path, dataset, name, mutation):
    config.data.dataset = dataset
    for other, (header, rows) in LAYOUTS[dataset].items():
        (tmp_path / other).write_bytes(text(header, rows))
    expected = MUTATIONS[mutation][1]
    for seed in range(2):
        data = mutated(dataset, name, mutation, seed)
        (tmp_path / name).write_bytes(data)
        assert outcome(config, dataset, data, "note" in mutation) == expected or expected == EITHER


def outcome(config, dataset, data, keeps_all):
    try:
        reading = sources.read(config)
    except InputError as error:
        message = str(error)
        assert len(message.splitlines()) == 1, message
        assert message.isprintable(), message
        assert len(message) < 2000, message
        return REFUSED
    expected = truth(dataset)
    ids = [record.image_id for record in reading.records]
    assert len(set(ids)) == len(ids)
    assert len(ids) == len(IDS) or not keeps_all, data
    for record in reading.records:
        assert reading.classes[record.label] == expected[record.image_id], data
        assert os.path.splitext(record.path.name)[0] == record.image_id
    return READ
