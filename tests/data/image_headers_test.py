import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from skinjax.data import image_headers, images
from skinjax.errors import InputError

PICTURE_HWC = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def as_bytes(picture: Image.Image, form: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def png(width: int, height: int, image_data: bytes, *, extra: bytes = b"", kind: int = 2) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
    end = chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", image_data) + end


BOMB = zlib.compress(bytes(150 << 20), 1)  # 0.7 Mbyte


JPEG = as_bytes(Image.fromarray(PICTURE_HWC))
SMALL_PNG = png(10, 10, zlib.compress(bytes(310)))


@pytest.fixture
def no_decoding(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded it"))


@pytest.mark.parametrize(
    ("mode", "form", "expected"),
    [
        ("RGB", "JPEG", "rgb"), ("L", "JPEG", "grey"), ("CMYK", "JPEG", "cmyk"),
        ("RGB", "PNG", "rgb"), ("RGBA", "PNG", "rgba"), ("L", "PNG", "grey"),
        ("LA", "PNG", "grey_alpha"), ("P", "PNG", "palette"), ("1", "PNG", "grey"),
    ],
)  # fmt: skip
def test_reads_mode_and_size(mode, form, expected):
    header = image_headers.read(as_bytes(Image.fromarray(PICTURE_HWC).convert(mode), form))
    assert (header.mode, header.height, header.width, header.orientation) == (expected, 40, 60, 1)


def test_says_that_a_channel_has_16_bits():
    grey_HW = PICTURE_HWC[..., 0].astype(np.uint16)
    assert image_headers.read(as_bytes(Image.fromarray(grey_HW), "PNG")).mode == "grey16"
    assert (
        image_headers.read(cv2.imencode(".png", PICTURE_HWC.astype(np.uint16))[1].tobytes()).mode
        == "rgb16"
    )


def other_formats() -> list[tuple[bytes, str]]:
    picture = Image.fromarray(PICTURE_HWC)
    page = b"<!DOCTYPE html><html><body>Not found</body></html>"
    return [
        *((as_bytes(picture, form), form) for form in ("GIF", "BMP", "TIFF", "WebP")),
        (as_bytes(picture, "AVIF"), "AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (page, "HTML"),
        (b"\xef\xbb\xbf\n" + page.lower(), "HTML"),
        (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "XML"),
        (b"PK\x03\x04\x14\0", "ZIP"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"image_id,label\n", "text"),
        (bytes(1000), "zero bytes"),
        (bytes(range(1, 129)) + b"DICM", "DICOM"),
        (b"\x07\x80\xfe", "of no format known"),
    ]


@pytest.mark.parametrize(("data", "name"), other_formats())
def test_names_other_formats(data, name):
    with pytest.raises(InputError, match=rf"^neither a JPEG nor a PNG file: .*{name}.*$"):
        image_headers.read(data)


@pytest.mark.parametrize(("width", "height"), [(1, 90_000_000), (90_000_000, 1), (0, 10), (10, 0)])
def test_refuses_absurd_sides_of_a_png(width, height, no_decoding):
    with pytest.raises(InputError, match=f"^absurd size: {width} x {height} pixels, expected 1"):
        images.read_bytes(png(width, height, BOMB, kind=0))


def test_refuses_pixels_that_the_data_cannot_hold(no_decoding):
    with pytest.raises(InputError, match="absurd size: 9000 x 9000 pixels, which 12 bytes"):
        images.read_bytes(png(9000, 9000, zlib.compress(bytes(99))))
    frame = JPEG.index(b"\xff\xc0") + 5
    with pytest.raises(InputError, match=r"absurd size: 9000 x 9000 pixels, which a JPEG of"):
        images.read_bytes(JPEG[:frame] + struct.pack(">HH", 9000, 9000) + JPEG[frame + 4 :])


def test_takes_the_emptiest_images_there_are():
    blank = Image.new("L", (2000, 2000), 128)
    for data in (
        as_bytes(blank, progressive=True, optimize=True, quality=1),
        as_bytes(blank.convert("RGB"), progressive=True, optimize=True, quality=1, subsampling=2),
        as_bytes(blank.convert("1"), "PNG", compress_level=9),
    ):
        assert images.read_bytes(data).image_HWC.shape == (2000, 2000, 3)


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"iCCP", b"x\0\0" + BOMB),
        chunk(b"zTXt", b"x\0\0" + BOMB),
        chunk(b"iTXt", b"x\0\1\0\0\0" + BOMB),
    ],
    ids=["iCCP", "zTXt", "iTXt"],
)
def test_leaves_what_may_inflate_without_end_behind(extra):
    header = image_headers.read(png(10, 10, zlib.compress(bytes(310)), extra=extra))
    assert header.data == SMALL_PNG


