"""Augmentation's draws against what the config says, and its keys against the devices."""

import math

import cv2
import jax
import numpy as np
import pytest
import scipy.stats
from ml_collections import ConfigDict, FrozenConfigDict

from skinjax import augment
from skinjax.config import default_config
from skinjax.errors import InputError

NAN = math.nan
OFF = {
    "flip_horizontal": 0.0,
    "flip_vertical": 0.0,
    "rotation_degrees": 0.0,
    "crop_scale": (1.0, 1.0),
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "noise_std": 0.0,
}
STRONG = {
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
    ],
)
def test_zero_strength_compiles_to_nothing(fields: dict, absent: tuple):
    config = FrozenConfigDict(_settings(**fields))
    text = _jitted.lower(_images(2), _keys(2), settings=config).compile().as_text()
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
    result = _run(image_BHWC, _keys(60), ConfigDict({**STRONG, "noise_std": 0.3}))
    assert result.min() == 0.0
    assert result.max() == 1.0
    assert np.isfinite(result).all()


def test_no_black_corners():
    # A constant image stays constant under any geometry.
    image_BHWC = np.full((30, 16, 24, 3), 200, np.uint8)
    geometry = {name: STRONG[name] for name in ("flip_vertical", "rotation_degrees", "crop_scale")}
    result = _run(image_BHWC, _keys(30), _settings(**geometry))
    np.testing.assert_allclose(result, 200 / 255, rtol=1e-6)


def test_result_depends_on_the_key_and_the_image_alone():
    image_BHWC, config = _images(8), ConfigDict(STRONG)
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
    image_BHWC, config = _images(8), ConfigDict(STRONG)
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
