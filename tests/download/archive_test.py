import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from skinjax.download import archive
from skinjax.download.archive import DamagedArchiveError
from skinjax.download.progress import Progress
from skinjax.errors import InputError


@pytest.fixture
def unpack(tmp_path):
    """Unpacks bytes, with what is outside of the folder looked after."""
    packed, folder = tmp_path / "in" / "a.zip", tmp_path / "out" / "a"
    packed.parent.mkdir()
    folder.parent.mkdir()

    def run(content):
        packed.write_bytes(content)
        sizes = archive.unpack(packed, folder, Progress("", 0))
        assert sizes == archive.sizes(packed)
        found = {str(one.relative_to(folder)): one for one in folder.rglob("*") if one.is_file()}
        assert {name: one.stat().st_size for name, one in found.items()} == sizes
        return {name: one.read_bytes() for name, one in found.items()}

    yield run
    assert {one.name for one in tmp_path.iterdir()} == {"in", "out"}
    assert {one.name for one in folder.parent.iterdir()} <= {"a"}
    assert [one.name for one in packed.parent.iterdir()] == ["a.zip"]


def pack(*members, compression=zipfile.ZIP_STORED):
    """A zip archive of (ZipInfo or name, bytes)."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as file:
        for name, content in members:
            file.writestr(name, content)
    return packed.getvalue()


def test_files_come_out_as_they_are(unpack):
    files = {"a.jpg": b"1", "b c/d.jpg": b"22", "ü/e.csv": b""}
    assert unpack(pack(*files.items(), ("empty/", b""))) == files


def test_one_folder_around_everything_is_left_away(unpack):
    assert unpack(pack(("a/x.jpg", b"1"), ("a/b/y.jpg", b"2"))) == {"x.jpg": b"1", "b/y.jpg": b"2"}


def test_it_stays_where_not_everything_is_in_it(unpack):
    assert set(unpack(pack(("a/x.jpg", b"1"), ("y.jpg", b"2")))) == {"a/x.jpg", "y.jpg"}


def test_a_single_file_is_no_folder(unpack):
    assert unpack(pack(("x.jpg", b"1"))) == {"x.jpg": b"1"}


def test_what_macs_and_windows_add_is_skipped(unpack):
    clutter = ["__MACOSX/._x.jpg", "b/.DS_Store", "b/Thumbs.db", "b/._x.jpg"]
    assert unpack(pack(("b/x.jpg", b"1"), *[(name, b"2") for name in clutter])) == {"x.jpg": b"1"}


@pytest.mark.parametrize(
    "name",
    [
        "../x.jpg", "a/../../x.jpg", "a/..", "/x.jpg", "//x.jpg", "C:/x.jpg", "C:x.jpg",
        "..\\x.jpg", "a\\x.jpg", "\\\\host\\x.jpg", "a//x.jpg", "./x.jpg", "a/./x.jpg", "a\nb.jpg",
        "x.jpg\0.txt", "x.jpg ", "x/.. /y.jpg", "con./x.jpg", "x.jpg:stream", "x" * 256 + ".jpg",
        "../evil/", "/",
    ],
)  # fmt: skip
def test_no_path_leaves_the_folder(unpack, name):
    info = zipfile.ZipInfo("placeholder")
    info.filename = info.orig_filename = name  # ZipInfo(name) would mend some of them
    with pytest.raises(InputError, match="inside its own folder only") as error:
        unpack(pack(("good.jpg", b"1"), (info, b"2")))
    assert "\n" not in str(error.value)


def test_no_links(unpack):
    info = zipfile.ZipInfo("link.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(InputError, match=r"'link.jpg', which is a link"):
        unpack(pack((info, b"/etc/passwd")))


def test_no_encrypted_files(unpack):
    content = bytearray(pack(("x.jpg", b"1")))
    content[content.index(b"PK\1\2") + 8] |= 1
    with pytest.raises(InputError, match=r"'x.jpg', which is encrypted"):
        unpack(bytes(content))


@pytest.mark.parametrize("name", ["inner.zip", "b/inner.TAR", "inner.tar.gz"])
def test_archives_in_archives_are_told(unpack, name):
    with pytest.raises(InputError, match=r"unpack a.zip yourself"):
        unpack(pack((name, b"1")))


def test_an_archive_of_nothing(unpack):
    with pytest.raises(InputError, match="holds no file"):
        unpack(pack(("a/", b"")))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("x.jpg", b"1"), ("x.jpg", b"1")),
        (("x.jpg", b"1"), ("X.jpg", b"2")),
        (("é.jpg", b"1"), ("e\u0301.jpg", b"2")),
    ],
)
def test_two_files_of_one_name(unpack, one, other):
    with pytest.raises(InputError, match="expected one file of a name"):
        unpack(pack(one, other))


def test_copies_whose_names_differ_in_case_come_once(unpack):
    """As in Kaggle's HAM10000."""
    files = {"HAM/x.jpg": b"1", "HAM/y.jpg": b"2", "z.csv": b"3"}
    copies = {name.lower(): files[name] for name in ("HAM/x.jpg", "HAM/y.jpg")}
    assert unpack(pack(*files.items(), *copies.items())) == files


