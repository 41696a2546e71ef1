import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skinjax.data import dermoscopy, images

STEPS = (
    dermoscopy.clahe,
    dermoscopy.remove_hair,
    dermoscopy.color_constancy,
    dermoscopy.crop_border,
)
REAL_DIR = Path(__file__).parents[3] / "shared" / "data" / "ham10000"
SHAPES = [(1, 1), (2, 500), (500, 2), (7, 3), (450, 600)]


def skin(height: int = 450, width: int = 600, seed: int = 0) -> np.ndarray:
    """Smooth skin with a round lesion and a little noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - height / 2, columns - width / 2) / min(height, width)
    lesion = 1 / (1 + np.exp((distance - 0.2) * 40))[..., None]
    image = np.array([220, 170, 150]) * (1 - lesion) + np.array([120, 70, 50]) * lesion
    return np.clip(image + rng.normal(0, 1, image.shape), 0, 255).astype(np.uint8)


def with_hair(image_HWC: np.ndarray, num_hairs: int = 15) -> np.ndarray:
    hairy_HWC = image_HWC.copy()
    height, width = image_HWC.shape[:2]
    rng = np.random.default_rng(1)
    for _ in range(num_hairs):
        start, end = ((int(rng.integers(width)), int(rng.integers(height))) for _ in range(2))
        cv2.line(hairy_HWC, start, end, (40, 30, 30), max(1, width // 200), cv2.LINE_AA)
    return hairy_HWC


def under_scope(image_HWC: np.ndarray, radius: float, squash: float = 1) -> np.ndarray:
    """Blacks out all but a disc in the middle, or an ellipse that is narrower by `squash`."""
    height, width = image_HWC.shape[:2]
    rows, columns = np.ogrid[:height, :width]
    outside = np.hypot((rows - height / 2), (columns - width / 2) * squash) > radius
    return np.where(outside[..., None], np.uint8(4), image_HWC)


def real_images(count: int) -> list[np.ndarray]:
    paths = sorted(itertools.islice(REAL_DIR.glob("*/*.jpg"), count))
    if not paths:
        pytest.skip("the HAM10000 images are not on this machine")
    return [images.decode(path) for path in paths]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", [0, 128, 255])
def test_takes_any_size_and_flat_images(step, shape, level):
    result_HWC = step(np.full((*shape, 3), level, np.uint8))
    assert result_HWC.dtype == np.uint8
    assert result_HWC.shape == (*shape, 3)


@settings(max_examples=60, deadline=None)
@given(
    step=st.sampled_from(STEPS),
    image_HWC=hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
)
def test_is_pure(step, image_HWC):
    before_HWC = image_HWC.copy()
    result_HWC = step(image_HWC)
    np.testing.assert_array_equal(image_HWC, before_HWC)
    assert not np.shares_memory(result_HWC, image_HWC)
    assert result_HWC.flags.c_contiguous
    np.testing.assert_array_equal(step(image_HWC), result_HWC)


def test_clahe_equalises_the_lightness_alone():
    image_HWC = skin()
    lab_HWC = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2LAB)
    lab_HWC[..., 0] = cv2.createCLAHE(3.0, (4, 4)).apply(lab_HWC[..., 0])
    expected_HWC = cv2.cvtColor(lab_HWC, cv2.COLOR_LAB2RGB)
    np.testing.assert_array_equal(dermoscopy.clahe(image_HWC, 3.0, 4), expected_HWC)
    default_HWC = dermoscopy.clahe(image_HWC, 2.0, 8)
    np.testing.assert_array_equal(dermoscopy.clahe(image_HWC), default_HWC)
    assert (default_HWC != expected_HWC).any()


def test_clahe_raises_the_contrast():
    for image_HWC in (skin(), *real_images(3)):
        assert dermoscopy.clahe(image_HWC).std() > image_HWC.std()


def test_remove_hair_is_black_hat_and_telea():
    image_HWC = with_hair(skin())
    kernel = cv2.getStructuringElement(cv2.MORPH_CROSS, (17, 17))
    grey_HW = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY)
    closed_HW = cv2.erode(cv2.dilate(grey_HW, kernel), kernel)
    mask_HW = (cv2.subtract(closed_HW, grey_HW) > 10).astype(np.uint8)
    expected_HWC = cv2.inpaint(image_HWC, mask_HW, 1, cv2.INPAINT_TELEA)
    np.testing.assert_array_equal(dermoscopy.remove_hair(image_HWC), expected_HWC)


@pytest.mark.parametrize(("height", "width"), [(225, 300), (450, 600), (900, 1200)])
def test_remove_hair_removes_hair(height, width):
    clean_HWC = skin(height, width)
    hairy_HWC = with_hair(clean_HWC)
    result_HWC = dermoscopy.remove_hair(hairy_HWC)

    def error(image_HWC: np.ndarray) -> float:
        return float(np.abs(image_HWC.astype(int) - clean_HWC).mean())

    assert error(result_HWC) < 0.2 * error(hairy_HWC)


def test_remove_hair_leaves_what_has_none():
    clean_HWC = skin()
    change = np.abs(dermoscopy.remove_hair(clean_HWC).astype(int) - clean_HWC)
    assert change.mean() < 0.1
    # Of real skin with few hairs most pixels stay as they are.
    for image_HWC in real_images(5):
        unchanged_HW = (dermoscopy.remove_hair(image_HWC) == image_HWC).all(axis=-1)
        assert unchanged_HW.mean() > 0.5


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [(450, 600, 17), (600, 450, 17), (1, 1, 3), (2, 500, 11), (224, 224, 7), (1800, 2400, 69)],
)
def test_the_kernel_grows_with_the_image(height, width, side):
    assert dermoscopy.hair_kernel_side(height, width) == side


def minkowski(image_HWC: np.ndarray, power: float) -> np.ndarray:
    return ((image_HWC / 255) ** power).mean(axis=(0, 1)) ** (1 / power)


def test_color_constancy_follows_its_formula():
    image_HWC = skin(40, 60)
    light_C = minkowski(image_HWC, 6)
    unit_C = light_C / np.linalg.norm(light_C)
    expected_HWC = np.clip(np.rint(image_HWC / (np.sqrt(3) * unit_C)), 0, 255)
    np.testing.assert_array_equal(dermoscopy.color_constancy(image_HWC), expected_HWC)


def test_color_constancy_takes_a_cast_out():
    grey_HWC = np.repeat(skin()[..., :1], 3, axis=-1)
    cast_HWC = np.clip(grey_HWC * np.array([0.9, 0.7, 0.6]), 0, 255).astype(np.uint8)
    light_C = minkowski(dermoscopy.color_constancy(cast_HWC), 6)
    np.testing.assert_allclose(light_C, light_C.mean(), rtol=0.01)
    for image_HWC in real_images(5):
        result_HWC = dermoscopy.color_constancy(image_HWC)
        before_C, after_C = minkowski(image_HWC, 6), minkowski(result_HWC, 6)
        assert np.ptp(after_C) < 0.5 * np.ptp(before_C)


def test_color_constancy_leaves_grey_and_black_channels_alone():
    grey_HWC = np.repeat(skin()[..., :1], 3, axis=-1)
    np.testing.assert_array_equal(dermoscopy.color_constancy(grey_HWC), grey_HWC)
    red_HWC = skin() * np.array([1, 0, 0], np.uint8)
    np.testing.assert_array_equal(dermoscopy.color_constancy(red_HWC), red_HWC)


@pytest.mark.parametrize("scale", [1, 3])
def test_crop_border_finds_the_disc(scale):
    image_HWC = under_scope(skin(450 * scale, 600 * scale), 200 * scale)
    result_HWC = dermoscopy.crop_border(image_HWC)
    height, width = result_HWC.shape[:2]
    assert abs(height - 360 * scale) <= 6 * scale
    assert abs(width - 360 * scale) <= 6 * scale
    top, left = (450 * scale - height) // 2, (600 * scale - width) // 2
    centred_HWC = image_HWC[top : top + height, left : left + width]
    assert np.abs(result_HWC.mean(axis=(0, 1)) - centred_HWC.mean(axis=(0, 1))).max() < 2
    assert dermoscopy.crop_border(image_HWC, margin=0).shape[0] > height + 30 * scale


def test_crop_border_finds_a_disc_that_goes_beyond_the_image():
    result_HWC = dermoscopy.crop_border(under_scope(skin(), 280))
    assert result_HWC.shape[0] == 450
    assert abs(result_HWC.shape[1] - 504) <= 6


def test_crop_border_finds_a_disc_that_was_squashed():
    squashed_HWC = images.resize(under_scope(skin(), 200), 224)
    height, width = dermoscopy.crop_border(squashed_HWC).shape[:2]
    assert abs(height - 0.9 * 400 / 450 * 224) <= 5
    assert abs(width - 0.9 * 400 / 600 * 224) <= 5


def test_crop_border_finds_a_disc_under_hair_and_around_a_black_lesion():
    image_HWC = with_hair(skin())
    cv2.circle(image_HWC, (300, 225), 120, (10, 5, 5), -1)
    height, width = dermoscopy.crop_border(under_scope(image_HWC, 200)).shape[:2]
    assert abs(height - 360) <= 8
    assert abs(width - 360) <= 8


def test_crop_border_finds_a_disc_with_a_black_lesion_at_its_edge():
    image_HWC = skin()
    cv2.circle(image_HWC, (480, 225), 60, (5, 5, 5), -1)
    height, width = dermoscopy.crop_border(under_scope(image_HWC, 200)).shape[:2]
    assert abs(height - 360) <= 4
    assert abs(width - 360) <= 4


def bars() -> np.ndarray:
    image_HWC = skin()
    image_HWC[:60] = image_HWC[-60:] = 0
    return image_HWC


def black_lesion() -> np.ndarray:
    image_HWC = skin()
    cv2.circle(image_HWC, (300, 225), 150, (5, 5, 5), -1)
    return image_HWC


def window() -> np.ndarray:
    image_HWC = np.zeros((450, 600, 3), np.uint8)
    image_HWC[60:390, 80:520] = skin(330, 440)
    return image_HWC


@pytest.mark.parametrize(
    "image_HWC",
    [
        skin(), with_hair(skin()), black_lesion(), bars(), 255 - under_scope(skin(), 200),
        np.maximum(under_scope(skin(), 200), 90), under_scope(skin(), 60),
        np.clip(under_scope(skin(), 200), 55, 90), window(),
        np.where(under_scope(skin(), 200) > 4, np.uint8(240), np.uint8(70)),
        np.random.default_rng(0).integers(0, 256, (450, 600, 3), dtype=np.uint8),
    ],
    ids=["skin", "hair", "black_lesion", "bars", "inverted", "grey_border", "tiny", "dim", "window",
        "bright", "noise"],
)  # fmt: skip
def test_crop_border_leaves_images_without_a_black_round_border(image_HWC):
    np.testing.assert_array_equal(dermoscopy.crop_border(image_HWC), image_HWC)


def test_crop_border_leaves_a_few_black_pixels_alone():
    assert dermoscopy.crop_border(under_scope(skin(), 330), margin=0.3).shape[1] < 500
    assert dermoscopy.crop_border(under_scope(skin(), 345), margin=0.3).shape[1] == 600


def test_crop_border_is_rare_on_real_images():
    shapes = [
        (image_HWC.shape, dermoscopy.crop_border(image_HWC).shape) for image_HWC in real_images(100)
    ]
    assert sum(before != after for before, after in shapes) <= 10
    assert min(after[0] * after[1] / (before[0] * before[1]) for before, after in shapes) > 0.25
