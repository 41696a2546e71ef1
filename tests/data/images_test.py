import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from skinjax.data import images
from skinjax.errors import InputError

# Smooth, so that JPEG keeps it within a few levels; the channels and the corners all differ.
_ROWS, _COLUMNS = np.mgrid[0:40, 0:60]
PICTURE_HWC = np.stack(
    [40 + 3 * _ROWS, 250 - 4 * _COLUMNS, 30 + 2 * _ROWS + _COLUMNS], axis=-1
).astype(np.uint8)


def as_bytes(picture: Image.Image, form: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def assert_alike(image_HWC: np.ndarray, data: bytes) -> None:
    """The two differ by how libjpeg is built."""
    expected_HWC = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_allclose(image_HWC, expected_HWC, atol=4)


JPEG = as_bytes(Image.fromarray(PICTURE_HWC), quality=95, subsampling=0)
PROGRESSIVE = as_bytes(Image.fromarray(PICTURE_HWC), quality=95, subsampling=0, progressive=True)
PNG = as_bytes(Image.fromarray(PICTURE_HWC), "PNG")


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, PNG, JPEG + b"\0" * 9])
def test_decodes_to_rgb(data):
    image_HWC = images.decode_bytes(data)
    assert image_HWC.dtype == np.uint8
    assert np.abs(image_HWC.astype(int) - PICTURE_HWC).max() <= (0 if data == PNG else 6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_applies_exif_rotation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = as_bytes(Image.fromarray(PICTURE_HWC), exif=exif, quality=95)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    image_HWC = images.decode_bytes(data)
    assert image_HWC.shape == expected.shape
    np.testing.assert_allclose(image_HWC, expected, atol=3)  # by how libjpeg is built


@pytest.mark.parametrize("orientation", range(1, 9))
def test_applies_exif_rotation_of_a_png(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = as_bytes(Image.fromarray(PICTURE_HWC), "PNG", exif=exif)
    decoded = images.read_bytes(data)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decoded.image_HWC, expected)
    assert decoded.image_HWC.flags.c_contiguous
    assert decoded.rotated == (orientation != 1)


@pytest.mark.parametrize(("mode", "name"), [("L", "grey"), ("CMYK", "cmyk"), ("RGB", "rgb")])
@pytest.mark.parametrize("progressive", [False, True])
def test_makes_rgb_of_every_jpeg(mode, name, progressive):
    picture = Image.fromarray(PICTURE_HWC).convert(mode)
    data = as_bytes(picture, quality=95, progressive=progressive)
    decoded = images.read_bytes(data)
    assert (decoded.mode, decoded.rotated) == (name, False)
    assert_alike(decoded.image_HWC, data)
    np.testing.assert_allclose(decoded.image_HWC, picture.convert("RGB"), atol=8)


def test_makes_rgb_of_adobes_jpegs():
    # Adobe's marker ends with how the channels were transformed: 1 is YCbCr, 2 is YCCK. The
    # picture is saved as it is, so each byte changed is the same picture seen otherwise.
    cmyk = as_bytes(Image.fromarray(PICTURE_HWC).convert("CMYK"), quality=95)
    transform = cmyk.index(b"Adobe") + 11
    ycck = cmyk[:transform] + b"\2" + cmyk[transform + 1 :]
    rgb = as_bytes(Image.fromarray(PICTURE_HWC), quality=95, subsampling=0, keep_rgb=True)
    for data in (cmyk, ycck, rgb):
        assert_alike(images.decode_bytes(data), data)
    assert np.abs(images.decode_bytes(cmyk).astype(int) - images.decode_bytes(ycck)).max() > 50
    assert_alike(images.decode_bytes(rgb), JPEG)


def test_takes_every_way_of_writing_a_jpeg():
    picture = Image.fromarray(PICTURE_HWC)
    thumbnail = b"Exif\0\0" + JPEG
    for data in (
        as_bytes(picture, restart_marker_blocks=2),
        as_bytes(picture, progressive=True, restart_marker_rows=1),
        as_bytes(picture, subsampling=2, optimize=True),
        as_bytes(picture, comment=b"\xff\xd9" * 9),
        JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + JPEG[2:],
        JPEG[:2] + b"\xff\xff\xff" + JPEG[2:-2] + b"\xff\xff" + JPEG[-2:],
        JPEG + JPEG,
        JPEG + b"\xff\xd8\xff trailing",
    ):
        assert_alike(images.decode_bytes(data), data)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("1", "grey"), ("L", "grey"), ("LA", "grey_alpha"), ("P", "palette"), ("RGB", "rgb"),
        ("RGBA", "rgba"), ("I;16", "grey16"),
    ],
)  # fmt: skip
def test_makes_rgb_of_every_png(mode, name):
    if mode == "I;16":
        picture = Image.fromarray(PICTURE_HWC[..., 0].astype(np.uint16) * 257)
        expected = np.repeat(PICTURE_HWC[..., :1], 3, axis=-1)
    else:
        picture = Image.fromarray(PICTURE_HWC).convert(mode)
        expected = np.asarray(picture.convert("RGB"))
    if mode in ("LA", "RGBA"):
        picture.putalpha(100)  # dropped, not composed
    decoded = images.read_bytes(as_bytes(picture, "PNG"))
    assert decoded.mode == name
    np.testing.assert_allclose(decoded.image_HWC, expected, atol=1)