def test_refuses_image_data_that_inflate_without_end(no_decoding):
    with pytest.raises(InputError, match="inflate to more than 10 x 10 pixels need"):
        images.read_bytes(png(10, 10, BOMB))


def test_takes_a_large_png_in_many_chunks():
    noise_HWC = np.random.default_rng(0).integers(0, 256, (600, 500, 3), dtype=np.uint8)
    data = images.encode_png(noise_HWC)
    assert data.count(b"IDAT") > 1
    assert len(data) > 1 << 19
    np.testing.assert_array_equal(images.read_bytes(data).image_HWC, noise_HWC)


def test_refuses_a_progressive_jpeg_of_endless_scans():
    data = as_bytes(Image.fromarray(PICTURE_HWC), progressive=True)
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    assert image_headers.read(data[:-2] + scan * 50 + data[-2:]).mode == "rgb"
    with pytest.raises(InputError, match="broken: more than 100 scans"):
        image_headers.read(data[:-2] + scan * 100 + data[-2:])


def test_refuses_broken_structures():
    frame = JPEG.index(b"\xff\xc0")
    second = JPEG[frame : frame + 19]
    for data, message in [
        (JPEG[:frame] + second + JPEG[frame:], "a second frame"),
        (JPEG[:2] + b"\xff\xe0\0\1" + JPEG[2:], "a segment of 1 bytes"),
        (JPEG[:20] + b"abc" + JPEG[20:], "no marker"),
        (SMALL_PNG[:8] + SMALL_PNG[33:], "its header is missing"),
        (SMALL_PNG[:33] + SMALL_PNG[8:], "its header is missing"),
        (SMALL_PNG[:8] + chunk(b"IDAT", b"") + SMALL_PNG[8:], "its header is missing"),
        (SMALL_PNG[:8] + chunk(b"IHDR", b"\0\0\0\1") + SMALL_PNG[33:], "its header is missing"),
        (png(10, 10, zlib.compress(bytes(310)), kind=5), "colour type 5"),
    ]:
        with pytest.raises(InputError, match=f"is broken: {message}"):
            image_headers.read(data)


def exif_jpeg(exif: bytes) -> bytes:
    content = b"Exif\0\0" + exif
    return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + JPEG[2:]


@pytest.mark.parametrize("order", ["<", ">"])
def test_reads_the_orientation_of_either_byte_order(order):
    start = b"II*\0" if order == "<" else b"MM\0*"
    entries = struct.pack(order + "HHIHH", 0x010F, 3, 1, 9, 0)
    entries += struct.pack(order + "HHIHH", 0x0112, 3, 1, 6, 0)
    exif = start + struct.pack(order + "IH", 8, 2) + entries
    assert image_headers.read(exif_jpeg(exif)).orientation == 6
    for damaged in (exif[:-1], exif[1:], exif[:4] + b"\xff\xff\xff\xff" + exif[8:], b"", b"II"):
        assert image_headers.read(exif_jpeg(damaged)).orientation == 1
    assert image_headers.read(exif_jpeg(exif.replace(b"\6", b"\x09"))).orientation == 1
    assert (
        image_headers.read(
            png(10, 10, zlib.compress(bytes(310)), extra=chunk(b"eXIf", exif))
        ).orientation
        == 6
    )


def test_does_not_follow_a_file_of_nothing_but_parts():
    # Each in Python; a file that is large enough would take minutes.
    comments = b"\xff\xfe\0\2" * 200_000
    with pytest.raises(InputError, match="the JPEG is broken: more than 100000 segments"):
        image_headers.read(JPEG[:2] + comments + JPEG[2:])
    with pytest.raises(InputError, match="the PNG is broken: more than 100000 chunks"):
        image_headers.read(SMALL_PNG[:33] + chunk(b"tEXt", b"") * 200_000 + SMALL_PNG[33:])
    fill = b"\xff" * 20_000_000
    assert image_headers.read(JPEG[:2] + fill + JPEG[2:]).width == 60


def test_refuses_an_absurd_file(tmp_path):
    path = tmp_path / "a.jpg"
    with path.open("wb") as file:
        file.truncate(10**12)  # a hole
    with pytest.raises(InputError, match=r"a\.jpg: absurd size: 1000000000000 bytes"):
        images.decode(path)
    with pytest.raises(InputError, match="absurd size: 200000001 bytes"):
        images.read_bytes(bytes(200_000_001))