def test_a_name_of_a_file_and_a_folder(unpack):
    with pytest.raises(InputError, match="both as a file and as a folder"):
        unpack(pack(("x", b"1"), ("x/y.jpg", b"2")))


def test_a_bomb_by_its_own_word(unpack, monkeypatch):
    monkeypatch.setattr(archive, "_GROWTH_ALLOWED", 1000)
    bomb = pack(("x.jpg", bytes(1 << 20)), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match=r"would grow from 1.\d kB to 1.0 MB"):
        unpack(bomb)


def declare(content, size):
    """Changes the size of the only file of an archive, in both of its headers."""
    content = bytearray(content)
    for offset in (content.index(b"PK\3\4") + 22, content.index(b"PK\1\2") + 24):
        content[offset : offset + 4] = struct.pack("<I", size)
    return bytes(content)


@pytest.mark.parametrize("size", [10, (1 << 20) + 1])
def test_a_file_of_another_size_than_declared(unpack, size, tmp_path):
    """A bomb that lies writes no more than it declares."""
    lie = declare(pack(("x.jpg", bytes(1 << 20)), compression=zipfile.ZIP_DEFLATED), size)
    with pytest.raises(DamagedArchiveError, match=r"damaged at 'x.jpg' \(.*\): get it again"):
        unpack(lie)
    assert (tmp_path / "out" / "a" / "x.jpg").stat().st_size <= size


def test_more_than_fits_on_the_disk(unpack, monkeypatch):
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: type("", (), {"free": 4}))
    with pytest.raises(OSError, match="needs 5 bytes and 4 bytes are free") as error:
        unpack(pack(("x.jpg", b"12345")))
    assert error.value.errno == 28


def test_wrong_bytes(unpack):
    content = pack(("x.jpg", b"12345"), ("y.jpg", b"67890"))
    with pytest.raises(DamagedArchiveError, match=r"damaged at 'y.jpg' \(Bad CRC-32"):
        unpack(content.replace(b"67890", b"67891"))


@pytest.mark.parametrize("kept", [0, 10, 300, -1])
def test_cut_off(unpack, kept):
    content = pack(*[(f"{n}.jpg", bytes(100)) for n in range(10)])
    with pytest.raises(DamagedArchiveError, match="no whole zip archive"):
        unpack(content[:kept])


def test_something_else(unpack):
    with pytest.raises(DamagedArchiveError, match="no whole zip archive"):
        unpack(b"<html>Please log in</html>" * 100)


def test_any_flipped_byte_is_told_or_harmless(unpack, tmp_path):
    """What comes out is what went in, or there is one clear error."""
    files = {"a/x.jpg": b"first" * 10, "a/y.jpg": b"second" * 10}
    content = pack(*files.items(), compression=zipfile.ZIP_DEFLATED)
    told = []
    for position in range(len(content)):
        broken = bytearray(content)
        broken[position] ^= 0xFF
        target = tmp_path / "out" / "a"
        archive.shutil.rmtree(target, ignore_errors=True)
        try:
            found = unpack(bytes(broken))
        except InputError as error:
            told.append(str(error))
        else:
            assert sorted(found.values()) == sorted(files.values()), position
    assert len(told) > len(content) / 2
    assert not any("\n" in message for message in told)


def test_placing_adds_to_a_folder_that_is_there(tmp_path):
    for name in ("new/a/x", "new/y", "old/y", "old/z"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    archive.place(tmp_path / "new", tmp_path / "old")
    assert not (tmp_path / "new").exists()
    texts = {
        str(p.relative_to(tmp_path)): p.read_text() for p in tmp_path.rglob("*") if p.is_file()
    }
    assert texts == {"old/a/x": "new/a/x", "old/y": "new/y", "old/z": "old/z"}
    archive.place(tmp_path / "old", Path(tmp_path / "third"))
    assert (tmp_path / "third" / "a" / "x").is_file()
