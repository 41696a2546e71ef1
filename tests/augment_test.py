"""Augmentation's draws against what the config says, and its keys against the devices."""

import math

import cv2
import jax
import numpy as np
import pytest
import scipy.stats
from ml_collections import ConfigDict, FrozenConfigDict

from skinjax import augment, image_ops, randaugment
from skinjax.config import default_config
from skinjax.errors import InputError

NAN = math.nan
OFF = {
    "flip_horizontal": 0.0,
    "flip_vertical": 0.0,
    "rotation_degrees": 0.0,
    "crop_scale": (1.0, 1.0),
    "shear_degrees": 0.0,
    "shift": 0.0,
    "zoom": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "channel_shift": 0.0,
    "noise_std": 0.0,
    "randaugment_operations": 0,
    "randaugment_magnitude": 9.0,
    "randaugment_magnitude_std": 0.5,
    "erasing": 0.0,
    "erasing_area": (0.02, 0.33),
    "erasing_aspect": (0.3, 3.3),
    "mixup_alpha": 0.0,
    "cutmix_alpha": 0.0,
    "mix_probability": 1.0,
    "cutmix_share": 0.5,
}
STRONG = {
    **OFF,
    "flip_horizontal": 0.5,
    "flip_vertical": 0.5,
    "rotation_degrees": 180.0,
    "crop_scale": (0.6, 1.0),
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
    "hue": 0.1,
    "noise_std": 0.02,
}
EVERYTHING = {
    **STRONG,
    "shear_degrees": 20.0,
    "shift": 0.1,
    "zoom": 0.2,
    "channel_shift": 0.1,
    "randaugment_operations": 2,
    "erasing": 0.5,
}


_jitted = jax.jit(augment.augment, static_argnames="settings")


def _settings(**fields: object) -> ConfigDict:
    return ConfigDict({**OFF, **fields})


def _keys(batch_size: int, seed: int = 0) -> jax.Array:
    return augment.example_keys(jax.random.key(seed), 0, 0, batch_size)


def _images(batch_size: int, height: int = 12, width: int = 16) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (batch_size, height, width, 3), dtype=np.uint8)


def _run(image_BHWC: np.ndarray, key_B: jax.Array, config: ConfigDict) -> np.ndarray:
    return np.asarray(_jitted(image_BHWC, key_B, settings=FrozenConfigDict(config)))


def test_default_settings_are_valid_and_complete():
    config = default_config().augment
    augment.check(config)
    assert set(config) == set(OFF)


def test_all_off_is_the_image_over_255():
    image_BHWC = _images(3)
    result = _run(image_BHWC, _keys(3), _settings())
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, image_BHWC * np.float32(1 / 255))
    np.testing.assert_array_max_ulp(result, image_BHWC.astype(np.float32) / np.float32(255), 1)


@pytest.mark.parametrize(
    ("fields", "absent"),
    [
        ({}, ("gather", "dot(", "xor", "clamp")),
        ({"flip_horizontal": 0.5}, ("gather", "dot(", "clamp")),
        ({"noise_std": 0.1}, ("gather", "dot(")),
        ({"rotation_degrees": 5.0}, ("dot(",)),
        ({"channel_shift": 0.1}, ("gather", "dot(")),
        ({"erasing": 0.5}, ("dot(", "scatter")),
    ],
)
def test_zero_strength_compiles_to_nothing(fields: dict, absent: tuple):
    config = FrozenConfigDict(_settings(**fields))
    text = _jitted.lower(_images(2), _keys(2), settings=config).compile().as_text() or ""
    assert "multiply" in text
    for word in absent:
        assert word not in text, word


@pytest.mark.parametrize("shape", [(12, 16), (7, 7)])
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"flip_horizontal": 1.0}, 1),
        ({"flip_vertical": 1.0}, 0),
        ({"flip_horizontal": 1.0, "flip_vertical": 1.0}, -1),
    ],
)
def test_flips_are_opencvs_exactly(shape: tuple[int, int], fields: dict, code: int):
    image_BHWC = _images(2, *shape)
    result = _run(image_BHWC, _keys(2), _settings(**fields))
    for image_HWC, flipped_HWC in zip(image_BHWC, result, strict=True):
        expected = cv2.flip(image_HWC, code) * np.float32(1 / 255)
        np.testing.assert_array_equal(flipped_HWC, expected)


