import pytest

from skinjax.data.labels import HAM10000_CLASSES
from skinjax.data.records import LeftOut, Record
from skinjax.data.sources import isic2018
from skinjax.errors import InputError

HEADER = "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC"
MEL, NV, VASC = "1.0,0,0,0,0,0,0", "0,1.0,0,0,0,0,0", "0,0,0,0,0,0,1.0"
TRAIN = "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv"
VAL = "ISIC2018_Task3_Validation_GroundTruth.csv"
TEST = "a/ISIC2018_Task3_Test_GroundTruth.csv"
LESIONS = "ISIC2018_Task3_Training_LesionGroupings.csv"


@pytest.fixture
def published(make_files, write_table):
    write_table(TRAIN, HEADER, f"I_1,{MEL}", f"I_2,{MEL}", f"I_3,{NV}")
    write_table(VAL, HEADER, f"I_4,{VASC}")
    write_table(TEST, HEADER, f"I_5,{NV}", f"I_6,{NV}")
    write_table(
        LESIONS,
        "image,lesion_id,diagnosis_confirm_type",
        "I_1,HAM_1,histo",
        "I_2,HAM_1,histo",
        "I_3,,follow_up",
    )
    for name in ("Training_Input/I_1", "Training_Input/I_2", "Training_Input/I_3"):
        make_files(f"ISIC2018_Task3_{name}.jpg", f"A/{name}.jpg")
    make_files("Validation/I_4.jpg", "Test/I_5.jpg")


def test_reads_three_sets_with_their_splits_and_lesions(tmp_path, published):
    reading = isic2018.read(tmp_path)
    assert reading.classes == HAM10000_CLASSES
    assert [
        (row.image_id, reading.classes[row.label], row.lesion_id, row.split)
        for row in reading.records
    ] == [
        ("I_1", "mel", "HAM_1", "train"),
        ("I_2", "mel", "HAM_1", "train"),
        ("I_3", "nv", "I_3", "train"),
        ("I_4", "vasc", "I_4", "val"),
        ("I_5", "nv", "I_5", "test"),
    ]  # fmt: skip
    assert reading.left_out == (LeftOut("I_6", "no image file"),)
    assert [path.name for path in reading.tables] == [
        TRAIN.split("/")[1], VAL, TEST.split("/")[1], LESIONS,
    ]  # fmt: skip
    assert reading.records[0] == Record(
        "I_1", tmp_path / "ISIC2018_Task3_Training_Input" / "I_1.jpg",
        4, "HAM_1", None, "", "", "ISIC2018", "", "train",
    )  # fmt: skip


@pytest.mark.parametrize(("kept", "num_records"), [(TRAIN, 3), (VAL, 1), (TEST, 1)])
def test_any_set_may_be_absent(tmp_path, published, kept, num_records):
    for name in {TRAIN, VAL, TEST} - {kept}:
        (tmp_path / name).unlink()
    assert len(isic2018.read(tmp_path).records) == num_records


def test_refuses_what_leaks_or_is_missing(tmp_path, published, write_table):
    write_table(TEST, HEADER, f"I_1,{NV}")
    with pytest.raises(InputError, match=r"image I_1 stands in .*Training.* and in .*Test_"):
        isic2018.read(tmp_path)
    (tmp_path / LESIONS).unlink()
    with pytest.raises(InputError, match=f"no {LESIONS} beside"):
        isic2018.read(tmp_path)
    for name in (TRAIN, VAL, TEST):
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match=r"no ISIC2018_Task3_Training_GroundTruth.csv or ISIC2018"):
        isic2018.read(tmp_path)


def test_lesions_of_other_images_and_images_without_are_told(
    tmp_path, published, write_table, caplog
):
    write_table(LESIONS, "image,lesion_id", "I_1,HAM_1", "I_2,HAM_1", "I_9,HAM_9")
    isic2018.read(tmp_path)
    first, second = [record.getMessage() for record in caplog.records if "rows" in record.message
                     or "row in" in record.message]  # fmt: skip
    assert first.startswith("1 training images have no row")
    assert second.startswith("1 rows of")
