"""Image files to RGB arrays and back: decode with every check, resize, encode."""

import re
import zlib
from pathlib import Path

import cv2
import numpy as np

from skinjax.errors import InputError

MAX_PIXELS = 100_000_000
JPEG_QUALITY = 95

_JPEG_START = b"\xff\xd8"
_PNG_START = b"\x89PNG\r\n\x1a\n"
# Inside a JPEG scan, ff 00 is a stuffed byte and ff d0 .. ff d7 are restart markers; any other
# ff xx ends the scan.
_SCAN_END = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_END_OF_IMAGE = 0xD9
_START_OF_SCAN = 0xDA


def decode(path: Path) -> np.ndarray:
    """Reads one image file: `decode_bytes`, with the file's name in its errors."""
    try:
        return decode_bytes(path.read_bytes())
    except InputError as error:
        raise InputError(f"cannot read image {path}: {error}") from None


def decode_bytes(data: bytes) -> np.ndarray:
    """Decodes one JPEG or PNG.

    The EXIF rotation is applied; grey, CMYK, palette and 16-bit images become 8-bit RGB, and an
    alpha channel is dropped.

    A PNG's checksums tell any damage. A JPEG has none: damage in the middle of a scan that is
    otherwise complete can't be detected, since nearly any bits decode to some picture.

    Returns:
      uint8 (H, W, 3), RGB.

    Raises:
      InputError: the data are empty, neither JPEG nor PNG, cut short, broken, or of more than 100
        Mpixel (told from the header, before anything that large is decoded).
    """
    height, width = _checked_size(data)
    if not 0 < height * width <= MAX_PIXELS:
        raise InputError(
            f"{width} x {height} pixels: expected 1 pixel to {MAX_PIXELS // 1_000_000} Mpixel"
        )
    try:
        image_HWC = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise InputError(f"OpenCV refused it ({error.err})") from None
    if image_HWC is None:
        raise InputError("OpenCV could not decode it")
    return cv2.cvtColor(image_HWC, cv2.COLOR_BGR2RGB)


def resize(image_HWC: np.ndarray, size: int) -> np.ndarray:
    """Resizes to a square of `size` pixels; the aspect ratio is not kept.

    Each axis that shrinks is averaged over areas (no aliasing); each that grows is interpolated
    linearly. OpenCV's INTER_AREA does neither well when one axis shrinks and the other grows, so
    the two are done one after the other.

    Args:
      image_HWC: uint8, any size.
      size: side of the result, in pixels.

    Returns:
      uint8 (size, size, C); the input itself when it has that size already.
    """
    height, width = image_HWC.shape[:2]
    smaller = (min(width, size), min(height, size))
    if smaller != (width, height):
        image_HWC = cv2.resize(image_HWC, smaller, interpolation=cv2.INTER_AREA)
    if smaller != (size, size):
        image_HWC = cv2.resize(image_HWC, (size, size), interpolation=cv2.INTER_LINEAR)
    return image_HWC


def encode_png(image_HWC: np.ndarray) -> bytes:
    """Encodes uint8 RGB as PNG, without loss."""
    return _encode(".png", image_HWC, ())


def encode_jpeg(image_HWC: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """Encodes uint8 RGB as baseline JPEG."""
    return _encode(".jpg", image_HWC, (cv2.IMWRITE_JPEG_QUALITY, quality))


def _encode(ending: str, image_HWC: np.ndarray, options: tuple[int, ...]) -> bytes:
    done, data = cv2.imencode(ending, cv2.cvtColor(image_HWC, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f"OpenCV could not encode an image of shape {image_HWC.shape} as {ending}")
    return data.tobytes()


def _checked_size(data: bytes) -> tuple[int, int]:
    """Height and width from the header, of a file that is whole.

    OpenCV before 5 fills the missing part of a truncated JPEG with grey and reports nothing, so
    the markers are followed to the end here: 0.05 ms for a 224 px file, 11 ms for a 27 Mpixel one,
    an eighth of what decoding costs.
    """
    if not data:
        raise InputError("the file is empty")
    if data.startswith(_JPEG_START):
        return _checked_jpeg_size(data)
    if data.startswith(_PNG_START):
        return _checked_png_size(data)
    raise InputError("neither a JPEG nor a PNG file")


def _checked_jpeg_size(data: bytes) -> tuple[int, int]:
    """Follows the markers (ITU T.81, B.1) from the start of the image to its end."""
    size = None
    position = 2
    while True:
        while data[position : position + 2] == b"\xff\xff":  # fill bytes
            position += 1
        if len(data) < position + 2:
            raise InputError("the JPEG is cut short")
        if data[position] != 0xFF:
            raise InputError(f"the JPEG is broken at byte {position}")
        marker = data[position + 1]
        if marker == _END_OF_IMAGE:
            break
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if len(data) < position + 2 + max(length, 2):
            raise InputError("the JPEG is cut short")
        if marker in _START_OF_FRAME:
            frame = data[position + 5 : position + 9]
            size = (int.from_bytes(frame[:2], "big"), int.from_bytes(frame[2:], "big"))
        position += 2 + length
        if marker == _START_OF_SCAN:
            scan_end = _SCAN_END.search(data, position)
            if scan_end is None:
                raise InputError("the JPEG is cut short")
            position = scan_end.start(1) - 1
    if size is None:
        raise InputError("the JPEG holds no image")
    return size


def _checked_png_size(data: bytes) -> tuple[int, int]:
    """Follows the chunks (PNG specification, 5.3) with their checksums to the last one."""
    position = len(_PNG_START)
    while True:
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        if len(data) < end:
            raise InputError("the PNG is cut short")
        checksum = int.from_bytes(data[end - 4 : end], "big")
        if zlib.crc32(data[position + 4 : end - 4]) != checksum:
            raise InputError(f"the PNG is broken at byte {position}")
        if data[position + 4 : position + 8] == b"IEND":
            break
        position = end
    start = len(_PNG_START) + 8
    width = int.from_bytes(data[start : start + 4], "big")
    height = int.from_bytes(data[start + 4 : start + 8], "big")
    return height, width
