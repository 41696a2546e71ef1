"""Unpacking zip archives that are not trusted: nothing leaves the folder, nothing is half there."""

import errno
import lzma
import os
import re
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from skinjax.download.progress import Progress, readable
from skinjax.errors import InputError

_MOST_MEMBERS = 500_000
# Images hardly shrink in a zip, and tables to a twentieth or so.
_MOST_GROWTH = 100
_GROWTH_ALLOWED = 1 << 28  # bytes, whatever the archive's size
_NESTED = (".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst")
_SKIPPED_NAMES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_CHUNK = 1 << 20
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,  # a method of compression that nobody uses, in a broken header
    ValueError,  # a name that is no text, or a place before the beginning
    struct.error,
)


class DamagedArchiveError(InputError):
    """An archive is cut off, or its bytes are not those that were packed."""


@dataclass(frozen=True)
class _Member:
    """A file in an archive and where it goes, relative to the folder."""

    info: zipfile.ZipInfo
    path: PurePosixPath


def sizes(archive: Path) -> dict[str, int]:
    """Size in bytes by path of what `unpack` would write, from the archive's own list.

    Raises:
      DamagedArchiveError, InputError: as `unpack`.
    """
    with _open(archive) as file:
        members = _members(file, archive)
        return {str(member.path): member.info.file_size for member in members}


