"""Tests of finding image files by what a user names."""

import os
from pathlib import Path

import pytest

from skinjax.errors import InputError
from skinjax.predict import image_files


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    names = ("b.jpg", "a.PNG", "notes.txt", "c.webp", ".hidden.jpg", "in/d.jpeg", "in/[1].jpg")
    for name in names:
        (tmp_path / "scans" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "scans" / name).touch()
    os.symlink("..", tmp_path / "scans" / "in" / "up")  # it would never end
    return tmp_path / "scans"


def found(scans: Path, *names: str) -> list[str]:
    paths = image_files.find([scans / name for name in names])
    return [str(path.relative_to(scans)) for path in paths]


def test_folders_files_and_patterns(scans: Path) -> None:
    everything = ["a.PNG", "b.jpg", "c.webp", "in/[1].jpg", "in/d.jpeg"]
    assert found(scans, "") == everything
    assert found(scans, "notes.txt", "b.jpg") == ["notes.txt", "b.jpg"]
    assert found(scans, "*.jpg") == ["b.jpg"]
    assert found(scans, "**/*.j*") == ["b.jpg", "in/[1].jpg", "in/d.jpeg"]
    # A link is followed once.
    through_link = ["in/up/a.PNG", "in/up/b.jpg", "in/up/c.webp"]
    assert found(scans, "i*") == ["in/[1].jpg", "in/d.jpeg", *through_link]
    assert found(scans, "in/[1].jpg") == ["in/[1].jpg"]  # the file itself, no pattern


def test_home_and_the_current_folder(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(scans))
    monkeypatch.chdir(scans)
    assert list(image_files.find(["~/b.jpg", "b.jpg"])) == [scans / "b.jpg", Path("b.jpg")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.jpg", "there is no file or folder .*nothing.jpg"),
        ("*.tif", r"nothing matches .*\*.tif"),
        ("empty", "no image in .*empty or the folders inside: expected .jpeg, .jpg, .png"),
    ],
)
def test_what_stands_for_nothing_is_told_at_once(scans: Path, name: str, message: str) -> None:
    (scans / "empty").mkdir()
    (scans / "empty" / "table.csv").touch()
    with pytest.raises(InputError, match=message):
        image_files.find([scans / "b.jpg", scans / name])


def test_a_folder_that_may_not_be_read_is_passed_over(
    scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.scandir

    def forbidden(path: Path) -> object:
        if Path(path).name == "in":
            raise PermissionError(13, "Permission denied")
        return whole(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    assert found(scans, "") == ["a.PNG", "b.jpg", "c.webp"]
