import os
from pathlib import Path

import pytest

from skinjax.data.sources.folders import ImageIndex, split_raw_dir, walk
from skinjax.errors import InputError


def find(tmp_path, image_id, *roots, published="published", file_name=""):
    folders = walk([tmp_path / root for root in roots or ("",)])
    path = ImageIndex(folders, published).find(image_id, file_name)
    return str(path.relative_to(tmp_path)) if path else None


def test_raw_dir_is_one_folder_or_several(tmp_path, make_files):
    make_files("a/x.jpg", "b/x.jpg", "a:b/x.jpg")
    a, b = tmp_path / "a", tmp_path / "b"
    assert split_raw_dir(a) == (a,)
    assert split_raw_dir(f"{a}{os.pathsep}{os.pathsep}{b}") == (a, b)
    assert split_raw_dir(tmp_path / "a:b") == (tmp_path / "a:b",)
    with pytest.raises(InputError, match=r"no folder .*nowhere: set data\.raw_dir"):
        split_raw_dir(f"{a}{os.pathsep}{tmp_path / 'nowhere'}")
    for empty in ("", os.pathsep):
        with pytest.raises(InputError, match=r"data\.raw_dir is empty"):
            split_raw_dir(empty)


def test_of_several_files_the_first_folder_given_counts_then_the_published_name(
    tmp_path, make_files
):
    make_files("one/z/x.jpg", "two/PUBLISHED_1/x.jpg", "two/a/x.jpg", "two/b/y.jpg", "two/a/y.png")
    assert find(tmp_path, "x", "one", "two") == "one/z/x.jpg"
    assert find(tmp_path, "x", "two", "one") == "two/PUBLISHED_1/x.jpg"
    assert find(tmp_path, "y", "one", "two") == "two/a/y.png"
    assert find(tmp_path, "z", "one", "two") is None


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ("x", "x_downsampled.jpg"),
        ("x_downsampled", "x.jpg"),
        ("x_downsampled", "x_downsampled.jpg"),
    ],
)
def test_downsampled_is_stripped_on_both_sides(tmp_path, make_files, asked, there):
    make_files(there)
    assert find(tmp_path, asked) == there


def test_of_names_with_and_without_downsampled_the_exact_one_is_taken(tmp_path, make_files):
    make_files("a/x.jpg", "b/x_downsampled.jpg")
    assert find(tmp_path, "x") == "a/x.jpg"
    assert find(tmp_path, "x_downsampled") == "b/x_downsampled.jpg"


def test_a_file_name_tells_endings_apart(tmp_path, make_files):
    make_files("x.jpg", "x.PNG")
    assert find(tmp_path, "x", file_name="x.PNG") == "x.PNG"
    assert find(tmp_path, "x", file_name="x.jpg") == "x.jpg"


def test_hidden_files_and_macos_copies_are_passed_over(tmp_path, make_files, caplog):
    make_files("._x.jpg", "__MACOSX/x.jpg", ".hidden/x.jpg", "a/__MACOSX/._x.jpg", ".x.tif")
    make_files(".download/x.unpacking/a/x.jpg", "a/.download/x.jpg")
    assert find(tmp_path, "x") is None
    assert not caplog.records


def test_links_are_followed_once_and_after_the_folders(tmp_path, make_files):
    make_files("b/x.jpg", "elsewhere/y.jpg")
    (tmp_path / "b" / "a").symlink_to(tmp_path / "b")  # round and round
    (tmp_path / "b" / "self").symlink_to("self")
    (tmp_path / "b" / "gone.jpg").symlink_to("never-fetched.jpg")
    (tmp_path / "b" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "b" / "file.jpg").symlink_to(tmp_path / "elsewhere" / "y.jpg")
    (tmp_path / "A").symlink_to(tmp_path / "b")  # before the folder itself, by name
    assert find(tmp_path, "x") == "b/x.jpg"
    assert find(tmp_path, "y", "b") == "b/link/y.jpg"
    assert find(tmp_path, "file", "b") == "b/file.jpg"
    assert find(tmp_path, "gone") is None
    assert len(walk([tmp_path, tmp_path / "b"])) == 3


def test_other_types_of_images_are_counted(tmp_path, make_files, caplog):
    make_files("x.tif", "a/y.TIFF", "a/z.dcm", "a/w.jpg", "notes.txt")
    walk([tmp_path])
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("3 files are images of types that are not read (.dcm, .tif, .tiff)")
    assert "convert" in message


def test_a_folder_that_cannot_be_listed_is_told(tmp_path, make_files, caplog, monkeypatch):
    make_files("a/x.jpg", "b/y.jpg")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find(tmp_path, "y") == "b/y.jpg"
    assert "a can't be listed (Permission denied)" in caplog.text