def unpack(archive: Path, folder: Path, progress: Progress) -> dict[str, int]:
    """Unpacks into `folder`, which must not exist, and returns the size in bytes of each file.

    If everything in the archive is in one folder, that folder is left away, so that archives with
    and without one come out alike. What Macs and Windows add (`__MACOSX`, `.DS_Store`) is skipped.
    The CRC-32 of each file is checked.

    Raises:
      DamagedArchiveError: it is no zip archive, is cut off, or a checksum is wrong.
      InputError: it has files outside its folder, links, encrypted files, further archives, two
        files of one name, or far more bytes than can be meant.
      OSError: the disk is full (ENOSPC), also where it would be.
    """
    with _open(archive) as file:
        members = _members(file, archive)
        total = sum(member.info.file_size for member in members)
        folder.mkdir(parents=True)
        check_space(folder, total, f"unpacking {archive}")
        for member in members:
            _write(file, member, folder, archive, progress)
    return {str(member.path): member.info.file_size for member in members}


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raises OSError (ENOSPC) if the disk of `folder` has less free than `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"{what} needs {readable(needed)} and {readable(free)} are free",
            str(folder),
        )


def _open(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except _DAMAGE as error:
        raise DamagedArchiveError(
            f"{archive} is no whole zip archive ({error}): it is cut off or something else; get it"
            " again"
        ) from None


def _members(file: zipfile.ZipFile, archive: Path) -> list[_Member]:
    infos = file.infolist()
    stated = _stated_count(archive)
    if stated not in (len(infos), 0xFFFF):  # which stands for a larger number, elsewhere
        raise DamagedArchiveError(
            f"{archive} lists {len(infos)} files and says {stated}: its list is damaged, get it"
            " again"
        )
    if len(infos) > _MOST_MEMBERS:
        raise InputError(f"{archive} lists {len(infos)} files: expected {_MOST_MEMBERS} at most")
    members = []
    for info in infos:
        path = _safe_path(info, archive)
        if not (info.is_dir() or _is_clutter(path)):
            _check_kind(info, path, archive)
            members.append(_Member(info, path))
    if not members:
        raise InputError(f"{archive} holds no file: expected images or tables; get it again")
    declared = sum(member.info.file_size for member in members)
    most = _MOST_GROWTH * archive.stat().st_size + _GROWTH_ALLOWED
    if declared > most:
        raise InputError(
            f"{archive} would grow from {readable(archive.stat().st_size)} to"
            f" {readable(declared)}: expected {readable(most)} at most, so it is not unpacked"
        )
    members = _without_copies(members, archive)
    if len({member.path.parts[0] for member in members}) == 1 and len(members[0].path.parts) > 1:
        return [_Member(one.info, PurePosixPath(*one.path.parts[1:])) for one in members]
    return members


def _stated_count(archive: Path) -> int:
    """How many members the end of an archive says there are; zipfile doesn't look.

    "End of central directory record" in PKWARE's APPNOTE.TXT, 4.3.16.
    """
    with archive.open("rb") as file:
        file.seek(max(0, archive.stat().st_size - 22 - 0xFFFF))
        tail = file.read()
    (count,) = struct.unpack_from("<H", tail, tail.rindex(b"PK\5\6") + 10)
    return int(count)


def _safe_path(info: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    """The path of a member, if it is a plain relative one on every system."""
    name = info.orig_filename  # zipfile ends `filename` at a NUL
    parts = name.removesuffix("/").split("/")
    bad = (
        "\\" in name
        or ":" in name  # a drive, or a stream on NTFS
        or any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts)
        or any(unicodedata.category(character) in ("Cc", "Cs") for character in name)
        or re.search(r"[ .](/|$)", name)  # Windows takes them away
    )
    if bad:
        raise InputError(
            f"{archive} holds {name[:200]!r}: expected names inside its own folder only, so"
            " nothing of it is unpacked"
        )
    return PurePosixPath(*parts)


def _is_clutter(path: PurePosixPath) -> bool:
    return path.parts[0] == "__MACOSX" or path.name in _SKIPPED_NAMES or path.name[:2] == "._"


def _check_kind(info: zipfile.ZipInfo, path: PurePosixPath, archive: Path) -> None:
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise InputError(
            f"{archive} holds {str(path)!r}, which is a link or a device: expected files only, so"
            " nothing of it is unpacked"
        )
    if info.flag_bits & 0x1:
        raise InputError(
            f"{archive} holds {str(path)!r}, which is encrypted: the published archives are not;"
            " get it again"
        )
    if path.name.lower().endswith(_NESTED):
        raise InputError(
            f"{archive} holds the archive {str(path)!r}: unpack {archive.name} yourself and give"
            " what is in it with --from"
        )


def _without_copies(members: list[_Member], archive: Path) -> list[_Member]:
    """Leaves out copies of a file whose names differ in case only, as Kaggle's HAM10000 has them.

    On file systems that don't know case they would be one file, so they have to be equal.
    """
    kept: dict[str, _Member] = {}
    folders: set[str] = set()
    for member in members:
        key = _key(member.path)
        other = kept.setdefault(key, member)
        folders.update(_key(parent) for parent in member.path.parents)
        if other is member:
            continue
        same = (other.info.CRC, other.info.file_size) == (member.info.CRC, member.info.file_size)
        if other.path == member.path or not same:
            raise InputError(
                f"{archive} holds {str(member.path)!r} and {str(other.path)!r}: expected one file"
                " of a name, so nothing of it is unpacked"
            )
    for key in kept.keys() & folders:
        raise InputError(
            f"{archive} holds {str(kept[key].path)!r} both as a file and as a folder, so nothing of"
            " it is unpacked"
        )
    return list(kept.values())


def _key(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()


def _write(
    file: zipfile.ZipFile, member: _Member, folder: Path, archive: Path, progress: Progress
) -> None:
    target = folder.joinpath(*member.path.parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    try:
        # Reading stops at the size that the archive's list declares, and checks the CRC-32 there.
        with file.open(member.info) as packed, target.open("xb") as unpacked:
            while chunk := packed.read(_CHUNK):
                unpacked.write(chunk)
                written += len(chunk)
                progress.add(len(chunk))
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
    except OSError as error:
        if error.errno != errno.EINVAL:  # which is a place before the beginning, too
            raise
        reason = "it points outside itself"
    else:
        if written == member.info.file_size:
            return
        reason = f"{written} bytes where {member.info.file_size} are declared"
    raise DamagedArchiveError(
        f"{archive} is damaged at {str(member.path)!r} ({reason}): get it again"
    )


def place(source: Path, target: Path) -> None:
    """Moves a folder that is whole to `target`, or its files into it if it is there already."""
    if not target.exists():
        os.replace(source, target)
        return
    for folder, _, names in os.walk(source):
        goal = target / Path(folder).relative_to(source)
        goal.mkdir(parents=True, exist_ok=True)
        for name in names:
            os.replace(Path(folder, name), goal / name)
    shutil.rmtree(source)