@pytest.mark.parametrize("warp", [False, True])
def test_flips_have_their_probability(warp: bool):
    # The left and the top half are bright: they tell each flip from what comes out.
    num_draws = 2000
    image_HWC = np.zeros((8, 8, 3), np.uint8)
    image_HWC[:, :4, 0] = image_HWC[:4, :, 1] = 255
    config = _settings(
        flip_horizontal=0.3, flip_vertical=0.6, rotation_degrees=1.0 if warp else 0.0
    )
    result = _run(np.tile(image_HWC, (num_draws, 1, 1, 1)), _keys(num_draws), config)
    flipped_x = result[:, :, 4:, 0].mean((1, 2)) > 0.5
    flipped_y = result[:, 4:, :, 1].mean((1, 2)) > 0.5
    # Five standard errors, 0.5 / sqrt(2000) at most.
    assert flipped_x.mean() == pytest.approx(0.3, abs=0.055)
    assert flipped_y.mean() == pytest.approx(0.6, abs=0.055)
    assert (flipped_x & flipped_y).mean() == pytest.approx(0.18, abs=0.055)


def test_rotation_and_crop_are_uniform():
    config = _settings(rotation_degrees=180.0, crop_scale=(0.6, 0.9))
    draw = jax.jit(jax.vmap(lambda key: augment.random_affine(key, (10, 20), config)))
    matrix_B23 = np.asarray(draw(_keys(2000)))
    side_B = np.hypot(matrix_B23[:, 0, 0], matrix_B23[:, 1, 0])
    degrees_B = np.rad2deg(np.arctan2(matrix_B23[:, 1, 0], matrix_B23[:, 0, 0]))
    centre_B2 = matrix_B23 @ np.array([9.5, 4.5, 1.0]) - np.array([9.5, 4.5])
    # Turned back, the crop's centre is uniform in the room that the crop leaves.
    turn_B22 = matrix_B23[:, :, :2] / side_B[:, None, None]
    shift_B2 = np.einsum("bji,bj->bi", turn_B22, centre_B2)
    place_B2 = shift_B2 / (1 - side_B[:, None]) / np.array([20, 10]) + 0.5
    for sample_B, low, high in (
        (degrees_B, -180, 180),
        (side_B**2, 0.6, 0.9),
        (place_B2[:, 0], 0, 1),
        (place_B2[:, 1], 0, 1),
    ):
        uniform = scipy.stats.uniform(low - 1e-4, high - low + 2e-4)
        assert scipy.stats.kstest(sample_B, uniform.cdf).pvalue > 1e-3
        assert low - 1e-4 <= sample_B.min() <= sample_B.max() <= high + 1e-4


def test_colour_draws_fill_their_range():
    image_BHWC = np.full((1000, 4, 4, 3), 100, np.uint8)
    # On a uniform grey only brightness shows.
    result = _run(image_BHWC, _keys(1000), _settings(brightness=0.2, contrast=0.5, saturation=0.5))
    factor_B = result.mean((1, 2, 3)) * 255 / 100
    assert scipy.stats.kstest(factor_B, scipy.stats.uniform(0.8, 0.4).cdf).pvalue > 1e-3
    assert 0.8 - 1e-5 <= factor_B.min() < 0.805 < 1.195 < factor_B.max() <= 1.2 + 1e-5


def test_new_draws_leave_the_old_ones_as_they_are():
    config = _settings(rotation_degrees=30.0, crop_scale=(0.5, 0.9), flip_horizontal=0.5)
    draw = jax.jit(augment.random_affine, static_argnums=(1, 2))
    shape = (24, 24, 3)
    for key in _keys(3):
        old_23 = draw(key, shape, FrozenConfigDict(config))
        # So little shear, shift and zoom that only the draws can tell the matrices apart.
        more = {**config, "shear_degrees": 1e-4, "shift": 1e-6, "zoom": 1e-6}
        new_23 = draw(key, shape, FrozenConfigDict(more))
        assert not np.array_equal(old_23, new_23)
        np.testing.assert_allclose(old_23, new_23, atol=1e-3)


def _affines(shape: tuple[int, int], **fields: object) -> np.ndarray:
    """2,000 draws as (B, 3, 3) matrices about the image's centre."""
    config = _settings(**fields)
    draw = jax.jit(jax.vmap(lambda key: augment.random_affine(key, shape, config)))
    matrix_B23 = np.asarray(draw(_keys(2000)), np.float64)
    matrix_B33 = np.concatenate([matrix_B23, np.tile([[[0, 0, 1]]], (2000, 1, 1))], 1)
    centre_33 = np.array([[1, 0, (shape[1] - 1) / 2], [0, 1, (shape[0] - 1) / 2], [0, 0, 1]])
    return np.linalg.inv(centre_33) @ matrix_B33 @ centre_33


