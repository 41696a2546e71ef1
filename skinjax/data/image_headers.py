"""The headers of image files: what a JPEG or PNG holds, and that it is whole, before decoding."""

import dataclasses
import itertools
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Literal

import numpy as np

from skinjax.errors import InputError

MAX_PIXELS = 100_000_000
MAX_SIDE = 65_535  # what a JPEG can say
MAX_BYTES = 200_000_000  # of a file: the most that 100 Mpixel take, but for noise as PNG
_MAX_PARTS = 100_000  # segments or chunks; a file of 200 Mbyte in OpenCV's chunks has 25,000

_JPEG_START = b"\xff\xd8"
_PNG_START = b"\x89PNG\r\n\x1a\n"
# Inside a JPEG scan, ff 00 is a stuffed byte, ff d0 .. ff d7 are restart markers and ff ff is fill;
# any other ff xx ends the scan.
_ENDS_SCAN = np.ones(256, bool)
_ENDS_SCAN[[0x00, *range(0xD0, 0xD8), 0xFF]] = False
_FILL = re.compile(rb"\xff+")  # before a marker, whose own ff is the last
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_END_OF_IMAGE = 0xD9
_START_OF_SCAN = 0xDA
_EXIF_SEGMENT = 0xE1
_EXIF_START = b"Exif\0\0"
_JPEG_MODES = {1: "grey", 3: "rgb", 4: "cmyk"}
_ORIENTATION_TAG, _SHORT = 0x0112, 3
# Every scan of a progressive JPEG goes over the whole image; encoders write about ten.
_MAX_SCANS = 100
# A Huffman code takes a bit or more for each block of 8 x 8, and at least one component has four
# blocks in a row or column where another has one for 32 x 32.
_MAX_PIXELS_PER_JPEG_BYTE = 1024

_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_PNG_MODES = {0: "grey", 2: "rgb", 3: "palette", 4: "grey_alpha", 6: "rgba"}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_MAX_DEFLATE_RATIO = 1032  # 258 bytes from two bits
# libpng inflates what follows the last pixel too, 2 s for a Gbyte. Of this many bytes it can make
# 540 MB at most, so only longer ones are inflated here first, to no more than the pixels need.
_INFLATED_UNSEEN = 1 << 19

# What else may come under an image's name, told from its first bytes.
_OTHER_FORMATS = (
    (re.compile(rb"GIF8"), "a GIF image"),
    (re.compile(rb"BM.{4}\0{4}", re.DOTALL), "a BMP image"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "a TIFF image"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "a WebP image"),
    (re.compile(rb".{4}ftyp(avif|avis)", re.DOTALL), "an AVIF image"),
    (re.compile(rb".{4}ftyp(hei|hev|mif1|msf1)", re.DOTALL), "a HEIC image"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "a JPEG 2000 image"),
    (re.compile(rb"\0{4}"), "empty: zero bytes at its start"),
    (re.compile(rb".{128}DICM", re.DOTALL), "a DICOM file"),
    (re.compile(rb"PK\x03\x04|PK\x05\x06"), "a ZIP archive"),
    (re.compile(rb"\x1f\x8b"), "a gzip archive"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body)", re.IGNORECASE), "HTML"),
    (re.compile(rb"(\xef\xbb\xbf)?\s*<"), "XML, such as an SVG image"),
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer"),
    (re.compile(rb"(\xef\xbb\xbf)?[\t\n\r\x20-\x7e]{1,64}"), "text"),
)


@dataclasses.dataclass(frozen=True)
class Header:
    """What a whole JPEG or PNG says of itself.

    Attributes:
      height: of the image as it is stored, before the EXIF orientation turns it.
      width: likewise.
      mode: "rgb", "grey", "cmyk" (JPEG; of YCCK too), "palette", "grey_alpha" or "rgba" (PNG), with
        "16" at its end where a PNG has 16 bits a channel.
      orientation: EXIF's, 1 to 8; 1 where there is none that can be read.
      data: what to decode: the file, or a PNG's chunks that say what its pixels are.
    """

    height: int
    width: int
    mode: str
    orientation: int
    data: bytes