def test_drops_transparency_of_a_palette_and_keeps_interlacing():
    palette = Image.fromarray(PICTURE_HWC).convert("P")
    data = as_bytes(palette, "PNG", transparency=bytes(256))
    np.testing.assert_array_equal(images.decode_bytes(data), palette.convert("RGB"))


def test_counts_the_smallest_side():
    assert images.read_bytes(JPEG, min_side=40).image_HWC.shape == PICTURE_HWC.shape
    with pytest.raises(InputError, match=r"^too small: 60 x 40 pixels, expected 41 a side$"):
        images.read_bytes(JPEG, min_side=41)


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, PNG], ids=["jpeg", "progressive", "png"])
def test_finds_every_truncation(data):
    for length in [0, 1, 2, 3, *range(4, len(data), 7), len(data) - 1]:
        with pytest.raises(InputError):
            images.decode_bytes(data[:length])


def test_finds_a_truncated_jpeg_whose_thumbnail_is_whole():
    thumbnail = b"Exif\0\0" + JPEG
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = JPEG[:2] + segment + JPEG[2:]
    assert images.decode_bytes(whole).shape == PICTURE_HWC.shape
    with pytest.raises(InputError, match="cut short"):
        images.decode_bytes(whole[:-40])


def test_finds_a_download_that_was_given_its_length_first():
    with pytest.raises(InputError, match="cut short"):
        images.decode_bytes(JPEG[:-200] + b"\0" * 200)


def test_finds_a_changed_byte_in_a_png():
    changed = bytearray(PNG)
    changed[len(PNG) // 2] ^= 1
    with pytest.raises(InputError, match="broken"):
        images.decode_bytes(bytes(changed))


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"<html>not found</html>", b"\xff\xd8\xff\xd9"])
def test_refuses_what_is_no_image(data):
    with pytest.raises(InputError):
        images.decode_bytes(data)


def test_refuses_absurd_sizes_by_the_header(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded it"))
    header = b"IHDR" + struct.pack(">IIBBBBB", 10_001, 10_000, 8, 2, 0, 0, 0)
    start = PNG[:12] + header + struct.pack(">I", zlib.crc32(header))
    with pytest.raises(InputError, match="10001 x 10000 pixels"):
        images.decode_bytes(start + PNG[33:])
    frame = JPEG.index(b"\xff\xc0") + 5
    large = JPEG[:frame] + struct.pack(">HH", 65_000, 2_000) + JPEG[frame + 4 :]
    with pytest.raises(InputError, match="2000 x 65000 pixels"):
        images.decode_bytes(large)


def test_decode_names_the_file(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(JPEG[:-9])
    with pytest.raises(InputError, match=r"a\.jpg: the JPEG is cut short"):
        images.decode(path)
    path.write_bytes(JPEG)
    np.testing.assert_array_equal(images.decode(path), images.decode_bytes(JPEG))


def test_resize_averages_areas_when_it_shrinks():
    image_HWC = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    expected = image_HWC.reshape(20, 2, 20, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(images.resize(image_HWC, 20), expected, atol=0.5001)


def test_resize_interpolates_when_it_grows():
    expected = cv2.resize(PICTURE_HWC, (120, 120), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(images.resize(PICTURE_HWC, 120), expected)


def test_resize_does_each_axis_its_own_way():
    # Stripes one pixel wide vanish if the columns are averaged, and alias if they are sampled.
    stripes_HWC = np.zeros((10, 60, 3), np.uint8)
    stripes_HWC[:, ::2] = 200
    np.testing.assert_allclose(images.resize(stripes_HWC, 30), 100, atol=1)


def test_resize_leaves_the_right_size_alone():
    square_HWC = PICTURE_HWC[:, :40]
    np.testing.assert_array_equal(images.resize(square_HWC, 40), square_HWC)


def test_encodings_come_back():
    np.testing.assert_array_equal(images.decode_bytes(images.encode_png(PICTURE_HWC)), PICTURE_HWC)
    again_HWC = images.decode_bytes(images.encode_jpeg(PICTURE_HWC))
    assert np.abs(again_HWC.astype(int) - PICTURE_HWC).max() <= 12
    worse = images.encode_jpeg(PICTURE_HWC, quality=10)
    assert len(worse) < len(images.encode_jpeg(PICTURE_HWC))


@pytest.mark.parametrize("size", [(450, 600), (451, 613), (512, 512), (300, 1000), (97, 64)])
@pytest.mark.parametrize("target", [(256, 256), (224, 224), (64, 64), (31, 200)])
def test_shrinks_to_the_bit_as_opencv_does(size, target):
    image_HWC = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    smaller = tuple(min(pair) for pair in zip(target, size, strict=True))
    expected_HWC = cv2.resize(image_HWC, smaller[::-1], interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(images.resize_to(image_HWC, *smaller), expected_HWC)