def _is_uniform(sample_B: np.ndarray, low: float, high: float) -> bool:
    inside = low - 1e-4 <= sample_B.min() <= sample_B.max() <= high + 1e-4
    uniform = scipy.stats.uniform(low - 1e-4, high - low + 2e-4)
    return bool(inside and scipy.stats.kstest(sample_B, uniform.cdf).pvalue > 1e-3)


def test_shift_is_uniform_along_each_axis():
    matrix_B33 = _affines((10, 20), shift=0.2)
    assert _is_uniform(matrix_B33[:, 0, 2], -4, 4)  # a fifth of 20 pixels
    assert _is_uniform(matrix_B33[:, 1, 2], -2, 2)
    assert abs(np.corrcoef(matrix_B33[:, 0, 2], matrix_B33[:, 1, 2])[0, 1]) < 5 / math.sqrt(2000)
    np.testing.assert_allclose(matrix_B33[:, :2, :2], np.tile(np.eye(2), (2000, 1, 1)), atol=1e-6)


def test_shear_is_uniform_in_its_angle_and_keeps_the_rows():
    matrix_B33 = _affines((10, 20), shear_degrees=30.0)
    assert _is_uniform(np.rad2deg(np.arctan(matrix_B33[:, 0, 1])), -30, 30)
    matrix_B33[:, 0, 1] = 0
    np.testing.assert_allclose(matrix_B33, np.tile(np.eye(3), (2000, 1, 1)), atol=1e-5)


def test_zoom_is_kerass_with_a_factor_for_each_axis():
    matrix_B33 = _affines((10, 20), zoom=0.3)
    assert _is_uniform(matrix_B33[:, 0, 0], 0.7, 1.3)
    assert _is_uniform(matrix_B33[:, 1, 1], 0.7, 1.3)
    assert abs(np.corrcoef(matrix_B33[:, 0, 0], matrix_B33[:, 1, 1])[0, 1]) < 5 / math.sqrt(2000)
    matrix_B33[:, [0, 1], [0, 1]] = 1
    np.testing.assert_allclose(matrix_B33, np.tile(np.eye(3), (2000, 1, 1)), atol=1e-5)


def test_all_geometry_is_rotation_shift_shear_and_zoom_in_kerass_order():
    fields = {"rotation_degrees": 40.0, "shear_degrees": 20.0, "shift": 0.2, "zoom": 0.3}
    matrix_B33 = _affines((10, 20), **fields)
    turn_B33, *others = (
        _affines((10, 20), **{name: fields[name]})
        for name in ("rotation_degrees", "shift", "shear_degrees", "zoom")
    )
    shift_B33, shear_B33, zoom_B33 = others
    np.testing.assert_allclose(matrix_B33, turn_B33 @ shift_B33 @ shear_B33 @ zoom_B33, atol=1e-4)


