import shutil
from pathlib import Path

import numpy as np
import pytest

from skinjax.data import splits
from skinjax.data.records import LeftOut, Record
from skinjax.data.sources import ham10000
from skinjax.errors import InputError

REAL = Path(__file__).parents[4] / "shared" / "data" / "ham10000"
HEADER = "lesion_id,image_id,dx,dx_type,age,sex,localization"


def write_table(raw_dir, *rows, header=HEADER, name="HAM10000_metadata.csv", prefix=""):
    (raw_dir / "HAM10000_metadata.csv").unlink(missing_ok=True)
    (raw_dir / name).write_text(prefix + "\n".join([header, *rows]) + "\n", encoding="utf-8")


def test_reads_the_published_layout(raw_dir):
    reading = ham10000.read(raw_dir)
    assert reading.left_out == ()
    assert reading.tables == (raw_dir / "HAM10000_metadata.csv",)
    assert len(reading.records) == 35
    assert reading.records[9] == Record(
        image_id="ISIC_0000009",
        path=raw_dir / "HAM10000_images_part_2" / "ISIC_0000009.jpg",
        label=reading.classes.index("bkl"),
        lesion_id="HAM_0000009",
        age=45.0,
        sex="female",
        site="back",
        source="HAM10000",
    )


def test_unknown_is_empty_and_a_lesion_without_id_is_its_own(raw_dir):
    write_table(
        raw_dir,
        ",ISIC_0000000,mel,histo,,unknown,unknown",
        ",ISIC_0000001,nv,histo,50,male,ear",
    )
    first, second = ham10000.read(raw_dir).records
    assert (first.age, first.sex, first.site) == (None, "", "")
    assert (first.lesion_id, second.lesion_id) == ("ISIC_0000000", "ISIC_0000001")


@pytest.mark.parametrize("missing", ["", " ", "nan", "NaN", "unknown", "None", "NA", "n/a", "null"])
def test_rows_with_a_missing_lesion_id_are_no_common_lesion(raw_dir, missing):
    rows = [f"{missing},ISIC_000000{n},nv,histo,50,male,ear" for n in range(3)]
    write_table(raw_dir, *rows)
    records = ham10000.read(raw_dir).records
    assert [record.lesion_id for record in records] == [record.image_id for record in records]


@pytest.mark.parametrize("name", ["HAM10000_metadata.csv", "HAM10000_metadata"])
@pytest.mark.parametrize("separator", [",", "\t"])
def test_reads_the_variants_of_the_table(raw_dir, name, separator):
    header = HEADER + ",dataset"
    row = "HAM_1,ISIC_0000000,mel,histo,80.0,male,ear,rosendahl"
    write_table(
        raw_dir,
        row.replace(",", separator),
        header=header.replace(",", separator),
        name=name,
        prefix="\ufeff",
    )
    (record,) = ham10000.read(raw_dir).records
    assert (record.lesion_id, record.age, record.source) == ("HAM_1", 80.0, "rosendahl")


def test_dx_type_is_not_wanted(raw_dir):
    write_table(
        raw_dir, "HAM_1,ISIC_0000000,mel,80,male,ear", header=HEADER.replace(",dx_type", "")
    )
    assert len(ham10000.read(raw_dir).records) == 1


def test_finds_images_in_any_folder_under_any_ending(raw_dir):
    moved = raw_dir / "a" / "b" / "ISIC_0000000.JPEG"
    moved.parent.mkdir(parents=True)
    (raw_dir / "HAM10000_images_part_1" / "ISIC_0000000.jpg").rename(moved)
    (raw_dir / "A").symlink_to(raw_dir)  # must not be followed round and round
    records = ham10000.read(raw_dir).records
    assert records[0].path == moved
    assert len(records) == 35


