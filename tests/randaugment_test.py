"""RandAugment's operations against Pillow and OpenCV, and its draws against their distribution."""

import math
from collections.abc import Callable

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from ml_collections import ConfigDict
from PIL import Image, ImageEnhance, ImageOps

from skinjax import image_ops, randaugment
from skinjax.config import default_config
from skinjax.errors import InputError

# Blends at these levels rarely come out whole, where Pillow's rounding would decide.
LEVELS = (-9.97, -8.93, -4.37, 0.0, 0.31, 5.13, 9.21, 9.97)
COLOUR = randaugment.OPERATIONS[: randaugment._ROTATE]
GEOMETRIC = randaugment.OPERATIONS[randaugment._ROTATE :]


def _settings(**fields: object) -> ConfigDict:
    names = "randaugment_operations", "randaugment_magnitude", "randaugment_magnitude_std"
    settings = default_config().augment
    return ConfigDict({**{name: settings[name] for name in names}, **fields})


def _images() -> np.ndarray:
    """Noise, a smooth image of few colours, a flat one and one of two values: (4, 20, 24, 3)."""
    rng = np.random.default_rng(0)
    noise_HWC = rng.integers(0, 256, (20, 24, 3))
    smooth_HWC = scipy.ndimage.gaussian_filter(rng.normal(size=(20, 24, 3)), (3, 3, 0))
    smooth_HWC = 60 + 90 * (smooth_HWC - smooth_HWC.min()) / np.ptp(smooth_HWC)
    flat_HWC = np.broadcast_to([203, 101, 0], (20, 24, 3))
    two_HWC = rng.integers(0, 2, (20, 24, 3)) * 94 + 23
    return np.stack([noise_HWC, smooth_HWC, flat_HWC, two_HWC]).astype(np.uint8)


def _factor(level: float) -> float:
    return 1 + 0.09 * level


def _solarize_add(image: Image.Image, level: float) -> Image.Image:
    add = int(11 * abs(level))
    return image.point([min(255, i + add) if i < 128 else i for i in range(256)] * 3)


def _pillow(name: str) -> Callable[[Image.Image, float], Image.Image]:
    """Pillow's function, with timm's arguments at a level."""
    return {
        "auto_contrast": lambda image, level: ImageOps.autocontrast(image),
        "equalize": lambda image, level: ImageOps.equalize(image),
        "invert": lambda image, level: ImageOps.invert(image),
        "posterize": lambda image, level: ImageOps.posterize(
            image, max(1, 4 - int(abs(level) / 10 * 4))
        ),
        "solarize": lambda image, level: ImageOps.solarize(
            image, 256 - min(256, int(abs(level) / 10 * 256))
        ),
        "solarize_add": _solarize_add,
        "contrast": lambda image, level: ImageEnhance.Contrast(image).enhance(_factor(level)),
        "brightness": lambda image, level: ImageEnhance.Brightness(image).enhance(_factor(level)),
        "color": lambda image, level: ImageEnhance.Color(image).enhance(_factor(level)),
        "sharpness": lambda image, level: ImageEnhance.Sharpness(image).enhance(_factor(level)),
    }[name]


def _side_by_side(image_BHWC: jax.Array, operation: jax.Array, level: jax.Array) -> jax.Array:
    return jax.vmap(randaugment.colour_operation, (0, None, None))(image_BHWC, operation, level)


def _one_by_one(image_BHWC: jax.Array, operation: jax.Array, level: jax.Array) -> jax.Array:
    shape = (len(image_BHWC), 1)
    return randaugment.colour(image_BHWC, jnp.full(shape, operation), jnp.full(shape, level))


_RUNS = {"side by side": jax.jit(_side_by_side), "one by one": jax.jit(_one_by_one)}


@pytest.mark.parametrize("run", _RUNS)
@pytest.mark.parametrize("name", COLOUR)
def test_colour_operations_are_pillows(name: str, run: str):
    image_BHWC, operation = _images(), randaugment.OPERATIONS.index(name)
    for level in LEVELS:
        result_BHWC = np.asarray(_RUNS[run](image_BHWC, operation, level))
        assert result_BHWC.dtype == np.uint8
        expected_BHWC = np.stack(
            [np.asarray(_pillow(name)(Image.fromarray(one), level)) for one in image_BHWC]
        )
        difference = np.abs(result_BHWC.astype(int) - expected_BHWC)
        assert difference.max() <= 1, level
        assert (difference > 0).mean() < 0.01, level