def read(data: bytes) -> Header:
    """Follows a file's markers or chunks to its end, and decodes nothing.

    OpenCV before 5 fills the missing part of a truncated JPEG with grey and reports nothing, so
    the markers are followed to the end here.

    Raises:
      InputError: the data are empty, neither JPEG nor PNG, cut short, broken, or of another size
        than 1 to 65,535 pixels a side, 100 Mpixel and 200 Mbyte.
    """
    if not data:
        raise InputError("the file is empty")
    check_bytes(len(data))
    if data.startswith(_JPEG_START):
        return _read_jpeg(data)
    if data.startswith(_PNG_START):
        return _read_png(data)
    raise InputError(f"neither a JPEG nor a PNG file: it seems to be {_other_format(data)}")


def check_bytes(num_bytes: int) -> None:
    """Refuses a file that is too large to be read at all, with InputError."""
    if num_bytes > MAX_BYTES:
        raise InputError(f"absurd size: {num_bytes} bytes, expected at most {MAX_BYTES}")


def _check_size(height: int, width: int) -> None:
    if not 0 < height * width <= MAX_PIXELS or max(height, width) > MAX_SIDE:
        raise InputError(
            f"absurd size: {width} x {height} pixels, expected 1 to {MAX_SIDE} a side and at most"
            f" {MAX_PIXELS // 1_000_000} Mpixel"
        )


def _other_format(data: bytes) -> str:
    for pattern, name in _OTHER_FORMATS:
        if pattern.match(data):
            return name
    return "of no format known here"


def _read_jpeg(data: bytes) -> Header:
    """Follows the markers (ITU T.81, B.1) from the start of the image to its end."""
    frame, frame_marker, orientation, num_scans = b"", 0, 0, 0
    position = 2
    scan_ends: Iterator[int] = iter(())
    for number in itertools.count():
        if number == _MAX_PARTS:
            raise InputError(f"the JPEG is broken: more than {_MAX_PARTS} segments")
        fill = _FILL.match(data, position)
        position = fill.end() - 1 if fill else position
        if len(data) < position + 2:
            raise InputError("the JPEG is cut short")
        if data[position] != 0xFF:
            raise InputError(f"the JPEG is broken: no marker at byte {position}")
        marker = data[position + 1]
        if marker == _END_OF_IMAGE:
            break
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        end = position + 2 + length
        if len(data) < max(end, position + 4):
            raise InputError("the JPEG is cut short")
        if length < 2:
            raise InputError(f"the JPEG is broken: a segment of {length} bytes at byte {position}")
        if marker in _START_OF_FRAME:
            if frame:
                raise InputError(f"the JPEG is broken: a second frame at byte {position}")
            frame, frame_marker = data[position + 4 : end], marker
        elif marker == _EXIF_SEGMENT and not orientation:
            segment = data[position + 4 : end]
            if segment.startswith(_EXIF_START):
                orientation = _orientation(segment[len(_EXIF_START) :])
        position = end
        if marker == _START_OF_SCAN:
            num_scans += 1
            if num_scans > _MAX_SCANS:
                raise InputError(f"the JPEG is broken: more than {_MAX_SCANS} scans")
            if num_scans == 1:
                scan_ends = _scan_ends(data, position)
            found = next((end for end in scan_ends if end >= position), None)
            if found is None:
                raise InputError("the JPEG is cut short")
            position = found
    if len(frame) < 6 or not num_scans:
        raise InputError("the JPEG holds no image")
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    _check_size(height, width)
    if frame_marker in _HUFFMAN_FRAMES and height * width > _MAX_PIXELS_PER_JPEG_BYTE * len(data):
        raise InputError(
            f"absurd size: {width} x {height} pixels, which a JPEG of {len(data)} bytes can't hold"
        )
    mode = _JPEG_MODES.get(frame[5], f"{frame[5]} channels")
    return Header(height, width, mode, orientation or 1, data)


