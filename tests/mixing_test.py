"""Mixup and CutMix against their formulas, their distributions, and the place in the batch."""

import math
from typing import Any

import jax
import numpy as np
import pytest
import scipy.stats
from ml_collections import ConfigDict, FrozenConfigDict

from skinjax import augment, mixing
from skinjax.config import default_config
from skinjax.errors import InputError

SETTINGS = {
    "mixup": {"mixup_alpha": 0.8},
    "cutmix": {"cutmix_alpha": 1.0},
    "both": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0},
    "seldom": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "mix_probability": 0.5},
}

_jitted = jax.jit(mixing.mix, static_argnames="settings")


def _settings(**fields: object) -> FrozenConfigDict:
    config = default_config().augment
    config.update(fields)
    return FrozenConfigDict(config)


def _keys(batch_size: int, first: Any = 0) -> jax.Array:
    return augment.example_keys(jax.random.key(3), 5, first, batch_size)


def _batch(batch_size: int, height: int = 10, width: int = 14) -> tuple[Any, ...]:
    """Images, one-hot labels of a class for each example, and metadata."""
    rng = np.random.default_rng(0)
    image_BHWC = rng.uniform(0.1, 1.0, (batch_size, height, width, 3)).astype(np.float32)
    label_BC = np.eye(batch_size, dtype=np.float32)
    return image_BHWC, label_BC, rng.normal(size=(batch_size, 5)).astype(np.float32)


def _swapped(array_B: np.ndarray) -> np.ndarray:
    """The partner of each example."""
    return array_B.reshape(-1, 2, *array_B.shape[1:])[:, ::-1].reshape(array_B.shape)