@pytest.mark.parametrize("name", ["solarize", "solarize_add", "contrast", "color", "sharpness"])
def test_level_zero_changes_nothing(name: str):
    image_BHWC = _images()
    result = _RUNS["one by one"](image_BHWC, randaugment.OPERATIONS.index(name), 0.0)
    np.testing.assert_array_equal(result, image_BHWC)


@pytest.mark.parametrize("name", GEOMETRIC)
def test_geometric_operations_leave_the_colours_alone(name: str):
    image_BHWC, operation = _images(), randaugment.OPERATIONS.index(name)
    for run in _RUNS.values():
        np.testing.assert_array_equal(run(image_BHWC, operation, 9.0), image_BHWC)


def _expected_matrix(name: str, level: float, shape: tuple[int, int]) -> np.ndarray:
    """Output to input, (3, 3), about the centre: by OpenCV, and by hand from timm's ranges."""
    height, width = shape
    centre = (width - 1) / 2, (height - 1) / 2
    matrix_33 = np.eye(3)
    if name == "rotate":
        forward_23 = cv2.getRotationMatrix2D(centre, 3 * level, 1.0)
        matrix_33[:2] = cv2.invertAffineTransform(forward_23)
    elif name == "shear_x":
        matrix_33[0] = [1, 0.03 * level, -0.03 * level * centre[1]]
    elif name == "shear_y":
        matrix_33[1] = [0.03 * level, 1, -0.03 * level * centre[0]]
    elif name == "translate_x":
        matrix_33[0, 2] = 0.045 * level * width
    elif name == "translate_y":
        matrix_33[1, 2] = 0.045 * level * height
    return matrix_33


_geometry = jax.jit(randaugment.geometry, static_argnums=0)


@pytest.mark.parametrize("name", randaugment.OPERATIONS)
def test_geometry_is_that_of_timms_ranges(name: str):
    operation_1 = jnp.array([randaugment.OPERATIONS.index(name)])
    for level in LEVELS:
        matrix_23 = _geometry((20, 31, 3), operation_1, jnp.array([level]))
        expected_33 = _expected_matrix(name, level, (20, 31))
        np.testing.assert_allclose(matrix_23, expected_33[:2], atol=2e-5)


def test_geometric_operations_are_joined_in_their_order():
    names, level_4 = ("rotate", "invert", "translate_x", "shear_y"), [9.0, 9.0, -4.0, 6.0]
    operation_4 = jnp.array([randaugment.OPERATIONS.index(name) for name in names])
    matrix_23 = _geometry((24, 24, 3), operation_4, jnp.array(level_4))
    expected_33 = np.eye(3)
    for name, level in zip(names, level_4, strict=True):
        expected_33 = expected_33 @ _expected_matrix(name, level, (24, 24))
    np.testing.assert_allclose(matrix_23, expected_33[:2], atol=1e-5)


def test_positive_shear_and_translation_have_pillows_direction():
    # Pillow's shear keeps its corner in place: compare with the shift that this makes.
    image_HWC = np.asarray(Image.fromarray(_images()[1]).resize((48, 48), Image.Resampling.BICUBIC))
    pillow = Image.fromarray(image_HWC).transform(
        (48, 48), Image.Transform.AFFINE, (1, 0.15, -0.15 * 24, 0, 1, 0), Image.Resampling.BILINEAR
    )
    operation_1 = jnp.array([randaugment.OPERATIONS.index("shear_x")])
    matrix_23 = _geometry(image_HWC.shape, operation_1, jnp.array([5.0]))
    warped_HWC = np.asarray(jax.jit(image_ops.warp_affine)(image_HWC, matrix_23))
    inside = np.s_[6:-6, 6:-6]
    np.testing.assert_allclose(warped_HWC[inside], np.asarray(pillow)[inside], atol=1.01)


