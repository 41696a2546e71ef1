"""One file over HTTP: resumed where it stopped, tried again after faults, checked when whole."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import requests
from absl import logging

from skinjax.download import server
from skinjax.download.progress import Progress

_CHUNK = 1 << 18  # bytes
# A whole file with a wrong checksum is not fetched for ever: it may be gigabytes.
_WHOLE_TRIES = 2


@dataclass(frozen=True)
class Remote:
    """A file on a server.

    `size` (bytes) and `md5` are what is published apart from the download itself, None and "" if
    nothing is. With `etag_is_md5`, the server's ETag is taken for the MD5 where it looks like one.
    `help` says how else to get the file.
    """

    name: str
    url: str
    size: int | None
    md5: str
    etag_is_md5: bool
    help: str


@dataclass(frozen=True)
class Digest:
    """What a file on disk is: bytes, and hashes in hexadecimal."""

    size: int
    sha256: str
    md5: str


@dataclass(frozen=True)
class _Note:
    """What the server said of the file whose beginning is in the part."""

    url: str
    etag: str
    modified: str
    size: int | None

    def validator(self) -> str:
        """For If-Range, which takes no weak ETag."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def md5(self) -> str:
        """The MD5 that Amazon S3 gives as ETag, unless the file was uploaded in parts."""
        etag = self.etag.strip('"').lower()
        return etag if re.fullmatch("[0-9a-f]{32}", etag) else ""


def digest(path: Path) -> Digest:
    """Reads a file once for its size, SHA-256 and MD5."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            size += len(chunk)
            sha256.update(chunk)
            md5.update(chunk)
    return Digest(size, sha256.hexdigest(), md5.hexdigest())


def fetch(
    session: server.Session,
    remote: Remote,
    part: Path,
    patience: server.Patience,
    progress: Progress,
) -> Digest:
    """Fills `part` with the whole file, going on where an earlier call stopped.

    Beside `part` stands a note of what the server said of the file, so that a file that was changed
    between two calls is not made of halves of both. `part` is to be renamed, and then `discard`ed.

    Raises:
      TransferError: the server refuses, or the attempts are used up.
    """
    whole_tries = 0

    def attempt() -> Digest:
        nonlocal whole_tries
        note = _fill(session, remote, part, patience, progress)
        found = digest(part)
        fault = _fault(remote, note, found)
        if not fault:
            return found
        progress.add(-found.size)
        discard(part)
        whole_tries += 1
        if whole_tries >= _WHOLE_TRIES:
            raise server.TransferError(f"{remote.url}: {fault}, {whole_tries} times; {remote.help}")
        raise server.FaultError(f"{fault}; getting it anew")

    progress.add(_size(part) if _read_note(part, remote.url) else 0)
    return server.persist(remote.url, attempt, patience, remote.help, lambda: _size(part))


def discard(part: Path) -> None:
    """Removes a part and its note."""
    part.unlink(missing_ok=True)
    _note_path(part).unlink(missing_ok=True)


def _fill(
    session: server.Session,
    remote: Remote,
    part: Path,
    patience: server.Patience,
    progress: Progress,
) -> _Note:
    """One attempt to bring what the part lacks."""
    note = _read_note(part, remote.url)
    if note is None:
        discard(part)
    offset = _size(part)
    if note and offset and offset == note.size:
        return note  # whole, but the last run was killed before it could say so
    headers = {}
    if note and offset and note.validator():
        headers = {"Range": f"bytes={offset}-", "If-Range": note.validator()}
    with server.request(session, "GET", remote.url, headers, patience) as response:
        if response.status_code == 206 and note and _continues(response, note, offset):
            logging.info("%s: going on after %d bytes", remote.name, offset)
        elif response.status_code in (206, 416):
            progress.add(-offset)
            discard(part)
            raise server.FaultError(
                f"the server answered {response.status_code}"
                f" ({response.headers.get('Content-Range')}) to a request for the rest after"
                f" {offset} bytes; starting anew"
            )
        else:
            server.check_status(response, remote.url, remote.help)
            progress.add(-offset)
            discard(part)
            note = _Note(
                remote.url,
                response.headers.get("ETag", ""),
                response.headers.get("Last-Modified", ""),
                server.content_length(response),
            )
            _check_length(remote, note)
            _note_path(part).write_text(json.dumps(asdict(note)))
        _append(response, part, progress)
    return note


def _append(response: requests.Response, part: Path, progress: Progress) -> None:
    try:
        with part.open("ab") as file:
            # Not iter_content: that would unpack what is stored under a Content-Encoding.
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                file.write(chunk)
                progress.add(len(chunk))
    except server.CONNECTION_ERRORS as error:
        raise server.FaultError(
            f"cut off after {_size(part)} bytes ({server.innermost(error)})"
        ) from None


def _check_length(remote: Remote, note: _Note) -> None:
    """Before gigabytes are fetched: is it as long as published?"""
    if remote.size is not None and note.size is not None and note.size != remote.size:
        raise server.FaultError(
            f"the server announces {note.size} bytes; {remote.size} bytes are published"
        )


def _fault(remote: Remote, note: _Note, found: Digest) -> str:
    """What is wrong with a file that came to its end, or ""."""
    size = remote.size if remote.size is not None else note.size
    if size is not None and found.size != size:
        return f"got {found.size} bytes, expected {size}"
    md5 = remote.md5 or (note.md5() if remote.etag_is_md5 else "")
    if md5 and found.md5 != md5:
        return f"got bytes with MD5 {found.md5}, expected {md5}"
    return ""


def _continues(response: requests.Response, note: _Note, offset: int) -> bool:
    """True if a partial answer is the rest of what is there already."""
    match = re.fullmatch(
        r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip()
    )
    if not match or int(match[1]) != offset:
        return False
    same_size = match[2] == "*" or note.size is None or int(match[2]) == note.size
    return same_size and response.headers.get("ETag", note.etag) == note.etag


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _note_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path, url: str) -> _Note | None:
    """The note of a part that can be gone on with."""
    try:
        note = _Note(**json.loads(_note_path(part).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return note if note.url == url and part.is_file() else None
