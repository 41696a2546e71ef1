import logging
from pathlib import Path

import pytest

from skinjax.data.records import Record
from skinjax.data.splits import split_file
from skinjax.errors import InputError

CLASSES = ("mel", "nv")
RECORDS = [
    Record(f"i{n}", Path(), n % 2, f"l{n}", age=None, sex="", site="", source="") for n in range(4)
]


def assign(tmp_path, content):
    path = tmp_path / "split.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return split_file.assign(path, RECORDS, CLASSES)


@pytest.mark.parametrize(
    "content",
    [
        "image_id,split\ni0,train\ni1,val\ni2,test\n",
        "\ufeffimage_id,split\r\ni0,train\r\n\r\ni1,val\r\ni2,test",
        "split\timage_id\ntrain\ti0\nval\ti1\ntest\ti2\n",
        'image_id,lesion_id,label,split\n"i0",x,mel, train\ni1,,nv,val\ni2,"l,2",mel,test\n',
        "i,image_id,split\n1,i2,test\n2,i1,val\n3,i0,train\n",
    ],
)
def test_reads_the_split_whatever_the_order_and_other_columns(tmp_path, content):
    split_N, left_out = assign(tmp_path, content)
    assert list(split_N) == ["train", "val", "test", ""]
    assert [(row.image_id, row.reason) for row in left_out] == [("i3", "not in the split file")]


def test_reads_what_was_written(tmp_path):
    path = tmp_path / "split.csv"
    ids = [record.image_id for record in RECORDS]
    split_file.write_split_csv(path, ids, ["l"] * 4, ["mel", "nv"] * 2, ["val", "train"] * 2)
    split_N, left_out = split_file.assign(path, RECORDS, CLASSES)
    assert (list(split_N), left_out) == (["val", "train"] * 2, [])


def test_warns_once_of_ids_that_are_nowhere(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="absl"):
        assign(tmp_path, "image_id,split\ni0,train\nx8,val\nx9,test\n")
    assert len(caplog.messages) == 1
    assert "2 of its 3 image ids are not in the data set" in caplog.text
    assert "e.g. x8" in caplog.text


def test_does_not_warn_of_a_file_that_fits(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="absl"):
        assign(tmp_path, "image_id,split\ni0,train\n")
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "is empty: expected one row"),
        ("image_id,split\n", "is empty: expected one row"),
        ("image,split\ni0,train\n", r"no column image_id; it has image, split"),
        ("image_id,fold\ni0,1\n", "has no column split"),
        ("image_id,split,split\ni0,train,val\n", "column split more than once"),
        ("image_id,split\ni0,train\ni1,training\n", r"csv, line 3: image 'i1' has split 'train"),
        ("image_id,split\ni0,\n", "line 2: image 'i0' has split ''"),
        ("image_id,split\n\ni0,train\ni0,train\n", "line 4: image 'i0' is already on line 3"),
        ("image_id,split\n,train\n", "line 2: no image_id"),
        ("image_id,split\ni0,train,x\n", "line 2: expected 2 values"),
        ("image_id,split\ni0\n", "line 2: expected 2 values"),
        ('image_id,split\n"i0,train\ni1,val\n', "line 2: unexpected end of data"),
        ('image_id,split\n"i0\n",train\n', "line 2: a value goes on in the next line"),
        ('image_id,split\n"i0"x,train\n', "line 2: .* expected every quote"),
        ("image_id,label,split\ni0,mel,train\ni1,mel,val\n", "line 3: image i1 has label 'mel'"),
        ("image_id,split\nISIC_1,train\n", "none of its 1 image ids.*'ISIC_1', the data set 'i0'"),
        ("image_id,split\ni0,tr\u00e4in\n".encode("latin-1"), "not a table in UTF-8"),
        ("image_id,split\ni0,train\n".encode("utf-16"), "not a table in UTF-8"),
        (b"image_id,split\n" + b"\0" * 200_000, "line 2: "),
        ("image_id,split\n" + "i" * 200_000 + ",train\n", "line 2: field larger"),
    ],
)  # fmt: skip
def test_refuses_in_one_line(tmp_path, content, match):
    with pytest.raises(InputError, match=match) as error:
        assign(tmp_path, content)
    assert "\n" not in str(error.value)
    assert "split.csv" in str(error.value)


def test_refuses_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"no\.csv can't be read: No such file"):
        split_file.assign(tmp_path / "no.csv", RECORDS, CLASSES)
    with pytest.raises(InputError, match="can't be read: Is a directory"):
        split_file.assign(tmp_path, RECORDS, CLASSES)


def test_writes_the_split(tmp_path):
    path = tmp_path / "s.csv"
    split_file.write_split_csv(path, ["i1", "i2"], ["l", "l"], ["nv", "mel"], ["val"] * 2)
    assert path.read_text() == "image_id,lesion_id,label,split\ni1,l,nv,val\ni2,l,mel,val\n"
