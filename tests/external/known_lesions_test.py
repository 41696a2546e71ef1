"""Tests of what is known of lesions in an external test, and of images in several rows."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from skinjax.config import default_config
from skinjax.external import known_lesions
from skinjax.external.data import ExternalData


def row(image_id: str, lesion_id: str = "", label: str = "nv") -> dict[str, Any]:
    return {"image_id": image_id, "lesion_id": lesion_id or image_id, "label": label}


def make_data(*rows: dict[str, Any], dataset: str = "isic9") -> ExternalData:
    return ExternalData(dataset, ("mel", "nv"), list(rows), (), lambda _: [], lambda *_: [])


def test_lesions_come_from_the_tables_of_the_run(tmp_path: Path) -> None:
    run = default_config().data
    data = make_data(
        row("ISIC_0000001"),
        row("ISIC_0000002_downsampled"),
        row("ISIC_0000002.2", "ISIC_0000002_downsampled"),
        row("ISIC_0000003", "BCN_0000009"),
        row("IMG_1"),
    )
    run.raw_dir = str(tmp_path / "moved")
    assert known_lesions.named(data, run) == data
    # Its images need not be there.
    (tmp_path / "HAM10000_metadata").write_text(
        "lesion_id,image_id\nHAM_1,ISIC_0000001\nHAM_3,ISIC_0000003\nHAM_9,IMG_1\n"
    )
    (tmp_path / "ISIC_2019_Training_Metadata.csv").write_text(
        "image,lesion_id\nISIC_0000002,MSK4_2\nISIC_0000001,\n"
    )
    run.raw_dir = str(tmp_path)
    named = known_lesions.named(data, run)
    assert [one["lesion_id"] for one in named.rows] == [
        *("HAM_1", "MSK4_2", "MSK4_2", "BCN_0000009", "IMG_1")
    ]
    assert data.rows[0]["lesion_id"] == "ISIC_0000001"  # what was read stays as it is
    (tmp_path / "HAM10000_metadata").write_text("no table\n")
    assert known_lesions.named(data, run) == data


def test_what_names_no_lesion_is_said_and_how_it_could() -> None:
    unknown, own = row("ISIC_0000001"), row("ISIC_0000002", "HAM_1")
    copy = row("ISIC_0000001.2", "ISIC_0000001")
    assert known_lesions.unchecked(make_data(own), True) == ""
    said = known_lesions.unchecked(make_data(unknown, copy), False)
    assert said.startswith("the data names none. ISIC 2019's metadata does: ")
    assert "ISIC_2019_Training_Metadata.csv, too, as --data=DATA:FOLDER" in said
    said = known_lesions.unchecked(make_data(unknown, own), False)
    assert said.startswith("1 of 2 images, of which the data names none. ISIC 2019's")
    joined = "1 of 2 images, of which the data names none"
    assert known_lesions.unchecked(make_data(unknown, own), True) == joined
    other = dataclasses.replace(make_data(unknown), dataset="folder")
    assert known_lesions.unchecked(other, False) == "the data names none"


def test_an_image_counts_once_and_one_with_two_labels_not_at_all() -> None:
    rows = [
        row("ISIC_0000001", label="mel"),
        row("ISIC_0000002", label="keratosis"),
        row("ISIC_0000003", label="nv"),
        row("ISIC_0000001.2", label="nv"),
        row("ISIC_0000002_downsampled", label="wart"),
        row("ISIC_0000003.2", label="unknown"),
        row("IMG_1", label="nv"),
        row("IMG_1.2", label="mel"),
    ]
    of = {"mel": 0, "nv": 1, "keratosis": 2, "wart": 2, "unknown": -1}
    label_N = [of[one["label"]] for one in rows]
    assert known_lesions.doubles(rows, label_N) == {
        0: "has two labels in the data: ISIC_0000001 is mel and nv",
        3: "has two labels in the data: ISIC_0000001 is mel and nv",
        4: "one more row of the same image: ISIC_0000002",
        2: "has two labels in the data: ISIC_0000003 is nv and unknown",
        5: "has two labels in the data: ISIC_0000003 is nv and unknown",
    }


@pytest.mark.parametrize("name", ["ISIC_1.2", "ISIC_1_downsampled", "ISIC_1_downsampled.3"])
def test_an_image_has_one_key_in_all_data_sets(name: str) -> None:
    assert known_lesions.key(name) == "ISIC_1"
    assert known_lesions.key(f"x{name}") == f"x{name}"
