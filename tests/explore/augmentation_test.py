"""Augmented samples are those of the train step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skinjax import augment, mixing
from skinjax.config import default_config
from skinjax.errors import InputError
from skinjax.explore import augmentation

NORMALIZE = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)


@pytest.mark.parametrize("fields", [{}, {"mixup_alpha": 1.0, "cutmix_alpha": 1.0}])
def test_shows_what_a_batch_of_the_train_step_holds(fields: dict):
    config = default_config()
    config.normalize.update(NORMALIZE)
    config.augment.update(fields)
    config.seed = 7
    image_BHWC, label_BC = _images(4), jnp.eye(4)

    @jax.jit
    def batch(image_BHWC: jax.Array) -> tuple[jax.Array, jax.Array]:
        key_B = augment.example_keys(jax.random.key(7), 5, 0, 4)
        image_BHWC = augment.augment(image_BHWC, key_B, settings=config.augment)
        return mixing.mix(image_BHWC, label_BC, None, key_B, settings=config.augment)[:2]

    expected_BHWC, label_BC = batch(image_BHWC)
    seen_BHWC, share_B = augmentation.seen_in_training(config)(image_BHWC, 5)
    assert seen_BHWC.dtype == np.uint8
    np.testing.assert_allclose(seen_BHWC, 255 * expected_BHWC, atol=0.51)
    np.testing.assert_allclose(share_B, np.diag(label_BC), rtol=1e-6)
    assert (np.asarray(share_B) < 1).any() == bool(fields)


def test_an_odd_last_image_is_mixed_too():
    config = default_config()
    config.normalize.update(NORMALIZE)
    config.augment.mixup_alpha = 5.0
    seen_BHWC, share_B = augmentation.seen_in_training(config)(_images(3), 0)
    assert seen_BHWC.shape == (3, 12, 12, 3)
    assert ((np.asarray(share_B) >= 0.5) & (np.asarray(share_B) < 1)).all()


def test_images_stay_as_they_are_with_augmentation_off():
    config = default_config()
    config.normalize.update(NORMALIZE)
    for name, value in config.augment.items():
        if not isinstance(value, tuple):
            config.augment[name] = type(value)(0)
    config.augment.crop_scale = (1.0, 1.0)
    image_BHWC = _images(2)
    seen_BHWC, share_B = augmentation.seen_in_training(config)(image_BHWC, 3)
    np.testing.assert_array_equal(seen_BHWC, image_BHWC)
    np.testing.assert_array_equal(share_B, 1)


def test_settings_without_effect_are_marked():
    def off(**fields: object) -> set[str]:
        config = default_config()
        config.augment.update(fields)
        return {name for name in config.augment if augmentation._is_off(name, config.augment)}

    mild = off()
    assert {"flip_vertical", "erasing", "erasing_area", "cutmix_share", "mix_probability"} <= mild
    assert not {"flip_horizontal", "crop_scale", "hue"} & mild
    assert "crop_scale" in off(crop_scale=(1.0, 1.0))
    assert mild - off(erasing=0.1) == {"erasing", "erasing_area", "erasing_aspect"}
    assert mild - off(mixup_alpha=0.1) == {"mixup_alpha", "mix_probability"}
    both = off(mixup_alpha=0.1, cutmix_alpha=1.0)
    assert mild - both == {"mixup_alpha", "cutmix_alpha", "mix_probability", "cutmix_share"}


def test_every_class_is_chosen_before_one_is_again():
    label_N = np.array([0] * 50 + [1] * 2 + [3])
    index_n = augmentation.choose(label_N, 4, most=8, seed=0)
    assert label_N[index_n].tolist() == [0] * 5 + [1] * 2 + [3]
    assert len(set(index_n.tolist())) == 8
    assert len(augmentation.choose(np.arange(20), 20, most=8, seed=0)) == 8
    assert augmentation.choose(np.array([0]), 1, most=8, seed=0).tolist() == [0]


def test_settings_out_of_range_stop(tmp_path):
    config = default_config()
    config.augment.hue = 0.7
    with pytest.raises(InputError, match=r"augment\.hue is 0\.7"):
        augmentation.write(config, None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_a_training_image_it_stops(tmp_path):
    class Empty:
        directory = "somewhere"

        def table(self, name):
            return []

    with pytest.raises(InputError, match="somewhere has no training image"):
        augmentation.write(default_config(), Empty(), tmp_path)
