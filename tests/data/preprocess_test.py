import json

import cv2
import numpy as np
import pytest

from skinjax.config import default_config
from skinjax.data import dermoscopy, images, preprocess
from skinjax.data.preprocess import Preprocess
from skinjax.errors import InputError

STEPS = ("crop_border", "remove_hair", "color_constancy", "clahe")
IMAGE_HWC = np.random.default_rng(0).integers(0, 256, (45, 60, 3), dtype=np.uint8)


@pytest.fixture
def data():
    data = default_config().data
    data.image_size = 224
    return data


@pytest.mark.parametrize("shape", [(45, 60), (300, 200), (10, 500), (224, 224), (1, 1)])
def test_does_nothing_but_squash_by_default(data, shape):
    image_HWC = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    apply = Preprocess.from_config(data)
    assert apply.steps() == {}
    np.testing.assert_array_equal(apply(image_HWC), images.resize(image_HWC, 224))


def test_applies_the_steps_in_order_on_the_image_as_published(data):
    data.preprocess.update(dict.fromkeys(STEPS, True))
    data.image_size = 16
    apply = Preprocess.from_config(data)
    assert tuple(apply.steps()) == tuple(preprocess.STEPS) == STEPS
    before_HWC = IMAGE_HWC.copy()
    expected_HWC = dermoscopy.crop_border(IMAGE_HWC)
    expected_HWC = dermoscopy.color_constancy(dermoscopy.remove_hair(expected_HWC))
    expected_HWC = images.resize(dermoscopy.clahe(expected_HWC), 16)
    np.testing.assert_array_equal(apply(IMAGE_HWC), expected_HWC)
    np.testing.assert_array_equal(IMAGE_HWC, before_HWC)


@pytest.mark.parametrize("name", STEPS)
def test_each_step_has_its_switch(data, name):
    data.preprocess[name] = True
    apply = Preprocess.from_config(data)
    assert tuple(apply.steps()) == (name,)
    assert apply.steps()[name] is getattr(dermoscopy, name)
    assert apply.settings()[name] is True
    assert apply.settings() != Preprocess().settings()


def test_settings_come_back_from_json(data):
    data.update({"resize": "crop", "short_side": 300, "image_size": 256})
    data.preprocess.clahe = True
    apply = Preprocess.from_config(data)
    assert Preprocess.from_settings(json.loads(json.dumps(apply.settings()))) == apply
    for changed in ({**apply.settings(), "sharpen": True}, {"clahe": True}):
        with pytest.raises(InputError, match="use the version of skinjax that wrote it"):
            Preprocess.from_settings(changed)


def test_crop_keeps_the_aspect_and_takes_the_centre(data):
    rows, columns = np.mgrid[:100, :200]
    image_HWC = np.stack([rows, columns, rows], axis=-1).astype(np.uint8)
    data.update({"resize": "crop", "image_size": 40, "short_side": 50})
    # Halved: 50 x 100, of which 40 x 40 is left, from row 5 and column 30 on.
    half_HWC = cv2.resize(image_HWC, (100, 50), interpolation=cv2.INTER_AREA)
    result_HWC = Preprocess.from_config(data)(image_HWC)
    np.testing.assert_array_equal(result_HWC, half_HWC[5:45, 30:70])
    assert result_HWC.flags.c_contiguous
    data.short_side = 0
    all_HWC = cv2.resize(image_HWC, (80, 40), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(Preprocess.from_config(data)(image_HWC), all_HWC[:, 20:60])


def test_pad_keeps_the_aspect_between_black_bars(data):
    image_HWC = np.full((45, 60, 3), 200, np.uint8)
    data.update({"resize": "pad", "image_size": 40})
    wide_HWC = Preprocess.from_config(data)(image_HWC)
    assert wide_HWC.shape == (40, 40, 3)
    np.testing.assert_array_equal(wide_HWC[5:35], 200)
    np.testing.assert_array_equal(wide_HWC[:5], 0)
    np.testing.assert_array_equal(wide_HWC[35:], 0)
    tall_HWC = Preprocess.from_config(data)(image_HWC.swapaxes(0, 1))
    np.testing.assert_array_equal(tall_HWC, wide_HWC.swapaxes(0, 1))


@pytest.mark.parametrize("resize", preprocess.RESIZES)
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 60_000), (60_000, 1), (2, 500), (31, 33), (32, 32), (450, 600)]
)
def test_every_shape_becomes_a_square(resize, shape):
    # 60 on black would show a pad; a crop or squash is full of it.
    result_HWC = Preprocess(resize=resize, image_size=32)(np.full((*shape, 3), 60, np.uint8))
    assert result_HWC.shape == (32, 32, 3)
    assert result_HWC.dtype == np.uint8
    assert result_HWC.max() == 60
    assert (result_HWC.min() == 60) == (resize != "pad" or shape[0] == shape[1])


def test_a_line_is_not_resized_whole():
    # Its short side at 4,096 pixels, 60,000 x 1 would take 3 Tbytes.
    image_HWC = np.full((1, 60_000, 3), 60, np.uint8)
    assert Preprocess(resize="crop", image_size=512)(image_HWC).min() == 60


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resize": "fit"}, r"config\.data\.resize is 'fit'; it must be one of squash, crop, pad"),
        ({"image_size": 1}, r"config\.data\.image_size is 1; it must be 2 to 4096"),
        ({"image_size": 5000}, r"config\.data\.image_size is 5000"),
        (
            {"resize": "crop", "short_side": 200},
            r"short_side is 200; .* 224 \(image_size\) to 4096",
        ),
        ({"resize": "crop", "short_side": -1}, r"short_side is -1"),
        ({"resize": "crop", "short_side": 9999}, r"short_side is 9999"),
        ({"resize": "pad", "short_side": 300}, r"short_side is 300, and .* only 'crop' has"),
    ],
)
def test_checks_the_settings(data, changes, message):
    data.update(changes)
    with pytest.raises(InputError, match=message) as caught:
        Preprocess.from_config(data)
    assert "\n" not in str(caught.value)


def test_takes_a_short_side_of_the_size_itself(data):
    data.update({"resize": "crop", "short_side": 224})
    assert Preprocess.from_config(data)(IMAGE_HWC).shape == (224, 224, 3)


def test_an_image_size_that_is_left_to_the_model_must_be_resolved_first(data):
    data.image_size = 0
    with pytest.raises(InputError, match=r"image_size is 0, for the model's own size.*resolve"):
        Preprocess.from_config(data)
