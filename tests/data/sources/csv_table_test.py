import os

import pytest

from skinjax.config import default_config
from skinjax.data.records import LeftOut, Record
from skinjax.data.sources import csv_table
from skinjax.errors import InputError


@pytest.fixture
def read(tmp_path, make_files, write_table):
    """Reads a table of these lines beside the images p1/A.jpg, p2/B.png and C.jpeg."""
    make_files("p1/A.jpg", "p2/B.png", "C.jpeg")

    def of(*lines, classes=(), table="t.csv", raw_dir=tmp_path, **columns):
        if lines:
            write_table("t.csv", *lines)
        settings = default_config().data.columns
        settings.update(columns)
        return csv_table.read(raw_dir, table, settings, classes)

    return of


def test_reads_the_columns_that_are_named(read, tmp_path):
    reading = read(
        "Bild;dx;L;P;Alter;W;Ort;S",
        "A.jpg;nevus;L1;P1;40;f;back;Training",
        "B;mel;;;;;nan;VAL",
        image="Bild", label="dx", lesion="L", patient="P", age="Alter", sex="W", site="Ort",
        split="S",
    )  # fmt: skip
    assert reading.classes == ("mel", "nevus")
    assert reading.tables == (tmp_path / "t.csv",)
    assert reading.records == (
        Record("A", tmp_path / "p1/A.jpg", 1, "L1", 40.0, "f", "back", "csv", "P1", "train"),
        Record("B", tmp_path / "p2/B.png", 0, "B", None, "", "", "csv", "", "val"),
    )


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("A", "p1/A.jpg"),
        ("A.jpg", "p1/A.jpg"),
        ("A.tif", "p1/A.jpg"),
        ("p1/A.jpg", "p1/A.jpg"),
        ("p1\\A.jpg", "p1/A.jpg"),
        ("./p1/A", "p1/A.jpg"),
        ("p1/A.dcm", "p1/A.jpg"),
        ("p2/A", None),
        ("D", None),
        ("A.txt", None),
    ],
)
def test_finds_images_by_name_or_path(read, tmp_path, value, found):
    reading = read("image,label", "B,x", "C,y", f"{value},x")
    if found:
        assert reading.records[2].path == tmp_path / found
        assert reading.records[2].image_id == "A"
    else:
        assert [row.reason for row in reading.left_out] == ["no image file"]


def test_names_that_repeat_become_paths(read, tmp_path, make_files):
    make_files("case0/img0.jpg", "case1/img0.jpg", "case1/img1.jpg", "x/K.jpg", "x/K.png")
    reading = read(
        "image,label",
        "case0/img0.jpg,a", "case1\\img0.jpg,b", "case9/img0.jpg,b", "case1/img1.jpg,b",
        "x/K.jpg,a", "x/K.png,b",
    )  # fmt: skip
    assert {row.image_id: str(row.path.relative_to(tmp_path)) for row in reading.records} == {
        "case0_img0": "case0/img0.jpg",
        "case1_img0": "case1/img0.jpg",
        "img1": "case1/img1.jpg",
        "x_K": "x/K.jpg",
        "x_K.2": "x/K.png",
    }
    assert [reading.classes[row.label] for row in reading.records] == list("abbab")
    assert [row.lesion_id for row in reading.records] == [row.image_id for row in reading.records]
    assert reading.left_out == (LeftOut("case9_img0", "no image file"),)


def test_one_file_by_two_ways_is_a_repeat(read, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "p1")
    with pytest.raises(InputError, match="line 4: image 'link/A' is already on line 2"):
        read("image,label", "p1/A,a", "B,b", "link/A,a")


def test_lesions_counted_within_patients_get_the_patients_id(read, make_files, caplog):
    make_files("D.jpg", "E.jpg")
    lines = ["A,a,1,P0", "B,b,2,P0", "C,a,2,P1", "D,b,,P1", "E,b,3,"]
    columns = {"lesion": "l", "patient": "p"}
    reading = read("image,label,l,p", *lines, **columns)
    assert [row.lesion_id for row in reading.records] == ["P0_1", "P0_2", "P1_2", "D", "3"]
    assert [row.patient_id for row in reading.records] == ["P0", "P0", "P1", "P1", ""]
    (message,) = [record.getMessage() for record in caplog.records]
    assert "1 of 2 lesion ids stand under several patients (e.g. '2' on lines 3 and 4" in message


def test_lesions_of_one_patient_each_stay_as_they_are(read, caplog):
    columns = {"lesion": "l", "patient": "p"}
    reading = read("image,label,l,p", "A,a,1,P0", "B,b,1,P0", "C,a,1,", **columns)
    assert [row.lesion_id for row in reading.records] == ["1", "1", "1"]
    assert not caplog.records


