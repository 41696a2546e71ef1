"""Safetensors files, whole and broken in every way that can be told."""

import contextlib
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from skinjax.errors import InputError
from skinjax.models.pretrained.safetensors_file import open_safetensors

VALUES = np.array([[0.5, -2.0, 1.0], [3.0, 65504.0, 0.0]], np.float32)


def write(path: Path, entries: dict[str, Any], data: bytes) -> Path:
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def entry(begin: int, end: int, shape: list[Any] | None = None, dtype: str = "F32") -> dict:
    shape = [(end - begin) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def message(path: Path) -> str:
    with pytest.raises(InputError) as caught, open_safetensors(path):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
def test_floats_of_any_width_become_float32(tmp_path: Path, dtype: Any) -> None:
    path = tmp_path / "model.safetensors"
    array = VALUES.astype(dtype)
    safetensors.numpy.save_file({"b": array, "a": np.ones(1, np.int64)}, path, {"format": "pt"})
    with open_safetensors(path) as tensors:
        assert tensors.shapes == {"a": (1,), "b": (2, 3)}
        read = tensors.float32("b")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, array.astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_name(tmp_path: Path, value: float) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"conv1.weight": np.array([1, value], np.float32)}, path)
    with (
        open_safetensors(path) as tensors,
        pytest.raises(InputError, match=r"tensor 'conv1.weight' has values that aren't finite"),
    ):
        tensors.float32("conv1.weight")


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"conv1.weight": np.ones(3, np.int8)}, path)
    with (
        open_safetensors(path) as tensors,
        pytest.raises(InputError, match=r"tensor 'conv1.weight' is int8.*quantised"),
    ):
        tensors.float32("conv1.weight")


def test_any_truncation_is_refused_and_says_where(tmp_path: Path) -> None:
    whole = tmp_path / "whole.safetensors"
    arrays = {"first": np.ones(40, np.float32), "second": np.ones(4, np.float32)}
    safetensors.numpy.save_file(arrays, whole)
    content, cut = whole.read_bytes(), tmp_path / "cut.safetensors"
    for length in (1, 7, 8, 9, 100, len(content) - 17, len(content) - 1):
        cut.write_bytes(content[:length])
        assert str(cut) in message(cut)
    assert "is cut off: tensor 'second' ends at byte 176 of the data, and there are 175" in (
        message(cut)
    )
    cut.write_bytes(content[: len(content) - 17])
    assert "tensor 'first' ends" in message(cut)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"a": entry(0, 8), "b": entry(4, 16)}, "tensor 'b' overlaps 'a'"),
        ({"a": entry(0, 8), "b": entry(0, 8)}, "tensor 'b' overlaps 'a'"),
        ({"a": entry(0, 8), "b": entry(12, 16)}, "tensor 'b' leaves a gap after 'a'"),
        ({"a": entry(4, 16)}, "tensor 'a' leaves a gap at the start"),
        ({"a": entry(0, 12)}, "has 4 bytes more than its tensors, the last of which is 'a'"),
        ({"a": entry(0, 16), "b": entry(16, 20)}, "tensor 'b' ends at byte 20"),
        ({"a": entry(0, 16, [5])}, "tensor 'a' has 16 bytes, but F32 of shape (5,) takes 20"),
        ({"a": entry(0, 16, [4], "F16")}, "tensor 'a' has 16 bytes, but F16 of shape (4,) takes 8"),
        ({"a": entry(0, 16, [2, -2])}, "tensor 'a' is described as"),
        ({"a": entry(0, 16, [2, 2.0])}, "tensor 'a' is described as"),
        ({"a": entry(0, 16, [True, 4])}, "tensor 'a' is described as"),
        ({"a": entry(16, 0, [0])}, "tensor 'a' is described as"),
        ({"a": {"dtype": "F32", "shape": [4]}}, "tensor 'a' is described as"),
        ({"a": entry(0, 16, [16], "F8_E4M3")}, "tensor 'a' is of type F8_E4M3"),
        ({"__metadata__": {"format": "pt"}}, "holds no tensors"),
    ],
)
def test_a_header_that_lies_names_the_tensor(tmp_path: Path, entries: dict, words: str) -> None:
    assert words in message(write(tmp_path / "model.safetensors", entries, bytes(16)))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b'{"a": 1, "a": 2}', "its header has 'a' twice"),
        (b"[1, 2]", "its header is no JSON object"),
        (b"{'a': 1}", "its header isn't JSON"),
        (b"\xff\xfe{}", "its header isn't JSON"),
        (b"[" * 100_000, "its header isn't JSON"),
    ],
)
def test_a_header_that_is_no_table(tmp_path: Path, header: bytes, words: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert words in message(path)


def test_a_header_longer_than_any(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    assert "isn't safetensors: its header can't be" in message(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "is an HDF5 file; give it the ending .h5"),
        (b"<!doctype html><html>Sign in</html>", "is an HTML or XML page"),
        (b"\n <html>not found</html>", "is an HTML or XML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "a Git LFS pointer"),
        (b"PK\x03\x04" + bytes(90), "is a zip archive"),
        (b"\x80\x02}q\x00(X\x07\x00\x00\x00" + bytes(90), "is a pickle"),
        (b"\x1f\x8b\x08" + bytes(90), "is a gzip archive"),
        (b"", "is empty"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert words in message(path)


def test_a_file_that_is_not_there_or_no_file(tmp_path: Path) -> None:
    assert "can't be read (No such file" in message(tmp_path / "missing.safetensors")
    assert "can't be read (Is a directory" in message(tmp_path)


@pytest.mark.parametrize("length", [0x3C - 8, 0x80 - 8])
def test_a_header_whose_length_looks_like_another_kind(tmp_path: Path, length: int) -> None:
    """Its first byte is "<", or that of a pickle with its protocol behind."""
    entries: dict[str, Any] = {"a": entry(0, 4)}
    size = length + 8 + (2 * 256 if length > 0x70 else 0)
    padding = size - len(json.dumps(entries))
    header = json.dumps(entries).encode() + b" " * padding
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with open_safetensors(path) as tensors:
        assert tensors.float32("a").tolist() == [0.0]


def test_random_damage_to_the_header_is_nothing_but_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"a": VALUES, "b": VALUES}, path)
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[:8], "little")
    random = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(content)
        for place in random.integers(0, 8 + length, 2):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged)
        with contextlib.suppress(InputError), open_safetensors(path) as tensors:
            for name in tensors.shapes:
                tensors.float32(name)
