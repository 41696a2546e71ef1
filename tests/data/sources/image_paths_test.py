import pytest

from skinjax.data.sources import image_paths
from skinjax.data.sources.folders import ImageIndex, walk
from skinjax.errors import InputError


def find(value, *roots):
    image = image_paths.parse(value, roots, "t.csv, line 2")
    return image_paths.find(image, ImageIndex(walk(roots), published=""), roots)


def test_absolute_paths_below_a_folder_given(tmp_path, make_files):
    make_files("one/x/A.jpg", "two/x/A.jpg", "two/x/y/B.png", "two/C.jpg", "one/z/C.jpg")
    one, two = tmp_path / "one", tmp_path / "two"
    for name in ("one/x/A.jpg", "two/x/A.jpg", "two/x/y/B.png", "two/C.jpg"):
        assert find(str(tmp_path / name), one, two) == tmp_path / name
    assert find(f"/{two}//x/./A", one, two) == two / "x/A.jpg"
    assert image_paths.parse(str(two / "x/A.jpg"), [one, two], "").stem_parts == ("x", "A")
    # Neither another folder's file nor one elsewhere in this folder.
    assert find(str(two / "z/C.jpg"), one, two) is None
    assert find(str(one / "C.jpg"), one, two) is None


def test_absolute_paths_by_way_of_links(tmp_path, make_files, monkeypatch):
    make_files("one/x/A.jpg", "store/B.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "one")
    (tmp_path / "one" / "B.jpg").symlink_to(tmp_path / "store" / "B.jpg")
    one, link = tmp_path / "one", tmp_path / "link"
    assert find(str(one / "x/A.jpg"), link) == link / "x/A.jpg"
    assert find(str(link / "x/A.jpg"), one) == one / "x/A.jpg"
    assert find(str(one / "B.jpg"), one) == one / "B.jpg"
    with pytest.raises(InputError, match="is not a path below"):
        find(str(tmp_path / "store/B.jpg"), one)
    monkeypatch.chdir(tmp_path)
    relative = one.relative_to(tmp_path)
    assert find(str(one / "x/A.jpg"), relative) == relative / "x/A.jpg"


def test_hidden_files_are_passed_over_but_not_below_a_hidden_folder_given(tmp_path, make_files):
    make_files(".download/x/A.jpg", "__MACOSX/A.jpg")
    for value in (".download/x/A.jpg", "__MACOSX/A.jpg", str(tmp_path / ".download/x/A.jpg"), "A"):
        assert find(value, tmp_path) is None
    hidden = tmp_path / ".download"
    assert find("x/A", hidden) == find(str(hidden / "x/A.jpg"), hidden) == hidden / "x/A.jpg"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("../A.jpg", "leads up"),
        ("p/../p/A.jpg", "leads up"),
        (r"..\A.jpg", "leads up"),
        ("{root}/../A.jpg", "leads up"),
        ("/etc/A.jpg", "is not a path below {root}: expected"),
        ("{root}2/A.jpg", "is not a path below"),
        (r"C:\A.jpg", "is not a path below"),
        ("C:A.jpg", "is not a path below"),
        (r"\\server\A.jpg", "is not a path below"),
        ("", "image '' names no file"),
        ("/", "names no file"),
        (".", "names no file"),
        ("p/", "names no file"),
        (".A", "names no file"),
        ("A\tB", "names no file"),
        ('"A', "names no file"),
        ("A" * 300, "names no file"),
    ],
)
def test_refuses_in_one_line(tmp_path, value, message):
    with pytest.raises(InputError, match=message.format(root=tmp_path)) as error:
        image_paths.parse(value.format(root=tmp_path), [tmp_path], "t.csv, line 2")
    assert str(error.value).startswith("t.csv, line 2: image ")
    assert len(str(error.value).splitlines()) == 1
