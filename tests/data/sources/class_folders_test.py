import os

import pytest

from skinjax.data.records import LeftOut
from skinjax.data.sources import class_folders
from skinjax.errors import InputError


def ids(reading):
    return {record.image_id: reading.classes[record.label] for record in reading.records}


def test_class_folders_with_folders_inside(tmp_path, make_files, caplog):
    make_files("b c/1.jpg", "a/p1/2.png", "a/p1/x/3.JPEG", "stray.jpg", "docs/readme.txt")
    reading = class_folders.read(tmp_path, ())
    assert reading.classes == ("a", "b c")
    assert ids(reading) == {"2": "a", "3": "a", "1": "b c"}
    assert {record.lesion_id for record in reading.records} == {"1", "2", "3"}
    assert {record.split for record in reading.records} == {""}
    assert reading.left_out == (LeftOut("stray", "in no class folder"),)
    assert reading.tables == ()
    assert "hold no image and are no class: 'docs'" in caplog.text


def test_files_that_share_a_name_are_called_by_their_paths(tmp_path, make_files):
    make_files(
        "one/a/p1/I.jpg", "one/a/p2/I.jpg", "one/b/I.jpg", "one/b/J.jpg",
        "one/a/K.jpg", "one/a/K.png", "one/b/a_p1_I.jpg", "two/b/I.jpg",
    )  # fmt: skip
    reading = class_folders.read(f"{tmp_path / 'one'}{os.pathsep}{tmp_path / 'two'}", ())
    assert {row.image_id: str(row.path.relative_to(tmp_path)) for row in reading.records} == {
        "a_p1_I.2": "one/a/p1/I.jpg",
        "a_p2_I": "one/a/p2/I.jpg",
        "b_I": "one/b/I.jpg",
        "J": "one/b/J.jpg",
        "a_K": "one/a/K.jpg",
        "a_K.2": "one/a/K.png",
        "a_p1_I": "one/b/a_p1_I.jpg",
        "b_I.2": "two/b/I.jpg",
    }  # fmt: skip


def test_folders_of_splits(tmp_path, make_files):
    make_files("Train/a/1.jpg", "VALID/b/2.jpg", "validation/a/3.jpg", "test/b/4.jpg")
    make_files("train.txt", "test/5.jpg", "test/b/deep/train/6.jpg")
    with pytest.raises(InputError, match="beside"):
        class_folders.read(tmp_path, ())  # test holds an image, so it would be a class
    (tmp_path / "test" / "5.jpg").unlink()
    reading = class_folders.read(tmp_path, ())
    assert {record.image_id: record.split for record in reading.records} == {
        "1": "train", "2": "val", "3": "val", "4": "test", "6": "test",
    }  # fmt: skip
    assert ids(reading) == {"1": "a", "2": "b", "3": "a", "4": "b", "6": "b"}
    make_files("c/7.jpg")
    with pytest.raises(InputError, match="has folder 'c' beside 'Train'"):
        class_folders.read(tmp_path, ())


def test_all_of_several_folders_have_splits_or_none(tmp_path, make_files):
    make_files("one/train/a/1.jpg", "one/train/b/2.jpg", "two/a/3.jpg")
    with pytest.raises(InputError, match="lies in the folder of a split and"):
        class_folders.read(f"{tmp_path / 'one'}{os.pathsep}{tmp_path / 'two'}", ())


def test_classes_give_the_order_and_are_checked(tmp_path, make_files):
    make_files("b/1.jpg", "a/2.jpg", "c/readme.txt")
    reading = class_folders.read(tmp_path, ("b", "a"))
    assert reading.classes == ("b", "a")
    assert ids(reading) == {"1": "b", "2": "a"}
    for classes, message in (
        (("a", "bb"), "has class 'b', which is not in data.classes.*did you mean bb"),
        (("a", "b", "c"), "no folder with images for class 'c'"),
        (("a", "b", "a"), "data.classes has 'a' more than once"),
    ):
        with pytest.raises(InputError, match=message):
            class_folders.read(tmp_path, classes)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], r"has 0 classes \(no image\)"),
        (["1.jpg"], r"has 0 classes"),
        (["data/a/1.jpg", "data/b/2.jpg"], r"has 1 class \('data'\): expected two"),
        (["a/1.jpg", "A/2.jpg"], "'A' and 'a', which differ only in case"),
        (["a/1.jpg", "b/2\n.jpg"], "signs that can't be printed"),
        (["a/1.jpg", "b\n/2.jpg"], "signs that can't be printed"),
        (["a/1.jpg", "b/2\udcff.jpg"], "signs that can't be printed"),
    ],
)
def test_refuses_in_one_line(tmp_path, make_files, files, message):
    make_files(*files)
    with pytest.raises(InputError, match=message) as error:
        class_folders.read(tmp_path, ())
    assert len(str(error.value).splitlines()) == 1