def _scan_ends(data: bytes, start: int) -> Iterator[int]:
    """Where a scan may end, from `start` on; a tenth of the time of a regular expression."""
    byte_N = np.frombuffer(data, np.uint8, offset=start)
    position_M = np.flatnonzero(byte_N[:-1] == 0xFF)
    position_M = position_M[_ENDS_SCAN[byte_N[position_M + 1]]]
    return iter((position_M + start).tolist())


def _read_png(data: bytes) -> Header:
    """Follows the chunks (PNG specification, 5.3) with their checksums to the last one.

    Chunks that pixels don't depend on stay behind: text and colour profiles may inflate without
    end. Transparency does too, since alpha is dropped.
    """
    chunks: dict[bytes, list[bytes]] = {}
    kept = [_PNG_START]
    position = len(_PNG_START)
    for number in itertools.count():
        if b"IEND" in chunks:
            break
        if number == _MAX_PARTS:
            raise InputError(f"the PNG is broken: more than {_MAX_PARTS} chunks")
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        if len(data) < end:
            raise InputError("the PNG is cut short")
        checksum = int.from_bytes(data[end - 4 : end], "big")
        if zlib.crc32(data[position + 4 : end - 4]) != checksum:
            raise InputError(f"the PNG is broken: a wrong checksum in the chunk at byte {position}")
        name = data[position + 4 : position + 8]
        if name in _PNG_KEPT:
            kept.append(data[position:end])
        chunks.setdefault(name, []).append(data[position + 8 : end - 4])
        position = end
    headers = chunks.get(b"IHDR", [])
    if len(headers) != 1 or len(headers[0]) != 13 or kept[1][4:8] != b"IHDR":
        raise InputError("the PNG is broken: its header is missing, repeated or of another length")
    width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", headers[0])
    _check_size(height, width)
    if colour not in _PNG_MODES:
        raise InputError(f"the PNG is broken: colour type {colour}")
    mode = _PNG_MODES[colour] + ("16" if depth == 16 else "")
    num_bytes = height * (1 + -(-width * depth * _PNG_CHANNELS[colour] // 8))
    _check_image_data(chunks.get(b"IDAT", []), num_bytes, f"{width} x {height} pixels")
    exif = chunks.get(b"eXIf", [b""])[0]
    return Header(height, width, mode, _orientation(exif) or 1, b"".join(kept))


def _check_image_data(parts: list[bytes], num_bytes: int, size: str) -> None:
    """Refuses a deflated stream that can't give the pixels, or that may give far more."""
    length = sum(map(len, parts))
    if num_bytes > _MAX_DEFLATE_RATIO * (length + 1):
        raise InputError(f"absurd size: {size}, which {length} bytes of image data can't hold")
    if length <= _INFLATED_UNSEEN:
        return
    # Twice, since interlacing adds rows.
    stream, most = zlib.decompressobj(), 2 * num_bytes + 4096
    try:
        for part in parts:
            while part and most > 0:
                most -= len(stream.decompress(part, min(most, 1 << 20)))
                part = stream.unconsumed_tail
    except zlib.error as error:
        raise InputError(f"the PNG is broken: {error}") from None
    if most <= 0:
        raise InputError(f"the PNG is broken: its image data inflate to more than {size} need")


def _orientation(exif: bytes) -> int:
    """The orientation in the first directory of a TIFF structure (Exif 2.3, 4.6); 0 if none."""
    order: Literal["little", "big"] = "little" if exif.startswith(b"II") else "big"

    def number(start: int, length: int) -> int:
        return int.from_bytes(exif[start : start + length], order)

    if exif[:2] not in (b"II", b"MM") or number(2, 2) != 42:
        return 0
    directory = number(4, 4)
    for entry in range(directory + 2, directory + 2 + 12 * number(directory, 2), 12):
        if entry + 12 > len(exif):
            return 0
        if number(entry, 2) == _ORIENTATION_TAG and number(entry + 2, 2) == _SHORT:
            value = number(entry + 8, 2)
            return value if 1 <= value <= 8 else 0
    return 0
