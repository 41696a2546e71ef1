"""Tests of the table of patient metadata for predicting."""

from pathlib import Path

import pytest

from skinjax.errors import InputError
from skinjax.predict.patient_table import PatientTable


def write(folder: Path, text: str) -> Path:
    (folder / "patients.csv").write_text(text)
    return folder / "patients.csv"


def test_names_with_and_without_ending_and_published_columns(tmp_path: Path) -> None:
    text = "image_id;age;sex;localization\nISIC_1;40;male;back\nx/ISIC_2.JPG;;unknown;\n"
    table = PatientTable(write(tmp_path, text))
    assert table.find(Path("a/ISIC_1.jpg")) == {"age": 40.0, "sex": "male", "site": "back"}
    assert table.find(Path("ISIC_2.png")) == {"age": None, "sex": "", "site": ""}
    assert table.find(Path("ISIC_3.jpg")) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,age\na,old\n", "line 2 has age 'old': expected a number"),
        ("name,age\na,40\n", "line 2: no image named in a column image or image_id or isic_id"),
        ("image,smoker\na,40\n", "has no age, sex or site"),
        ("image,age\na,40\na.jpg,41\n", "line 3: image 'a.jpg' is in an earlier row"),
        ("image,age\na,40,x\n", "line 2: expected 2 values"),
    ],
)
def test_wrong_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PatientTable(write(tmp_path, text))


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no table .*none.csv"):
        PatientTable(tmp_path / "none.csv")
