"""Damaged and misleading image files: each decodes to an image or raises one clear line.

libjpeg and libpng print what they find to the standard error, where pytest collects it.
"""

import io
import random
import resource
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from skinjax.data import images
from skinjax.errors import InputError

NUM_IMAGES = 500
MAX_SECONDS = 2.0  # of this thread on a core; pytest's timeout sees to the rest
MAX_GROWTH = 800 << 20  # bytes; 100 Mpixel are 300 Mbyte
PNG_START = b"\x89PNG\r\n\x1a\n"


def as_bytes(picture: Image.Image, form: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    values = Image.Exif()
    values[0x0112] = orientation
    values[0x010F] = "a maker of dermatoscopes"
    return values


rows, columns = np.mgrid[0:90, 0:120]
PICTURE = Image.fromarray(
    np.stack([40 + 2 * rows, 250 - 2 * columns, rows + columns], axis=-1).astype(np.uint8)
)
JPEGS = [
    as_bytes(PICTURE),
    as_bytes(PICTURE, progressive=True),
    as_bytes(PICTURE, restart_marker_blocks=3),
    as_bytes(PICTURE, exif=exif(6)),
    as_bytes(PICTURE.convert("L")),
    as_bytes(PICTURE.convert("CMYK")),
]
PNGS = [
    as_bytes(PICTURE, "PNG"),
    as_bytes(PICTURE.convert("P"), "PNG"),
    as_bytes(PICTURE.convert("RGBA"), "PNG"),
    as_bytes(PICTURE.convert("1"), "PNG"),
    as_bytes(PICTURE, "PNG", exif=exif(3), icc_profile=b"no profile"),
    as_bytes(Image.fromarray(np.asarray(PICTURE)[..., 0].astype(np.uint16) * 200), "PNG"),
]
FILES = JPEGS + PNGS
OTHERS = [as_bytes(PICTURE, form) for form in ("GIF", "BMP", "TIFF", "WebP", "AVIF", "PDF", "PPM")]
OTHERS += [
    b"<html>404</html>",
    b"PK\x03\x04" + bytes(99),
    b"text\n",
    b"\xff",
    b"\xff\xd8",
    PNG_START,
]


def flip_bits(rng: random.Random) -> bytes:
    data = bytearray(rng.choice(FILES))
    for _ in range(rng.choice((1, 1, 3, 30))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def flip_in_header(rng: random.Random) -> bytes:
    data = bytearray(rng.choice(JPEGS))
    end = data.index(b"\xff\xda") + 14
    for _ in range(rng.choice((1, 2, 5))):
        data[rng.randrange(2, end)] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
    return bytes(data)


def cut(rng: random.Random) -> bytes:
    data = rng.choice(FILES)
    return data[: rng.randrange(len(data))]


def cut_out(rng: random.Random) -> bytes:
    data = rng.choice(FILES)
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randrange(1, 300) :]


def insert(rng: random.Random) -> bytes:
    data = rng.choice(FILES)
    start = rng.randrange(len(data))
    return data[:start] + rng.randbytes(rng.randrange(1, 300)) + data[start:]


def zero(rng: random.Random) -> bytes:
    data = bytearray(rng.choice(FILES))
    start = rng.randrange(len(data))
    end = rng.choice((len(data), min(len(data), start + rng.randrange(1, 400))))
    data[start:end] = bytes(end - start)
    return bytes(data)


def other_format(rng: random.Random) -> bytes:
    data = rng.choice(OTHERS)
    return data if rng.random() < 0.6 else data[: rng.randrange(len(data))]


def swap_headers(rng: random.Random) -> bytes:
    one, other = rng.choice(FILES), rng.choice(FILES + OTHERS)
    length = rng.choice((2, 8, 16, 33, 200, 620))
    return one[:length] + other[rng.choice((0, length)) :]


def concatenate(rng: random.Random) -> bytes:
    one, other = rng.choice(FILES), rng.choice(FILES + OTHERS)
    return one[: rng.choice((len(one), len(one) - 2, len(one) - 12))] + other


def garbage(rng: random.Random) -> bytes:
    start = rng.choice((b"", b"\xff\xd8", b"\xff\xd8\xff\xe0", PNG_START, PNGS[0][:33]))
    return start + rng.randbytes(rng.choice((0, 1, 9, 5000)))


def damage_exif(rng: random.Random) -> bytes:
    data = bytearray(JPEGS[3])
    start = data.index(b"Exif")
    length = int.from_bytes(data[start - 2 : start], "big")
    for _ in range(rng.choice((1, 4, 20))):
        data[rng.randrange(start, start + length - 2)] = rng.choice((0, 0xFF, rng.randrange(256)))
    return bytes(data)


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, position = [], len(PNG_START)
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        found.append(
            (data[position + 4 : position + 8], data[position + 8 : position + 8 + length])
        )
        position += 12 + length
    return found


def as_png(parts: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG whose checksums are right, whatever it holds."""
    return PNG_START + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )


def damage_chunk(rng: random.Random) -> bytes:
    parts = chunks(rng.choice(PNGS))
    index = rng.randrange(len(parts))
    name, content = parts[index]
    damaged = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 3))):
        damaged[rng.randrange(len(damaged))] = rng.choice((0, 0xFF, rng.randrange(256)))
    parts[index] = (name, bytes(damaged))
    return as_png(parts)


def rearrange_chunks(rng: random.Random) -> bytes:
    parts = chunks(rng.choice(PNGS))
    index = rng.randrange(len(parts))
    how = rng.choice(("drop", "repeat", "shuffle", "rename", "cut", "empty"))
    name, content = parts[index]
    if how == "drop":
        del parts[index]
    elif how == "repeat":
        parts.insert(rng.randrange(len(parts)), parts[index])
    elif how == "shuffle":
        rng.shuffle(parts)
    elif how == "rename":
        parts[index] = (rng.choice((b"IDAT", b"PLTE", b"acTL", b"fdAT", b"IHDR", b"zzzz")), content)
    else:
        kept = rng.randrange(len(content) + 1) if how == "cut" else 0
        parts[index] = (name, content[:kept])
    return as_png(parts)


BOMB = zlib.compress(bytes(200 << 20), 1)  # 200 Mbyte of zeros in 0.9


def bomb_of_pixels(rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        data = rng.choice(JPEGS)
        frame = next(data.index(b) for b in (b"\xff\xc0", b"\xff\xc2") if b in data) + 5
        height, width = (rng.choice((0, 1, 90, 9999, 65_535)) for _ in range(2))
        return data[:frame] + struct.pack(">HH", height, width) + data[frame + 4 :]
    height, width = (rng.choice((0, 1, 90, 9999, 65_535, 90_000_000, 2**31)) for _ in range(2))
    depth, colour = rng.choice(((8, 2), (8, 0), (1, 0), (16, 6), (8, 3), (0, 9)))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, rng.choice((0, 0, 1)))
    image_data = rng.choice((BOMB, zlib.compress(bytes(999)), b""))
    extra = rng.choice((b"iCCP", b"zTXt", b"iTXt", b"eXIf", b"PLTE"))
    content = b"x\0\0" + BOMB if extra != b"PLTE" else bytes(3 * 256)
    return as_png([(b"IHDR", header), (extra, content), (b"IDAT", image_data), (b"IEND", b"")])


MUTATIONS = (
    flip_bits, flip_in_header, cut, cut_out, insert, zero, other_format, swap_headers, concatenate,
    garbage, damage_exif, damage_chunk, rearrange_chunks, bomb_of_pixels,
)  # fmt: skip


def outcome(data: bytes) -> str:
    """ "image", or the one line of the error; anything else fails the test."""
    start = time.thread_time()
    try:
        decoded = images.read_bytes(data)
    except InputError as error:
        message = str(error)
        assert message.isprintable()
        assert 10 < len(message) < 300
        return message
    finally:
        assert time.thread_time() - start < MAX_SECONDS
    image_HWC = decoded.image_HWC
    assert image_HWC.dtype == np.uint8
    assert image_HWC.ndim == 3
    assert image_HWC.shape[2] == 3
    assert 0 < image_HWC.size <= 3 * 100_000_000
    assert image_HWC.flags.c_contiguous
    return "image"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_decodes_or_says_why_not(mutation):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = [
        outcome(mutation(random.Random(number)))
        for number in range(-(-NUM_IMAGES // len(MUTATIONS)))
    ]
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert grown < MAX_GROWTH
    refused = [message for message in outcomes if message != "image"]
    # Damage to EXIF never costs the image; all the rest is refused now and then.
    assert (not refused) == (mutation is damage_exif)


def test_the_files_are_whole_before():
    assert {outcome(data) for data in FILES} == {"image"}


@pytest.mark.parametrize("mutation", [cut, other_format])
def test_never_takes_half_a_file_or_another_format(mutation):
    for number in range(40):
        assert outcome(mutation(random.Random(1000 + number))) != "image"


def test_every_cut_of_every_file_is_refused():
    for data in FILES:
        for length in range(0, len(data), 1 + len(data) // 60):
            assert outcome(data[:length]) != "image"
