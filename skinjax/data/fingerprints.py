"""Names for content: the same for the same files and settings, wherever they lie."""

import csv
import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from skinjax.data import staging, threads
from skinjax.data.records import Record

_SMALL = 1 << 24  # bytes

# Path, size and time of change of a file: while they are the same, so is its content.
_FileState = tuple[str, int, int]


def combine(content: Mapping[str, Any]) -> str:
    """SHA-256 over anything that JSON can write, in 64 hexadecimal digits.

    A value may also be an iterator, which stands for the list of what it yields: of many records
    neither the list nor its text is then ever held as a whole.
    """
    digest = hashlib.sha256()
    opening = "{"
    for name in sorted(content):
        digest.update(f"{opening}{json.dumps(name)}: ".encode())
        for text in _pieces(content[name]):
            digest.update(text.encode())
        opening = ", "
    digest.update(b"}" if content else b"{}")
    return digest.hexdigest()


def _pieces(value: Any) -> Iterator[str]:
    """The text of `json.dumps(value, sort_keys=True)`, in parts."""
    if not isinstance(value, Iterator):
        yield json.dumps(value, sort_keys=True)
        return
    separator = "["
    for item in value:
        yield separator + json.dumps(item, sort_keys=True)
        separator = ", "
    yield "]" if separator == ", " else "[]"


def hash_images(records: Sequence[Record], cache: Path) -> list[str]:
    """SHA-256 of each record's file, in hexadecimal.

    Images are hashed whole, since size alone would miss an image that was changed for another of
    its size, and times change when a data set is copied. So that a second run starts at once, the
    hashes are kept in `cache` (CSV) and a file is read again only if its size or its time of
    change has moved.
    """
    known = _read_cache(cache)
    state_N = [_state(record.path) for record in records]
    unknown = [state for state in state_N if state not in known]
    hashes = threads.map_in_order(_hash_state, unknown, chunk_size=64)
    shown = tqdm(
        hashes, total=len(unknown), desc="hashing images", unit="image",
        disable=not (unknown and sys.stderr.isatty()),
    )  # fmt: skip
    fresh = dict(zip(unknown, shown, strict=True))
    hash_N = [fresh.get(state) or known[state] for state in state_N]
    if fresh:
        current = {state[0] for state in state_N}
        others = {state: digest for state, digest in known.items() if state[0] not in current}
        _write_cache(cache, {**others, **dict(zip(state_N, hash_N, strict=True))})
    return hash_N


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    if path.stat().st_size <= _SMALL:  # at once: the buffer of file_digest takes longer to get
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_state(state: _FileState) -> str:
    return hash_file(Path(state[0]))


def _state(path: Path) -> _FileState:
    status = path.stat()
    return os.path.abspath(path), status.st_size, status.st_mtime_ns


def _read_cache(cache: Path) -> dict[_FileState, str]:
    """The hashes of an earlier run; none if there are none, or the file can't be made out."""
    try:
        with cache.open(newline="", encoding="utf-8") as file:
            return {
                (path, int(size), int(time)): digest
                for path, size, time, digest in csv.reader(file)
            }
    except (OSError, ValueError, csv.Error):
        return {}


def _write_cache(cache: Path, hashes: Mapping[_FileState, str]) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    # Renamed into place, since another run may be reading it. Under a name that the next run writes
    # over, should this one be killed; locked, so that two don't write into each other.
    writing = cache.with_name(f".{cache.name}.writing")
    with writing.open("a", newline="", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another run is writing its own; these hashes are found again by a later one
        except OSError:
            pass  # no locks on this file system: staging says so
        if not staging.is_open_file(writing, file.fileno()):
            return  # another run has just renamed it
        file.truncate(0)
        csv.writer(file, lineterminator="\n").writerows(
            (*state, digest) for state, digest in hashes.items()
        )
        file.flush()
        writing.replace(cache)
