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
    make_files("Train/a/1.jpg", "VALID/b/2.jpg", "validate/a/3.jpg", "Testing/b/4.jpg")
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
    with pytest.raises(InputError, match="has folder 'c' beside 'Testing'"):
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


@pytest.mark.parametrize("wrap", ["data/", "data/Data 2/"])
@pytest.mark.parametrize("split", ["", "Training/"])
def test_folders_around_all_images_are_gone_into(tmp_path, make_files, caplog, wrap, split):
    caplog.set_level("INFO")
    make_files(*(f"{wrap}{split}{name}" for name in ("a/1.jpg", "a/p1/2.jpg", "b/1.jpg")))
    make_files("docs/readme.txt", "data/readme.txt", ".download/x.unpacking/c/4.jpg")
    reading = class_folders.read(tmp_path, ())
    start = split.replace("/", "_")
    assert ids(reading) == {f"{start}a_1": "a", "2": "a", f"{start}b_1": "b"}
    assert {record.split for record in reading.records} == {"train" if split else ""}
    assert reading.left_out == ()
    assert "all images are in folder 'data'" in caplog.text


def test_folders_around_the_images_of_several_folders_must_share_a_name(tmp_path, make_files):
    make_files("one/data/a/1.jpg", "two/data/b/2.jpg", "three/a/p1/3.jpg", "four/b/p2/4.jpg")
    for first, second in (("one", "two"), ("three", "four")):
        reading = class_folders.read(f"{tmp_path / first}{os.pathsep}{tmp_path / second}", ())
        assert reading.classes == ("a", "b")


def test_a_class_alone_is_not_taken_for_a_folder_around(tmp_path, make_files):
    make_files("a/p1/1.jpg", "a/p2/2.jpg")
    with pytest.raises(InputError, match=r"no folder with images for class 'b'.*it has 'a'"):
        class_folders.read(tmp_path, ("a", "b"))


@pytest.mark.parametrize(
    ("files", "below"),
    [
        (["train_set/a/1.jpg", "train_set/b/2.jpg", "test_set/A/3.jpg", "test_set/B/4.jpg"], "a"),
        (["part_1/a/1.jpg", "part_2/a/x/2.jpg", "part_2/b/3.jpg"], "a"),
        (["train/part_1/a/1.jpg", "test/part_2/a/2.jpg"], "a"),
        (["data/a/1.jpg", "a/2.jpg", "b/3.jpg"], "a"),
        (["wrap/h1/a/1.jpg", "wrap/h2/a/2.jpg", "sample/3.jpg", "wrap2/h1/a/4.jpg"], "h1"),
    ],
)
def test_parts_and_splits_are_not_taken_for_classes(tmp_path, make_files, files, below):
    make_files(*files)
    message = f"has folder '{below}' both in .*call splits train, val and test"
    with pytest.raises(InputError, match=f"(?i){message}") as error:
        class_folders.read(tmp_path, ())
    assert len(str(error.value).splitlines()) == 1


def test_parts_of_several_folders_given_are_not_taken_for_classes(tmp_path, make_files):
    make_files("one/hospital_A/a/1.jpg", "two/hospital_B/a/2.jpg")
    with pytest.raises(InputError, match=r"'hospital_B' and in or as 'hospital_A'"):
        class_folders.read(f"{tmp_path / 'one'}{os.pathsep}{tmp_path / 'two'}", ())


def test_classes_with_the_same_folders_inside_may_be_named(tmp_path, make_files):
    make_files("a/p1/1.jpg", "b/p1/2.jpg", "b/b/3.jpg")
    assert ids(class_folders.read(tmp_path, ("a", "b"))) == {"1": "a", "2": "b", "3": "b"}
    with pytest.raises(InputError, match=r"name the classes in data\.classes"):
        class_folders.read(tmp_path, ())
    make_files("a/4.jpg")
    assert len(class_folders.read(tmp_path, ()).records) == 4


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], r"has 0 classes \(no image\)"),
        (["1.jpg"], r"has 0 classes"),
        (["data/1.jpg", "data/b/2.jpg"], r"has 1 class \('data'\): expected two"),
        (["data/a/1.jpg", "data/a/2.jpg"], r"has 1 class \('a'\): expected two"),
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
