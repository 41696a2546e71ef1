import cv2
import numpy as np
import pytest
from PIL import Image

from skinjax.data import contact_sheet, preprocess

PICTURES = [
    np.random.default_rng(0).integers(0, 256, (45, 60, 3), dtype=np.uint8),
    np.full((2, 50, 3), 90, np.uint8),
    np.full((1, 1, 3), 255, np.uint8),
]
TITLES = [r"ISIC_0024306 $\x$", "a long name of a class of which not everything fits", ""]


def test_writes_a_sheet_for_each_step(tmp_path):
    directory = tmp_path / "sheets"
    paths = contact_sheet.write_all(directory, PICTURES, TITLES, 32)
    assert [path.stem for path in paths] == [*preprocess.STEPS, "resize"]
    assert sorted(directory.iterdir()) == sorted(paths)
    for path in paths:
        with Image.open(path) as sheet:
            assert sheet.format == "PNG"
            assert "Software" not in sheet.info
            assert min(sheet.size) > 100


def test_shows_before_and_after(tmp_path):
    # A cast of one colour, that colour constancy turns grey.
    picture_HWC = np.full((80, 80, 3), (200, 100, 100), np.uint8)
    contact_sheet.write(tmp_path / "a.png", [picture_HWC], "color_constancy", ["a"])
    sheet_HWC = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    before_HW = (sheet_HWC == (200, 100, 100)).all(axis=-1)
    after = preprocess.STEPS["color_constancy"](picture_HWC)[0, 0]
    after_HW = (sheet_HWC == after).all(axis=-1)
    assert before_HW.sum() == pytest.approx((1.7 * 110) ** 2, rel=0.05)
    assert after_HW.sum() == pytest.approx((1.7 * 110) ** 2, rel=0.05)
    assert np.median(np.nonzero(before_HW)[0]) + 180 < np.median(np.nonzero(after_HW)[0])


def test_nothing_touches_the_edge(tmp_path):
    for path in contact_sheet.write_all(tmp_path, PICTURES, TITLES, 32):
        sheet_HWC = cv2.imread(str(path))
        for edge in (sheet_HWC[:3], sheet_HWC[-3:], sheet_HWC[:, :3], sheet_HWC[:, -3:]):
            assert edge.min() == 255


def test_gives_the_same_bytes_again(tmp_path):
    for name in ("a.png", "b.png"):
        contact_sheet.write(tmp_path / name, PICTURES, "clahe", TITLES)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_needs_an_image(tmp_path):
    with pytest.raises(ValueError, match="needs an image"):
        contact_sheet.write(tmp_path / "a.png", [], "clahe", [])
