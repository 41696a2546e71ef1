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
        (("../A.jpg,a", "B,b"), r"line 2: image '\.\./A\.jpg' is not under data\.raw_dir"),
        (("p1/../p1/A.jpg,a", "B,b"), r"is not under data\.raw_dir"),
        (("/etc/A.jpg,a", "B,b"), r"is not under data\.raw_dir"),
        ((r"..\A.jpg,a", "B,b"), r"is not under data\.raw_dir"),
        ((r"C:\A.jpg,a", "B,b"), r"is not under data\.raw_dir"),
        (("C:A.jpg,a", "B,b"), r"is not under data\.raw_dir"),
        ((",a", "B,b"), "line 2: image '' is not under"),
        (("p1/,a", "B,b"), "names no file"),
        ((".A,a", "B,b"), "names no file"),
        (("A,a", "p2/A.png,b"), "line 3: image id A is already on line 2"),
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
