"""Reading a .safetensors file: its header is checked first, so that a fault names its tensor.

The format: the header's length (8 bytes, little endian), the header (JSON: for each tensor dtype,
shape and place in the data), the data without gaps. See huggingface/safetensors, README.md.
"""

import contextlib
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinjax.errors import InputError
from skinjax.models.pretrained import contents
from skinjax.models.pretrained.tensors import Tensors

_MAX_HEADER = 100_000_000  # bytes; the library's own limit
# Of what the library can give NumPy.
_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U64": 8, "I32": 4, "U32": 4,
    "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "C64": 8,
}  # fmt: skip
_AGAIN = "the file is damaged: download it again"


@dataclass(frozen=True)
class _Entry:
    name: str
    shape: tuple[int, ...]
    begin: int  # of the tensor's bytes, in the data
    end: int


@contextlib.contextmanager
def open_safetensors(path: Path) -> Iterator[Tensors]:
    """The tensors of a .safetensors file, mapped into memory and copied one at a time.

    Raises:
      InputError: the file is missing, truncated, of another kind, or contradicts its own header.
    """
    import safetensors

    contents.check_safetensors(path)
    entries = _header(path)
    try:
        with safetensors.safe_open(path, framework="np") as file:
            shapes = {entry.name: entry.shape for entry in entries}
            yield Tensors(path, shapes, file.get_tensor)
    except safetensors.SafetensorError as error:
        raise InputError(f"{path} can't be read as safetensors ({error}); {_AGAIN}") from None


def _header(path: Path) -> list[_Entry]:
    """What the header says, after checking it against the size of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > _MAX_HEADER:
            raise InputError(f"{path} isn't safetensors: its header can't be; pass the right file")
        if 8 + length > size:
            raise InputError(
                f"{path} ends after {size} bytes, within its header of {length}; {_AGAIN}"
            )
        header = _parse(path, file.read(length))
    entries = [_entry(path, name, fields) for name, fields in header.items()]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    _check_places(path, entries, size - 8 - length)
    return entries


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise InputError(f"{path}: its header has {name!r} twice; {_AGAIN}")
            found[name] = value
        return found

    try:
        header = json.loads(text, object_pairs_hook=once)
    except InputError:
        raise
    except (ValueError, RecursionError):
        raise InputError(f"{path} isn't safetensors: its header isn't JSON; {_AGAIN}") from None
    if not isinstance(header, dict):
        raise InputError(f"{path} isn't safetensors: its header is no JSON object; {_AGAIN}")
    header.pop("__metadata__", None)
    if not header:
        raise InputError(f"{path} holds no tensors; pass a file of weights")
    return header


def _entry(path: Path, name: str, fields: Any) -> _Entry:
    match fields:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]} if (
            all(type(side) is int and side >= 0 for side in shape) and 0 <= begin <= end
        ):
            pass
        case _:
            raise InputError(
                f"{path}: tensor {name!r} is described as {str(fields)[:100]}; expected its dtype, "
                f"shape and data_offsets; {_AGAIN}"
            )
    if dtype not in _BYTES:
        raise InputError(
            f"{path}: tensor {name!r} is of type {dtype[:20]}; weights are F32, F16 or BF16, so "
            "pass a checkpoint that isn't quantised"
        )
    expected = math.prod(shape) * _BYTES[dtype]
    if end - begin != expected:
        raise InputError(
            f"{path}: tensor {name!r} has {end - begin} bytes, but {dtype} of shape {tuple(shape)} "
            f"takes {expected}; {_AGAIN}"
        )
    return _Entry(name, tuple(shape), begin, end)


def _check_places(path: Path, entries: list[_Entry], size: int) -> None:
    for entry in entries:
        if entry.end > size:
            raise InputError(
                f"{path} is cut off: tensor {entry.name!r} ends at byte {entry.end} of the data, "
                f"and there are {size}; download it again"
            )
    if entries[0].begin != 0:
        raise InputError(f"{path}: tensor {entries[0].name!r} leaves a gap at the start; {_AGAIN}")
    for one, other in itertools.pairwise(entries):
        if one.end != other.begin:
            relation = "overlaps" if one.end > other.begin else "leaves a gap after"
            raise InputError(f"{path}: tensor {other.name!r} {relation} {one.name!r}; {_AGAIN}")
    if entries[-1].end != size:
        raise InputError(
            f"{path} has {size - entries[-1].end} bytes more than its tensors, the last of which "
            f"is {entries[-1].name!r}; {_AGAIN}"
        )