def test_notes_of_several_lines_in_other_columns(read):
    reading = read("image,notes,label", 'A,"seen', "", 'twice, so far",a', "B,,b")
    assert [reading.classes[record.label] for record in reading.records] == ["a", "b"]


def test_a_path_is_tried_in_every_folder_given(read, tmp_path, make_files, write_table):
    make_files("one/x/A.jpg", "two/x/B.jpg", "two/x/A.jpg")
    raw_dir = f"{tmp_path / 'one'}{os.pathsep}{tmp_path / 'two'}"
    table = write_table("t.csv", "image,label", "x/A.jpg,a", "x/B.jpg,b")
    reading = read(raw_dir=raw_dir, table=str(table))
    assert [record.path.parts[-3] for record in reading.records] == ["one", "two"]


def test_the_table_is_looked_for_in_the_folder_and_here(read, tmp_path, monkeypatch, write_table):
    write_table("here/other.csv", "image,label", "A,a", "B,b")
    monkeypatch.chdir(tmp_path / "here")
    assert len(read(table="other.csv").records) == 2
    with pytest.raises(InputError, match=r"no table none\.csv"):
        read(table="none.csv")
    with pytest.raises(InputError, match=r"data\.table is empty"):
        read(table="")


@pytest.mark.parametrize("empty", ["", " ", "NaN", "nan", "N/A", "null"])
def test_rows_without_a_label_are_left_out(read, empty):
    reading = read("image,label", "A,a", f"B,{empty}", "C,b")
    assert reading.left_out == (LeftOut("B", "no label"),)
    assert [record.image_id for record in reading.records] == ["A", "C"]


def test_classes_give_the_order_and_may_be_called_null(read):
    reading = read("image,label", "A,null", "B,a", classes=("null", "b", "a"))
    assert reading.classes == ("null", "b", "a")
    assert [record.label for record in reading.records] == [0, 2]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("../A.jpg,a", "B,b"), r"line 2: image '\.\./A\.jpg' leads up"),
        (("/etc/A.jpg,a", "B,b"), r"line 2: image '/etc/A.jpg' is not a path below /.*: expected"),
        (("A,a", "p1/A.png,b"), "line 3: image 'p1/A.png' is already on line 2"),
        (("p1/A,a", "p1\\./A.jpg,b"), r"line 3: image .* is already on line 2"),
        (("D,a", "B,b", "D.png,a"), "line 4: image 'D.png' is already on line 2"),
        (("A,Nevus", "B,nevus"), "'Nevus' and 'nevus', which differ only in case"),
        (("A,a", "B,a"), r"has 1 class \('a'\)"),
        (("A,a", 'B, "b"'), "line 3: label '\"b\"' holds a quote"),
        (("A,", "B,nan"), r"has 0 classes"),
        (("X,a", "Y,b"), "none of the 2 images"),
    ],
)
def test_refuses_wrong_rows(read, lines, message):
    with pytest.raises(InputError, match=message) as error:
        read("image,label", *lines)
    assert len(str(error.value).splitlines()) == 1


def test_refuses_labels_that_are_no_class(read):
    with pytest.raises(
        InputError, match=r"line 3: label 'nevi' .*data.classes.*did you mean nevus"
    ):
        read("image,label", "A,mel", "B,nevi", classes=("mel", "nevus"))


def test_refuses_missing_columns(read):
    with pytest.raises(InputError, match=r"no column lesion; it has .*did you mean lesion_id"):
        read("image,label,lesion_id", "A,a,1", lesion="lesion")
    with pytest.raises(InputError, match=r"data\.columns\.label is empty"):
        read("image,label", "A,a", label="")


def test_refuses_splits_that_are_none_or_missing(read):
    with pytest.raises(InputError, match=r"line 3: split 'tset' is none.*did you mean test"):
        read("image,label,s", "A,a,train", "B,b,tset", split="s")
    with pytest.raises(InputError, match="a split on line 2 and none on line 3"):
        read("image,label,s", "A,a,train", "B,b,", split="s")
    assert read("image,label,s", "A,a,", "B,b,", split="s").records[0].split == ""


def test_refuses_a_missing_lesion_that_would_join_another(read):
    with pytest.raises(InputError, match="line 3: image B has no lesion id"):
        read("image,label,l", "A,a,B", "B,b,", lesion="l")


@pytest.mark.parametrize("classes", [(), ("mel", "melanosis", "nevus")])
def test_a_last_label_that_may_be_cut_short_is_refused(read, tmp_path, classes):
    text = "image,label\nA,melanosis\nB,nevus\nC,mel"
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match="ends with label 'mel', which may be 'melanosis' cut"):
        read(classes=classes)
    (tmp_path / "t.csv").write_text(text + "\n")
    assert len(read(classes=classes).records) == 3
    (tmp_path / "t.csv").write_text("image,label\nA,melanosis\nC,mel\nB,nevus")
    assert len(read(classes=classes).records) == 3
