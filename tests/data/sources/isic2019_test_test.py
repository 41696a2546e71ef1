"""Tests of reading ISIC 2019's official test set."""

from pathlib import Path

import pytest

from skinjax.data import labels
from skinjax.data.sources import isic2019_test
from skinjax.errors import InputError

TRUTH = """image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK,score_weight,validation_weight
ISIC_0000001,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0,1.0,0.0
ISIC_0000002,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0
ISIC_0000003,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,1.0,0.0
ISIC_0000004,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ISIC_2019_Test_GroundTruth.csv").write_text(TRUTH)
    (tmp_path / "ISIC_2019_Test_Metadata.csv").write_text(
        "image,age_approx,anatom_site_general,sex\nISIC_0000001,55,head/neck,male\n"
        "ISIC_0000002,,,\n"
    )
    (tmp_path / "ISIC_2019_Test_Input").mkdir()
    for name in ("ISIC_0000001", "ISIC_0000002", "ISIC_0000003"):
        (tmp_path / "ISIC_2019_Test_Input" / f"{name}.jpg").touch()
    return tmp_path


def test_images_are_read_but_for_the_unknown_class(folder):
    reading = isic2019_test.read(folder)
    assert reading.classes == labels.ISIC2019_CLASSES
    one, two = reading.records
    assert (one.image_id, reading.classes[one.label], one.split) == ("ISIC_0000001", "scc", "test")
    assert (one.age, one.sex, one.site, one.lesion_id) == (55, "male", "head/neck", "ISIC_0000001")
    assert (reading.classes[two.label], two.age, two.sex) == ("mel", None, "")
    assert {row.image_id: row.reason.split(":")[0] for row in reading.left_out} == {
        "ISIC_0000003": "class UNK",
        "ISIC_0000004": "no image file",
    }


def test_the_table_of_patients_may_be_missing_and_the_truth_may_not(folder):
    (folder / "ISIC_2019_Test_Metadata.csv").unlink()
    assert isic2019_test.read(folder).records[0].age is None
    (folder / "ISIC_2019_Test_GroundTruth.csv").unlink()
    with pytest.raises(InputError, match=r"no ISIC_2019_Test_GroundTruth\.csv"):
        isic2019_test.read(folder)


def test_wrong_tables_are_refused(folder):
    table = folder / "ISIC_2019_Test_Metadata.csv"
    table.write_text(table.read_text().replace("55", "old"))
    with pytest.raises(InputError, match="age 'old'"):
        isic2019_test.read(folder)
    table.write_text(table.read_text().replace("old", "55").replace("0002", "0001"))
    with pytest.raises(InputError, match="already on line"):
        isic2019_test.read(folder)