def test_channel_shift_adds_one_number_within_the_images_range():
    num_draws = 1000
    image_BHWC = np.tile(_images(1) // 2 + 60, (num_draws, 1, 1, 1))
    image_BHWC[:, :2, :2] = [120, 130, 140]
    result = 255 * _run(image_BHWC, _keys(num_draws), _settings(channel_shift=0.1))
    shift_B = result[:, 0, 0, 0] - 120
    assert _is_uniform(shift_B, -25.5, 25.5)
    low, high = image_BHWC.min(), image_BHWC.max()
    expected = np.clip(image_BHWC + shift_B[:, None, None, None], low, high)
    np.testing.assert_allclose(result, expected, atol=1e-3)


@pytest.mark.parametrize("shape", [(20, 20), (30, 16)])
def test_erasing_fills_rectangles_of_its_area_and_aspect(shape: tuple[int, int]):
    num_draws = 2000
    # Two bright channels, so that what is erased is told from the rest.
    image_HWC = np.zeros((*shape, 3), np.uint8)
    image_HWC[::2, :, 0] = image_HWC[:, ::2, 1] = 255
    config = _settings(erasing=0.6, erasing_area=(0.05, 0.2), erasing_aspect=(0.5, 2.0))
    result = _run(np.tile(image_HWC, (num_draws, 1, 1, 1)), _keys(num_draws), config)
    erased_BHW = (result != image_HWC * np.float32(1 / 255)).any(-1)
    assert erased_BHW.any((1, 2)).mean() == pytest.approx(0.6, abs=0.055)
    mean_3 = image_HWC.mean((0, 1)) / 255
    np.testing.assert_allclose(result[erased_BHW], np.tile(mean_3, (erased_BHW.sum(), 1)), 1e-5)
    erased_BHW = erased_BHW[erased_BHW.any((1, 2))]
    rows_B, columns_B = erased_BHW.any(2).sum(1), erased_BHW.any(1).sum(1)
    np.testing.assert_array_equal(erased_BHW.sum((1, 2)), rows_B * columns_B)  # a full rectangle
    # Sides are whole pixels: half a pixel more or less of each.
    area_B = rows_B * columns_B / (shape[0] * shape[1])
    slack_B = (rows_B + columns_B + 1) / 2 / (shape[0] * shape[1])
    assert (area_B >= 0.05 - slack_B).all()
    assert (area_B <= 0.2 + slack_B).all()
    assert area_B.mean() == pytest.approx(0.125, abs=0.01)
    log_aspect_B = np.log(rows_B / columns_B)
    assert log_aspect_B.mean() == pytest.approx(0, abs=0.05)
    assert log_aspect_B.std() == pytest.approx(2 * math.log(2) / math.sqrt(12), abs=0.06)
    # Its place is uniform in the room that it leaves: 0 and 1 are reached.
    for first_B, room_B in (
        (erased_BHW.any(2).argmax(1), shape[0] - rows_B),
        (erased_BHW.any(1).argmax(1), shape[1] - columns_B),
    ):
        place_B = first_B / room_B
        assert place_B.min() == 0
        assert place_B.max() == 1
        assert place_B.mean() == pytest.approx(0.5, abs=0.05)


def test_a_rectangle_that_does_not_fit_is_not_erased():
    config = _settings(erasing=1.0, erasing_area=(0.9, 0.9), erasing_aspect=(4.0, 4.0))
    image_BHWC = _images(4)
    result = _run(image_BHWC, _keys(4), config)
    np.testing.assert_array_equal(result, image_BHWC * np.float32(1 / 255))


def test_randaugment_alone_changes_colours_and_geometry():
    config = _settings(randaugment_operations=1, randaugment_magnitude_std=0.0)

    def expected(image_HWC: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        operation_1, level_1 = randaugment.draw(jax.random.fold_in(key, 3), config)
        coloured = randaugment.colour_operation(image_HWC, operation_1[0], level_1[0])
        matrix_23 = randaugment.geometry(image_HWC.shape, operation_1, level_1)
        return image_ops.warp_affine(coloured, matrix_23), operation_1[0]

    image_BHWC = np.tile(_images(1), (60, 1, 1, 1))
    expected_BHWC, operation_B = jax.jit(jax.vmap(expected))(image_BHWC, _keys(60))
    assert len(np.unique(operation_B)) > 10
    result = 255 * _run(image_BHWC, _keys(60), config)
    np.testing.assert_allclose(result, expected_BHWC, atol=0.05)


def test_noise_is_normal_and_white():
    noise = np.asarray(jax.jit(lambda key: augment.gaussian(key, (8, 250, 250)))(jax.random.key(3)))
    size = noise.size
    assert abs(noise.mean()) < 5 / math.sqrt(size)
    assert noise.std() == pytest.approx(1.0, abs=5 / math.sqrt(2 * size))
    assert abs(scipy.stats.kurtosis(noise.ravel())) < 0.03
    # 1.63 / sqrt(size) is the 1 % bound of chance; 0.0008 what the polynomial leaves.
    distance = scipy.stats.kstest(noise.ravel(), "norm").statistic
    assert distance < 0.0008 + 1.63 / math.sqrt(size)
    flat = noise.ravel()
    for lag in (1, 2, 3, 16, 250, 62500):
        assert abs(np.mean(flat[:-lag] * flat[lag:])) < 5 / math.sqrt(size)


def test_noise_differs_between_examples_and_has_its_strength():
    image_BHWC = np.full((50, 20, 20, 3), 128, np.uint8)
    result = _run(image_BHWC, _keys(50), _settings(noise_std=0.02))
    noise = (result - 128 / 255).reshape(50, -1)
    assert noise.std() == pytest.approx(0.02, rel=0.02)
    # At every place it varies over the examples; six standard errors.
    assert np.abs(noise.std(0) / 0.02 - 1).max() < 6 / math.sqrt(2 * 50)
    correlation = np.corrcoef(noise)
    # Seven standard errors for the largest of 1225 pairs.
    assert np.abs(correlation - np.eye(50)).max() < 7 / math.sqrt(noise.shape[1])


def test_result_is_within_the_unit_range():
    image_BHWC = np.concatenate([_images(20), np.zeros_like(_images(20)), 255 + 0 * _images(20)])
    result = _run(image_BHWC, _keys(60), ConfigDict({**EVERYTHING, "noise_std": 0.3}))
    assert result.min() == 0.0
    assert result.max() == 1.0
    assert np.isfinite(result).all()


def test_no_black_corners():
    # A constant image stays constant under any geometry.
    image_BHWC = np.full((30, 16, 24, 3), 200, np.uint8)
    names = "flip_vertical", "rotation_degrees", "crop_scale", "shear_degrees", "shift", "zoom"
    geometry = {name: EVERYTHING[name] for name in names}
    result = _run(image_BHWC, _keys(30), _settings(**geometry))
    np.testing.assert_allclose(result, 200 / 255, rtol=1e-6)


@pytest.mark.parametrize("fields", [STRONG, EVERYTHING])
def test_result_depends_on_the_key_and_the_image_alone(fields: dict):
    image_BHWC, config = _images(8), ConfigDict(fields)
    key = jax.random.key(5)
    whole = _run(image_BHWC, augment.example_keys(key, 7, 0, 8), config)
    again = _run(image_BHWC, augment.example_keys(key, 7, 0, 8), config)
    np.testing.assert_array_equal(whole, again)
    parts = [
        _run(image_BHWC[i : i + 2], augment.example_keys(key, 7, i, 2), config)
        for i in range(0, 8, 2)
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)
    other_step = _run(image_BHWC, augment.example_keys(key, 8, 0, 8), config)
    assert (np.abs(other_step - whole).max((1, 2, 3)) > 0.01).all()


def test_the_same_over_devices():
    image_BHWC, config = _images(8), ConfigDict(EVERYTHING)
    key = jax.random.key(5)

    def per_device(image_bHWC: jax.Array) -> jax.Array:
        first = 2 * jax.lax.axis_index("device")
        keys = augment.example_keys(key, 7, first, 2)
        return augment.augment(image_bHWC, keys, settings=config)

    mesh = jax.sharding.Mesh(jax.devices()[:4], ("device",))
    spec = jax.sharding.PartitionSpec("device")
    mapped = jax.jit(jax.shard_map(per_device, mesh=mesh, in_specs=spec, out_specs=spec))
    whole = _run(image_BHWC, augment.example_keys(key, 7, 0, 8), config)
    np.testing.assert_allclose(np.asarray(mapped(image_BHWC)), whole, atol=1e-6)


def test_example_keys_are_distinct_and_follow_the_place():
    key = jax.random.key(0)
    data = [jax.random.key_data(augment.example_keys(key, step, 0, 6)) for step in range(3)]
    assert len({tuple(row) for row in np.concatenate(data).tolist()}) == 18
    tail = jax.random.key_data(augment.example_keys(key, 2, 4, 2))
    np.testing.assert_array_equal(tail, data[2][4:])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flip_horizontal", 1.1),
        ("flip_vertical", -0.1),
        ("rotation_degrees", 181.0),
        ("contrast", -1.0),
        ("saturation", 1.5),
        ("hue", 0.6),
        ("noise_std", 2.0),
        ("crop_scale", (0.0, 1.0)),
        ("crop_scale", (0.9, 0.8)),
        ("crop_scale", (0.5, 1.2)),
        ("crop_scale", (0.5,)),
        ("shear_degrees", 61.0),
        ("zoom", 1.0),
        ("channel_shift", -0.1),
        ("erasing", 1.5),
        ("erasing_area", (0.0, 0.3)),
        ("erasing_area", (0.3, 0.2)),
        ("erasing_area", (0.3, 1.0)),
        ("erasing_area", (0.3, NAN)),
        ("erasing_area", (0.3,)),
        ("erasing_aspect", (0.0, 1.0)),
        ("erasing_aspect", (3.0, 1.0)),
        ("erasing_aspect", (0.3, math.inf)),
        ("erasing_aspect", ()),
        ("randaugment_operations", 11),  # of other modules, but called from here
        ("mixup_alpha", -1.0),
        *((name, value) for name in augment._LARGEST for value in (NAN, math.inf, -math.inf)),
        *(("crop_scale", (value, 1.0)) for value in (NAN, math.inf, -math.inf)),
        *(("crop_scale", (0.5, value)) for value in (NAN, math.inf, -math.inf)),
    ],
)
def test_check_names_the_field(name: str, value: object):
    with pytest.raises(InputError, match=rf"augment\.{name} is .*expected") as error:
        augment.check(_settings(**{name: value}))
    assert "\n" not in str(error.value)


def test_check_takes_the_ends_of_the_ranges():
    augment.check(_settings())
    augment.check(ConfigDict({**OFF, **augment._LARGEST}))
