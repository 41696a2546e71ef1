import collections
import os
from pathlib import Path

import pytest

from skinjax.data import labels
from skinjax.data.records import LeftOut
from skinjax.data.sources import isic9
from skinjax.errors import InputError

REAL = Path(__file__).parents[4] / "shared" / "data"
METADATA = "ISIC_2019_Training_Metadata.csv"


def ids(reading):
    return [(row.image_id, reading.classes[row.label], row.split) for row in reading.records]


def test_reads_train_and_test_one_level_deeper_in_any_spelling(tmp_path, make_files, caplog):
    make_files(
        "Skin cancer ISIC/Train/pigmented benign keratosis/I_1.jpg",
        "Skin cancer ISIC/Train/Basal_Cell_Carcinoma/deeper/I_2.JPG",
        "Skin cancer ISIC/TEST/nevus/I_3.jpg",
        "Skin cancer ISIC/Train/I_4.jpg",
    )
    reading = isic9.read(tmp_path)
    assert reading.classes == labels.ISIC9_CLASSES
    assert ids(reading) == [
        ("I_2", "basal cell carcinoma", "train"),
        ("I_3", "nevus", "test"),
        ("I_1", "pigmented benign keratosis", "train"),
    ]
    assert [record.lesion_id for record in reading.records] == ["I_2", "I_3", "I_1"]
    assert reading.left_out == (LeftOut("I_4", "in no class folder"),)
    assert reading.tables == ()
    assert f"no {METADATA} under data.raw_dir" in caplog.text


def test_copies_of_an_id_get_ids_of_their_own_and_one_lesion(tmp_path, make_files, caplog):
    make_files(
        "Train/nevus/I_1.jpg",
        "Train/melanoma/I_1.jpg",
        "Test/melanoma/I_1.jpg",
        "Train/nevus/I_1.2.jpg",  # an id that a copy must not take
    )
    reading = isic9.read(tmp_path)
    assert ids(reading) == [
        ("I_1", "melanoma", "test"),
        ("I_1.3", "melanoma", "train"),
        ("I_1.2", "nevus", "train"),
        ("I_1.4", "nevus", "train"),
    ]
    assert [record.lesion_id for record in reading.records] == ["I_1", "I_1", "I_1.2", "I_1"]
    assert "1 image ids stand in several folders, e.g. I_1 in test/melanoma and" in caplog.text


def test_lesions_come_from_isic2019_where_known(tmp_path, make_files, write_table, caplog):
    make_files(
        "Train/nevus/I_1.jpg", "Train/nevus/I_2_downsampled.jpg", "Train/melanoma/I_1.jpg",
        "Train/nevus/I_3.jpg",
    )  # fmt: skip
    table = write_table(
        f"other/{METADATA}",
        "image,age_approx,anatom_site_general,lesion_id,sex",
        "I_1_downsampled,30,back,BCN_1,male",
        "I_2,40,,BCN_1,female",
    )
    records = {row.image_id: row for row in isic9.read(tmp_path).records}
    assert {name: row.lesion_id for name, row in records.items()} == {
        "I_1": "BCN_1", "I_1.2": "BCN_1", "I_2_downsampled": "BCN_1", "I_3": "I_3",
    }  # fmt: skip
    assert (records["I_1"].age, records["I_1"].sex, records["I_1"].site) == (30, "male", "back")
    assert isic9.read(tmp_path).tables == (table,)
    assert "1 image ids have no row in" in caplog.text


def test_refuses_other_folders(tmp_path, make_files):
    with pytest.raises(InputError, match="no Train or Test folder"):
        isic9.read(tmp_path)
    make_files("Train/notes.txt")
    with pytest.raises(InputError, match="there is no image to use"):
        isic9.read(tmp_path)
    make_files("Train/melanomas/I_1.jpg")
    with pytest.raises(InputError, match=r"folder 'melanomas', .*did you mean melanoma") as error:
        isic9.read(tmp_path)
    assert "\n" not in str(error.value)


def test_of_several_train_folders_one_is_read(tmp_path, make_files, caplog):
    make_files("a/b/Train/nevus/I_1.jpg", "c/Train/nevus/I_2.jpg", "c/Train/nevus/Test/I_3.jpg")
    assert [row.image_id for row in isic9.read(tmp_path).records] == ["I_2", "I_3"]
    assert "2 folders are called train: read is" in caplog.text


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data beside the repository")
def test_real_isic9_has_137_ids_twice():
    alone = isic9.read(REAL / "isic9")
    counts = collections.Counter(alone.classes[record.label] for record in alone.records)
    assert [counts[name] for name in alone.classes] == [114, 378, 95, 438, 357, 462, 77, 181, 139]
    assert sum(record.image_id.endswith(".2") for record in alone.records) == 137
    reading = isic9.read(f"{REAL / 'isic9'}{os.pathsep}{REAL / 'isic2019'}")
    lesions = {record.image_id: record.lesion_id for record in reading.records}
    assert (len(lesions), len(set(lesions.values()))) == (2241, 1756)
    twice = [image_id for image_id in lesions if image_id.endswith(".2")]
    assert all(lesions[image_id] == lesions[image_id[:-2]] for image_id in twice)
    assert {record.split for record in reading.records} == {"train"}