def test_of_several_files_the_published_folders_is_taken(raw_dir, caplog):
    (raw_dir / "A").mkdir()
    for image in list(raw_dir.glob("*/ISIC_000000[01].jpg")):
        shutil.copy(image, raw_dir / "A")  # a crop or a thumbnail, say
    # Kaggle's archive holds every image twice.
    copy = raw_dir / "ham10000_images_part_2"
    shutil.copytree(raw_dir / "HAM10000_images_part_2", copy)
    (raw_dir / "A" / "ISIC_0000099.jpg").touch()
    (raw_dir / "A" / "ISIC_0000099.png").touch()
    with caplog.at_level("WARNING"):
        records = ham10000.read(raw_dir).records
    assert records[0].path.parent == raw_dir / "HAM10000_images_part_1"
    assert {record.path.parent for record in records[1::2]} == {raw_dir / "HAM10000_images_part_2"}
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("18 images stand in several folders")


def test_one_folder_in_any_case_is_preferred_to_an_earlier_one(raw_dir):
    (raw_dir / "HAM10000_images_part_1").rename(raw_dir / "ham10000_IMAGES_part_1")
    shutil.copytree(raw_dir / "ham10000_IMAGES_part_1", raw_dir / "A")
    assert ham10000.read(raw_dir).records[0].path.parent.name == "ham10000_IMAGES_part_1"


def test_rows_without_a_file_are_left_out(raw_dir):
    part_1 = raw_dir / "HAM10000_images_part_1"
    (part_1 / "ISIC_0000000.jpg").unlink()
    (part_1 / "ISIC_0000002.jpg").unlink()
    (part_1 / "ISIC_0000002.jpg").symlink_to("never-fetched.jpg")
    reading = ham10000.read(raw_dir)
    assert len(reading.records) == 33
    assert reading.left_out == (
        LeftOut("ISIC_0000000", "no image file"),
        LeftOut("ISIC_0000002", "no image file"),
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("H,ISIC_0000000,scc,histo,1,male,ear", "ISIC_0000000 has the unknown class 'scc'.*akiec"),
        ("H,../ISIC_0000000,nv,histo,1,male,ear", r"line 2: image id '\.\./ISIC_0000000'"),
        ("H,a/b,nv,histo,1,male,ear", "image id 'a/b'"),
        ("H,.hidden,nv,histo,1,male,ear", "image id '.hidden'"),
        ("H,,nv,histo,1,male,ear", "image id ''"),
        ("H,ISIC_0000000,nv,histo,old,male,ear", "ISIC_0000000 has age 'old'"),
        ("H,ISIC_0000000,nv,histo,-1,male,ear", "has age '-1'"),
        ("H,ISIC_0000000,nv,histo,inf,male,ear", "has age 'inf'"),
        ("H,ISIC_0000000,nv,histo", "line 2: expected 7 values"),
        ("H,ISIC_0000000,nv,histo,1,male,ear,more", "line 2: expected 7 values"),
        ("H,ISIC_9,nv,histo,1,male,ear", "none of the 1 images"),
    ],
)
def test_refuses_a_wrong_row(raw_dir, row, message):
    write_table(raw_dir, row)
    with pytest.raises(InputError, match=message) as error:
        ham10000.read(raw_dir)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        # An open quote takes in the rows up to the next quote, or all of them.
        (['"H,{0}', "H,{1}", "H,{2}"], "line 2: .*unexpected end of data.* quote"),
        (["H,{0}", 'H,{1},"a', "H,{2}", 'H,{3},b"'], "line 3: .* value goes on in the next line"),
        (["", "H,{0}", '"H\r",{1}'], "line 4: .* value goes on in the next line"),
        (["H,{0}", '"H"x,{1}'], "line 3: .*',' expected after '\"'"),
    ],
)
def test_refuses_a_quote_that_takes_in_other_rows(raw_dir, rows, message):
    rows = [row.format(*(f"ISIC_000000{n},nv,histo,1,male,ear" for n in range(4))) for row in rows]
    write_table(raw_dir, *rows)
    with pytest.raises(InputError, match=message) as error:
        ham10000.read(raw_dir)
    assert len(str(error.value).splitlines()) == 1


