"""Image files to RGB arrays and back: decode with every check, resize, encode."""

import dataclasses
import stat
from pathlib import Path

import cv2
import numpy as np

from skinjax.data import image_headers
from skinjax.errors import InputError

JPEG_QUALITY = 95
_MAX_FLOATS = 12_000_000  # 48 MB; one photograph may have 100 Mpixel
# OpenCV's own reading of EXIF would not say whether it turned the image.
_DECODING = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


@dataclasses.dataclass(frozen=True)
class Decoded:
    """A decoded image and how its file held it.

    Attributes:
      image_HWC: uint8 (H, W, 3), RGB, upright.
      mode: see `image_headers.Header`.
      rotated: whether the EXIF orientation turned or mirrored it.
    """

    image_HWC: np.ndarray
    mode: str
    rotated: bool


def decode(path: Path) -> np.ndarray:
    """Reads one image file: `decode_bytes`, with the file's name in its errors."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device might not end
            raise InputError(f"it is {'a folder' if stat.S_ISDIR(status.st_mode) else 'no file'}")
        image_headers.check_bytes(status.st_size)
        return decode_bytes(path.read_bytes())
    except InputError as error:
        raise InputError(f"cannot read image {path}: {error}") from None


def decode_bytes(data: bytes) -> np.ndarray:
    """Decodes one JPEG or PNG to uint8 (H, W, 3), RGB: the image of `read_bytes`."""
    return read_bytes(data).image_HWC


def read_bytes(data: bytes, min_side: int = 1) -> Decoded:
    """Checks and decodes one JPEG or PNG.

    The EXIF orientation is applied; grey, CMYK, palette and 16-bit images become 8-bit RGB, and an
    alpha channel is dropped, not composed: the colours are those that the file has below it.

    A PNG's checksums tell any damage. A JPEG has none: damage in the middle of a scan that is
    otherwise complete can't be detected, since nearly any bits decode to some picture.

    Args:
      data: the file.
      min_side: height and width that the image must have, in pixels.

    Raises:
      InputError: the data are empty, neither JPEG nor PNG, cut short, broken, smaller than
        `min_side`, or of more than 100 Mpixel or 65,535 pixels a side (told from the header,
        before anything that large is decoded). The kind of fault comes before the first colon.
    """
    return decode_checked(image_headers.read(data), min_side)


def decode_checked(header: image_headers.Header, min_side: int = 1) -> Decoded:
    """The second half of `read_bytes`, for who wants to know an image's size before its pixels."""
    height, width = header.height, header.width
    if min(height, width) < min_side:
        raise InputError(f"too small: {width} x {height} pixels, expected {min_side} a side")
    try:
        image_HWC = cv2.imdecode(np.frombuffer(header.data, np.uint8), _DECODING)
    except cv2.error as error:
        raise InputError(f"OpenCV refused it: {' '.join(error.err.split())}") from None
    if image_HWC is None or image_HWC.shape != (height, width, 3):
        raise InputError("OpenCV could not decode it")
    return Decoded(_upright(image_HWC, header.orientation), header.mode, header.orientation > 1)


def decode_own(data: bytes, target_HWC: np.ndarray) -> None:
    """Decodes what `encode_jpeg` or `encode_png` wrote into an array of its size.

    Raises:
      InputError: the data are broken, or of another size.
    """
    image_HWC = cv2.imdecode(np.frombuffer(data, np.uint8), _DECODING)
    if image_HWC is None or image_HWC.shape != target_HWC.shape:
        found = "OpenCV can't decode it" if image_HWC is None else f"shape {image_HWC.shape}"
        raise InputError(f"{found}, expected an image of shape {target_HWC.shape}")
    target_HWC[...] = image_HWC


def _upright(image_HWC: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes EXIF's orientation, which says where the stored first row and column belong."""
    if orientation == 1:
        return image_HWC
    if orientation in (3, 4, 6, 7):
        image_HWC = image_HWC[::-1]
    if orientation in (2, 3, 7, 8):
        image_HWC = image_HWC[:, ::-1]
    if orientation >= 5:
        image_HWC = image_HWC.swapaxes(0, 1)
    return np.ascontiguousarray(image_HWC)


def resize(image_HWC: np.ndarray, size: int) -> np.ndarray:
    """Resizes to a square of `size` pixels; the aspect ratio is not kept. See `resize_to`."""
    return resize_to(image_HWC, size, size)


def resize_to(image_HWC: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes to `height` and `width`.

    Each axis that shrinks is averaged over areas (no aliasing); each that grows is interpolated
    linearly. OpenCV's INTER_AREA does neither well when one axis shrinks and the other grows, so
    the two are done one after the other.

    Args:
      image_HWC: uint8, any size.
      height: of the result, in pixels.
      width: of the result, in pixels.

    Returns:
      uint8 (height, width, C); the input itself when it has that size already.
    """
    given = image_HWC.shape[1], image_HWC.shape[0]
    smaller = (min(given[0], width), min(given[1], height))
    if smaller != given:
        image_HWC = _shrink(image_HWC, smaller)
    if smaller != (width, height):
        image_HWC = cv2.resize(image_HWC, (width, height), interpolation=cv2.INTER_LINEAR)
    return image_HWC


def _shrink(image_HWC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """INTER_AREA to (width, height): to the bit what OpenCV gives for uint8, in 3/4 of the time.

    OpenCV averages in float32 anyway, and is slow at converting each value on its way; but for
    whole factors, which it averages in integers.
    """
    height, width = image_HWC.shape[:2]
    whole = width % size[0] == 0 and height % size[1] == 0
    if whole or image_HWC.size > _MAX_FLOATS:
        return cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA)
    shrunk_HWC = cv2.resize(image_HWC.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return cv2.convertScaleAbs(shrunk_HWC)


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