def _mixed(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """32 images, what comes of them, and their labels."""
    batch = _batch(32)
    image, label, _ = _jitted(*batch, _keys(32), settings=_settings(**SETTINGS[name]))
    return batch[0], np.asarray(image), np.asarray(label)


@pytest.mark.parametrize("name", SETTINGS)
def test_labels_and_metadata_are_mixed_by_one_share(name: str):
    image_BHWC, label_BC, metadata_BM = _batch(32)
    mixed = _jitted(
        image_BHWC, label_BC, metadata_BM, _keys(32), settings=_settings(**SETTINGS[name])
    )
    image, label, metadata = map(np.asarray, mixed)
    assert (image.dtype, label.dtype, metadata.dtype) == (np.float32,) * 3
    np.testing.assert_allclose(label.sum(1), 1, rtol=1e-6)
    share_B = np.diag(label)
    assert ((share_B >= 0.5) & (share_B <= 1)).all()
    np.testing.assert_array_equal(share_B, _swapped(share_B))
    share_B1 = share_B[:, None]
    np.testing.assert_allclose(label, share_B1 * label_BC + (1 - share_B1) * _swapped(label_BC))
    expected = share_B1 * metadata_BM + (1 - share_B1) * _swapped(metadata_BM)
    np.testing.assert_allclose(metadata, expected, rtol=1e-5, atol=1e-6)


def test_mixup_is_the_weighted_mean():
    image_BHWC, image, label = _mixed("mixup")
    share_B = np.diag(label)[:, None, None, None]
    assert (share_B < 1).all()
    expected = share_B * image_BHWC + (1 - share_B) * _swapped(image_BHWC)
    np.testing.assert_allclose(image, expected, rtol=1e-5)


def test_cutmix_is_a_box_whose_area_is_the_others_share():
    image_BHWC, image, label = _mixed("cutmix")
    other_BHWC = _swapped(image_BHWC)
    boxed_BHW = (image == other_BHWC).all(-1)
    expected = np.where(boxed_BHW[..., None], other_BHWC, image_BHWC)
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(boxed_BHW, _swapped(boxed_BHW))
    rows_B, columns_B = boxed_BHW.any(2).sum(1), boxed_BHW.any(1).sum(1)
    np.testing.assert_array_equal(boxed_BHW.sum((1, 2)), rows_B * columns_B)
    share_B = 1 - boxed_BHW.mean((1, 2))
    np.testing.assert_allclose(np.diag(label), share_B, rtol=1e-6)
    assert len(np.unique(share_B)) > 8


def test_without_metadata():
    image_BHWC, label_BC, _ = _batch(2)
    settings = _settings(**SETTINGS["mixup"])
    assert _jitted(image_BHWC, label_BC, None, _keys(2), settings=settings)[2] is None


def _draws(count: int, size: tuple[int, int], **fields: object) -> tuple[np.ndarray, np.ndarray]:
    settings = _settings(**fields)
    draw = jax.jit(jax.vmap(lambda key: mixing.draw(key, *size, settings)))
    own_PHW, share_P = draw(_keys(count))
    return np.asarray(own_PHW), np.asarray(share_P)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_share_is_beta_turned_to_the_larger_side(alpha: float):
    _, share_P = _draws(3000, (8, 8), mixup_alpha=alpha)
    beta = scipy.stats.beta(alpha, alpha)
    # Not nearer to 1, where float32 rounds to it: a share of 1e-8 is not rare with a small alpha.
    for share in (0.55, 0.7, 0.9, 0.99, 0.999):
        expected = beta.cdf(share) - beta.cdf(1 - share)
        # Four standard errors, sqrt(0.25 / 3000) at most.
        assert (share_P < share).mean() == pytest.approx(expected, abs=0.037)


def test_boxes_have_their_size_and_place():
    own_PHW, share_P = _draws(3000, (40, 60), cutmix_alpha=1.0)
    rows_PH, columns_PW = (own_PHW == 0).any(2), (own_PHW == 0).any(1)
    np.testing.assert_allclose(share_P, own_PHW.mean((1, 2)), rtol=1e-6)
    assert share_P.min() >= 0.5
    # Whole boxes have the image's aspect and 1 - share of its area, uniform up to one half.
    inside_P = ~(rows_PH[:, 0] | rows_PH[:, -1] | columns_PW[:, 0] | columns_PW[:, -1])
    inside_P &= rows_PH.any(1) & columns_PW.any(1)
    assert inside_P.sum() > 300
    np.testing.assert_allclose(
        columns_PW[inside_P].sum(1), 1.5 * rows_PH[inside_P].sum(1), atol=1.5
    )
    assert rows_PH.sum(1).max() == math.floor(40 * math.sqrt(0.5))
    # The median of the drawn share is 0.75: a box of half the side, but where it is cut off.
    rows, columns = rows_PH.sum(1), columns_PW.sum(1)
    assert np.median(np.maximum(rows / 40, columns / 60)) == pytest.approx(0.5, abs=0.05)
    # Centres are uniform in the whole image, so every place near the edge is covered too.
    for covered in (rows_PH.mean(0), columns_PW.mean(0)):
        np.testing.assert_allclose(covered, covered[::-1], atol=0.06)
        assert covered[0] == pytest.approx(covered[len(covered) // 2] / 2, abs=0.06)


def test_probabilities_of_mixing_and_of_cutting():
    fields = {"mixup_alpha": 5.0, "cutmix_alpha": 5.0, "mix_probability": 0.7, "cutmix_share": 0.2}
    own_PHW, share_P = _draws(3000, (32, 32), **fields)
    mixed_P = share_P < 1
    cut_P = own_PHW.min((1, 2)) == 0
    assert mixed_P.mean() == pytest.approx(0.7, abs=0.045)
    assert cut_P.mean() == pytest.approx(0.14, abs=0.035)
    # Each has its own alpha.
    _, share_P = _draws(1000, (32, 32), mixup_alpha=50.0, cutmix_alpha=0.05, cutmix_share=0.5)
    assert np.isclose(share_P, 0.55, atol=0.1).mean() == pytest.approx(0.5, abs=0.1)
    assert (share_P > 0.97).mean() == pytest.approx(0.45, abs=0.1)


@pytest.mark.parametrize("fields", [{}, {"mixup_alpha": 1.0, "mix_probability": 0.0}])
def test_off_adds_nothing(fields: dict):
    settings = _settings(**fields)
    assert not mixing.is_on(settings)
    image_BHWC, label_BC, metadata_BM = _batch(3)  # an odd number is no error then
    mixed = mixing.mix(image_BHWC, label_BC, metadata_BM, _keys(3), settings=settings)
    assert mixed[0] is image_BHWC
    assert mixed[1] is label_BC
    assert mixed[2] is metadata_BM


@pytest.mark.parametrize("name", SETTINGS)
def test_on(name: str):
    assert mixing.is_on(_settings(**SETTINGS[name]))


def test_unmixed_pairs_keep_every_bit():
    image_BHWC, image, label = _mixed("seldom")
    whole_B = np.diag(label) == 1
    assert 4 <= whole_B.sum() <= 28
    np.testing.assert_array_equal(image[whole_B], image_BHWC[whole_B])


def test_swapping_a_pair_swaps_what_comes_out():
    batch, settings = _batch(32), _settings(**SETTINGS["both"])
    mixed = _jitted(*batch, _keys(32), settings=settings)
    swapped = _jitted(*map(_swapped, batch), _keys(32), settings=settings)
    for one, other in zip(mixed, swapped, strict=True):
        np.testing.assert_array_equal(_swapped(np.asarray(one)), other)


def test_a_pair_depends_on_its_images_and_first_key_alone():
    image_BHWC, label_BC, metadata_BM = _batch(32)
    settings = _settings(**SETTINGS["both"])
    whole = _jitted(image_BHWC, label_BC, metadata_BM, _keys(32), settings=settings)
    for first in range(0, 32, 8):
        part = slice(first, first + 8)
        arrays = image_BHWC[part], label_BC[part], metadata_BM[part]
        mixed = _jitted(*arrays, _keys(8, first), settings=settings)
        for one, all_of_it in zip(mixed, whole, strict=True):
            np.testing.assert_allclose(one, all_of_it[part], rtol=1e-6, atol=1e-6)
    again = _jitted(image_BHWC, label_BC, metadata_BM, _keys(32, 32), settings=settings)
    assert np.abs(np.diag(again[1]) - np.diag(whole[1]))[::2].min() > 1e-4


def test_the_same_over_devices():
    image_BHWC, label_BC, metadata_BM = _batch(32)
    settings = _settings(**SETTINGS["both"])

    def per_device(image_bHWC: jax.Array, label_bC: jax.Array) -> tuple[jax.Array, jax.Array]:
        keys = _keys(8, 8 * jax.lax.axis_index("device"))
        return mixing.mix(image_bHWC, label_bC, None, keys, settings=settings)[:2]

    mesh = jax.sharding.Mesh(jax.devices()[:4], ("device",))
    spec = jax.sharding.PartitionSpec("device")
    mapped = jax.jit(jax.shard_map(per_device, mesh=mesh, in_specs=spec, out_specs=spec))
    whole = _jitted(image_BHWC, label_BC, metadata_BM, _keys(32), settings=settings)
    for one, other in zip(mapped(image_BHWC, label_BC), whole, strict=False):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_draws_are_not_those_of_augmentation():
    key = _keys(1)[0]
    folded = jax.random.key_data(jax.random.fold_in(key, mixing._MIXING))
    for other in (*jax.random.split(key, 10), key):
        assert not np.array_equal(folded, jax.random.key_data(other))


def test_an_odd_batch_is_an_error():
    image_BHWC, label_BC, _ = _batch(5)
    with pytest.raises(InputError, match=r"5 images .*expected an even number"):
        mixing.mix(image_BHWC, label_BC, None, _keys(5), settings=_settings(mixup_alpha=1.0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, -0.1) for name in ("mixup_alpha", "cutmix_alpha", "mix_probability")),
        *((name, math.nan) for name in ("mixup_alpha", "cutmix_alpha", "cutmix_share")),
        *((name, math.inf) for name in ("mixup_alpha", "cutmix_alpha")),
        *((name, 1.1) for name in ("mix_probability", "cutmix_share")),
    ],
)
def test_check_names_the_field(name: str, value: float):
    with pytest.raises(InputError, match=rf"augment\.{name} is .*expected") as error:
        mixing.check(ConfigDict({**default_config().augment, name: value}))
    assert "\n" not in str(error.value)


def test_check_takes_the_ends_of_the_ranges():
    mixing.check(_settings())
    mixing.check(_settings(mixup_alpha=100.0, mix_probability=0.0, cutmix_share=1.0))
