"""Augmented samples are those of the train step."""

import functools

import jax
import numpy as np
import pytest

from skinjax import augment
from skinjax.config import default_config
from skinjax.errors import InputError
from skinjax.explore import augmentation


def test_shows_what_a_batch_of_the_train_step_holds():
    config = default_config()
    config.normalize.update(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    config.seed = 7
    image_BHWC = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3), dtype=np.uint8)
    key_B = augment.example_keys(jax.random.key(7), 5, 0, 3)
    batch = functools.partial(augment.augment, settings=config.augment)
    expected_BHWC = jax.jit(batch)(image_BHWC, key_B)
    see = augmentation.seen_in_training(config)
    for place in range(3):
        seen_HWC = np.asarray(see(image_BHWC[place], place, 5))
        assert seen_HWC.dtype == np.uint8
        np.testing.assert_allclose(seen_HWC, 255 * expected_BHWC[place], atol=0.51)


def test_images_stay_as_they_are_with_augmentation_off():
    config = default_config()
    config.normalize.update(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    for name in config.augment:
        config.augment[name] = (1.0, 1.0) if name == "crop_scale" else 0.0
    image_HWC = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    see = augmentation.seen_in_training(config)
    np.testing.assert_array_equal(see(image_HWC, 0, 3), image_HWC)


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
