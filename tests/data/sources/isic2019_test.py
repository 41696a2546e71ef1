import collections
import os
from pathlib import Path

import pytest

from skinjax.data import labels
from skinjax.data.records import LeftOut, Record
from skinjax.data.sources import isic2019
from skinjax.errors import InputError

REAL = Path(__file__).parents[4] / "shared" / "data"
TRUTH = "ISIC_2019_Training_GroundTruth.csv"
METADATA = "ISIC_2019_Training_Metadata.csv"
COLUMNS = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")


def one_hot(image_id, *ones):
    return ",".join([image_id, *("1.0" if name in ones else "0.0" for name in COLUMNS)])


@pytest.fixture
def write_truth(write_table):
    return lambda *rows: write_table(TRUTH, "image," + ",".join(COLUMNS), *rows)


@pytest.fixture
def raw(tmp_path, make_files, write_table, write_truth):
    """One image of each class, of which I_0_downsampled is melanoma and I_8 unknown."""
    ids = ["I_0_downsampled", *(f"I_{number}" for number in range(1, 9))]
    write_truth(*map(one_hot, ids, COLUMNS))
    write_table(
        METADATA,
        "image,age_approx,anatom_site_general,lesion_id,sex",
        "I_0_downsampled,55,anterior torso,BCN_1,female",
        *(f"{image_id},,,," for image_id in ids[1:]),
    )
    make_files(*(f"images/I_{number}.jpg" for number in range(9)))
    return tmp_path


def classes_of(reading):
    return {record.image_id: reading.classes[record.label] for record in reading.records}


def test_reads_the_published_layout(raw):
    reading = isic2019.read(raw, "keep")
    assert reading.classes == labels.ISIC2019_CLASSES
    assert list(classes_of(reading).values()) == [name.lower() for name in COLUMNS[:8]]
    assert reading.records[0] == Record(
        "I_0_downsampled", raw / "images" / "I_0.jpg",
        4, "BCN_1", 55.0, "female", "anterior torso", "ISIC2019",
    )  # fmt: skip
    assert [record.lesion_id for record in reading.records[1:]] == [f"I_{n}" for n in range(1, 8)]
    assert [path.name for path in reading.tables] == [TRUTH, METADATA]
    assert reading.left_out == (LeftOut("I_8", "class UNK: none of the known classes"),)


def test_scc_is_dropped_or_merged(raw):
    dropped = isic2019.read(raw, "drop")
    assert dropped.classes == ("ak", "bcc", "bkl", "df", "mel", "nv", "vasc")
    assert "I_7" not in classes_of(dropped)
    assert dropped.left_out[0] == LeftOut("I_7", "class SCC: left out by data.isic2019_scc")
    merged = isic2019.read(raw, "merge")
    assert merged.classes == labels.HAM10000_CLASSES
    assert classes_of(merged)["I_3"] == classes_of(merged)["I_7"] == "akiec"
    with pytest.raises(InputError, match=r"data\.isic2019_scc is 'mrge'.*did you mean merge"):
        isic2019.read(raw, "mrge")


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (one_hot("I_0"), "none"),
        (one_hot("I_0", "NV", "UNK"), "NV and UNK"),
        ("I_0,0.5,0.5,0,0,0,0,0,0,0", "none"),
        ("I_0,0.4,0.3,0.3,0,0,0,0,0,0", "none"),
        ("I_0,1,nan,0,0,0,0,0,0,0", "NV is 'nan'"),
        ("I_0,1,,0,0,0,0,0,0,0", "NV is ''"),
        ("I_0,1,0,0,0,0,0,0,0,one", "UNK is 'one'"),
        ("I_0,2,0,0,0,0,0,0,0,0", "MEL is '2'"),
        ("I_0,1,-1,0,0,0,0,0,0,0", "NV is '-1'"),
        ("I_0,inf,0,0,0,0,0,0,0,0", "MEL is 'inf'"),
    ],
)
def test_rows_of_no_one_class_are_listed(raw, write_truth, row, fault):
    write_truth(one_hot("I_1", "NV"), row, *(one_hot(f"I_{n}") for n in range(2, 9)))
    with pytest.raises(InputError) as error:
        isic2019.read(raw, "keep")
    assert f"8 rows are not of one class: I_0 (line 3: {fault}), I_2 (line 4: none)" in str(
        error.value
    )
    assert "and 3 more" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_dominant_class_counts(raw, write_truth):
    write_truth("I_0,0.9,0.1,0,0,0,0,0,0,0", "I_1,0,0.4,0,0,0,0,0.6,0,0")
    assert list(classes_of(isic2019.read(raw, "keep")).values()) == ["mel", "vasc"]


def test_metadata_that_does_not_fit_is_told(raw, write_table, caplog):
    header = "image,age_approx,anatom_site_general,lesion_id,sex"
    write_table(METADATA, header, "I_1,50,,BCN_9,male", "I_99,50,,BCN_9,male")
    records = isic2019.read(raw, "keep").records
    assert (records[0].lesion_id, records[0].age) == ("I_0_downsampled", None)
    assert records[1].lesion_id == "BCN_9"
    first, second = [record.getMessage() for record in caplog.records]
    assert first.startswith("8 images have no row in")
    assert second.startswith("1 rows of")
    write_table(METADATA, header, "I_1,50,,BCN_9,male", "I_1,50,,BCN_9,male")
    with pytest.raises(InputError, match="line 3: image id I_1 is already on line 2"):
        isic2019.read(raw, "keep")


def test_refuses_missing_tables_and_images(raw, make_files):
    for number in range(8):
        (raw / "images" / f"I_{number}.jpg").unlink()
    with pytest.raises(InputError, match=r"none of the 8 images .*unpack ISIC_2019_Training_Input"):
        isic2019.read(raw, "keep")
    (raw / METADATA).unlink()
    with pytest.raises(InputError, match=f"no {METADATA}"):
        isic2019.read(raw, "keep")


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data beside the repository")
@pytest.mark.parametrize(
    ("scc", "counts"),
    [
        ("keep", [129, 447, 818, 106, 687, 4574, 186, 141]),
        ("drop", [129, 447, 818, 106, 687, 4574, 141]),
        ("merge", [129 + 186, 447, 818, 106, 687, 4574, 141]),
    ],
)
def test_real_isic2019_over_three_folders(scc, counts):
    folders = [str(REAL / name) for name in ("isic2019", "ham10000", "isic9")]
    reading = isic2019.read(os.pathsep.join(folders), scc)
    labels_seen = collections.Counter(record.label for record in reading.records)
    assert [labels_seen[label] for label in range(len(reading.classes))] == counts
    assert len(reading.records) + len(reading.left_out) == 25331
    of_folder = collections.Counter(
        record.path.relative_to(REAL).parts[0] for record in reading.records
    )
    if scc == "keep":
        assert of_folder == {"ham10000": 5984, "isic9": 1104}
        assert sum(record.lesion_id == record.image_id for record in reading.records) == 447
        metadata = isic2019.read_metadata(REAL / "isic2019" / METADATA)
        assert sum(not row.lesion_id for row in metadata.values()) == 2084