def test_reads_quoted_values_and_skips_blank_lines(raw_dir):
    write_table(raw_dir, "", '"H","ISIC_0000000","nv",histo,1,male,"ear, left"', "")
    (record,) = ham10000.read(raw_dir).records
    assert (record.lesion_id, record.site) == ("H", "ear, left")


@pytest.mark.parametrize("column", ["dx", "lesion_id", "dx_type"])
def test_refuses_a_table_with_a_column_twice(raw_dir, column):
    write_table(raw_dir, "H,ISIC_0000000,nv,histo,1,male,ear,mel", header=f"{HEADER},{column}")
    with pytest.raises(InputError, match=f"has column {column} more than once"):
        ham10000.read(raw_dir)


def test_refuses_a_repeated_image(raw_dir):
    row = "H,ISIC_0000000,nv,histo,1,male,ear"
    write_table(raw_dir, row, row)
    with pytest.raises(InputError, match="line 3: image id ISIC_0000000 is already on line 2"):
        ham10000.read(raw_dir)


@pytest.mark.parametrize("missing", ["lesion_id", "image_id", "dx", "age", "sex", "localization"])
def test_refuses_a_table_without_a_column(raw_dir, missing):
    columns = [name for name in HEADER.split(",") if name != missing]
    write_table(raw_dir, ",".join("1" for _ in columns), header=",".join(columns))
    seen = ", ".join(columns)
    with pytest.raises(InputError, match=f"has no column {missing}; it has {seen}"):
        ham10000.read(raw_dir)


@pytest.mark.parametrize("text", [b"", HEADER.encode(), HEADER.encode() + b"\n"])
def test_refuses_an_empty_table(raw_dir, text):
    (raw_dir / "HAM10000_metadata.csv").write_bytes(text)
    with pytest.raises(InputError, match="is empty"):
        ham10000.read(raw_dir)


def test_refuses_a_table_that_is_none(raw_dir):
    (raw_dir / "HAM10000_metadata.csv").write_bytes(b"PK\x03\x04\xff\xfe\n")
    with pytest.raises(InputError, match="is not a table in UTF-8"):
        ham10000.read(raw_dir)


def test_binary_counts_mel_bcc_and_akiec_as_malignant(raw_dir):
    seven, binary = ham10000.read(raw_dir), ham10000.read_binary(raw_dir)
    assert binary.classes == ("benign", "malignant")
    malignant = {"akiec", "bcc", "mel"}
    assert [record.label for record in binary.records] == [
        int(seven.classes[record.label] in malignant) for record in seven.records
    ]
    assert [record.path for record in binary.records] == [record.path for record in seven.records]


def test_refuses_a_missing_folder_and_a_missing_table(raw_dir):
    with pytest.raises(InputError, match=r"no folder .*nowhere: set data.raw_dir"):
        ham10000.read(raw_dir / "nowhere")
    (raw_dir / "HAM10000_metadata.csv").unlink()
    with pytest.raises(InputError, match=r"no HAM10000_metadata.csv or HAM10000_metadata or"):
        ham10000.read(raw_dir)


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data/ham10000 beside the repository")
def test_real_ham10000_is_read_and_split():
    reading = ham10000.read(REAL)
    assert (len(reading.records), len(reading.left_out)) == (5984, 4031)
    label_N = np.array([record.label for record in reading.records])
    lesion_N = [record.lesion_id for record in reading.records]
    split_N = splits.grouped_split(label_N, lesion_N, (0.7, 0.15, 0.15), 0)
    splits.check_no_leak(lesion_N, split_N)
    counts_C = splits.class_counts(label_N[split_N == "train"], 7)
    np.testing.assert_array_equal(counts_C, [128, 185, 408, 42, 344, 3026, 56])
    assert {record.sex for record in reading.records} == {"", "female", "male"}
    assert sum(record.age is None for record in reading.records) > 0