def test_colour_operations_follow_each_other():
    image_BHWC = _images()[:2]
    names = [("posterize", "rotate", "equalize"), ("sharpness", "color", "invert")]
    level_BN = np.array([[9.0, 9.0, 9.0], [8.0, -7.0, 3.0]], np.float32)
    operation_BN = np.array([[randaugment.OPERATIONS.index(name) for name in row] for row in names])
    result_BHWC = jax.jit(randaugment.colour)(image_BHWC, operation_BN, level_BN)
    for image_HWC, row, levels, result_HWC in zip(
        image_BHWC, names, level_BN, np.asarray(result_BHWC), strict=True
    ):
        expected = Image.fromarray(image_HWC)
        for name, level in zip(row, levels.tolist(), strict=True):
            expected = expected if name == "rotate" else _pillow(name)(expected, level)
        np.testing.assert_allclose(result_HWC, np.asarray(expected).astype(int), atol=2)


def test_images_do_not_depend_on_each_other():
    image_BHWC = _images()
    operation_BN = np.arange(8).reshape(4, 2)
    level_BN = np.full((4, 2), 7.0, np.float32)
    run = jax.jit(randaugment.colour)
    whole = np.asarray(run(image_BHWC, operation_BN, level_BN))
    for place in range(4):
        part = slice(place, place + 1)
        one = run(image_BHWC[part], operation_BN[part], level_BN[part])
        np.testing.assert_array_equal(one, whole[part])


def test_the_smallest_image():
    image_BHWC = _images()[:, :2, :2]
    operation = randaugment.OPERATIONS.index("sharpness")
    np.testing.assert_array_equal(_RUNS["one by one"](image_BHWC, operation, 9.0), image_BHWC)


def _draws(num_draws: int, **fields: object) -> tuple[np.ndarray, np.ndarray]:
    settings = _settings(**fields)
    key_B = jax.random.split(jax.random.key(0), num_draws)
    operation_BN, level_BN = jax.jit(jax.vmap(lambda key: randaugment.draw(key, settings)))(key_B)
    return np.asarray(operation_BN), np.asarray(level_BN)


def test_operations_are_drawn_uniformly_with_replacement():
    operation_BN, _ = _draws(5000, randaugment_operations=3)
    assert operation_BN.shape == (5000, 3)
    number = len(randaugment.OPERATIONS)
    for operation_B in operation_BN.T:
        count = np.bincount(operation_B, minlength=number)
        assert len(count) == number
        assert scipy.stats.chisquare(count).pvalue > 1e-3
    for first, second in ((0, 1), (0, 2), (1, 2)):
        same = (operation_BN[:, first] == operation_BN[:, second]).mean()
        assert same == pytest.approx(1 / number, abs=5 / math.sqrt(number * 5000))


def test_levels_are_normal_clipped_and_of_both_signs():
    _, level_BN = _draws(5000, randaugment_operations=2, randaugment_magnitude=6.0)
    magnitude = np.abs(level_BN).ravel()
    assert scipy.stats.kstest(magnitude, scipy.stats.norm(6.0, 0.5).cdf).pvalue > 1e-3
    assert (level_BN > 0).mean() == pytest.approx(0.5, abs=0.025)
    assert abs(np.corrcoef(level_BN.T)[0, 1]) < 5 / math.sqrt(5000)
    _, level_BN = _draws(
        1000, randaugment_operations=1, randaugment_magnitude=9.0, randaugment_magnitude_std=5.0
    )
    assert np.abs(level_BN).max() == 10
    assert (np.abs(level_BN) == 10).mean() == pytest.approx(scipy.stats.norm.sf(0.2), abs=0.08)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("randaugment_operations", -1),
        ("randaugment_operations", 11),
        ("randaugment_operations", 1.5),
        ("randaugment_operations", True),
        ("randaugment_magnitude", -0.1),
        ("randaugment_magnitude", 10.5),
        ("randaugment_magnitude", math.nan),
        ("randaugment_magnitude_std", -0.5),
        ("randaugment_magnitude_std", math.inf),
    ],
)
def test_check_names_the_field(name: str, value: object):
    with pytest.raises(InputError, match=rf"augment\.{name} is .*expected") as error:
        randaugment.check(_settings(**{name: value}))
    assert "\n" not in str(error.value)


def test_check_takes_the_ends_of_the_ranges():
    for count, number in ((0, 0.0), (10, 10.0)):
        randaugment.check(
            _settings(
                randaugment_operations=count,
                randaugment_magnitude=number,
                randaugment_magnitude_std=number,
            )
        )
