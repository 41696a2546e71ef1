"""Tests of test-time augmentation: the views, and the mean over them."""

from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skinjax import test_time
from skinjax.errors import InputError

RNG = np.random.default_rng(0)
IMAGE = RNG.random((2, 8, 8, 3), np.float32)


def views(image: np.ndarray, kind: str) -> np.ndarray:
    view = jax.jit(lambda index: test_time.view(jnp.asarray(image), kind, index))
    return np.stack([view(index) for index in range(test_time.num_views(kind))])


def test_flips_are_the_eight_ways_to_lay_a_square() -> None:
    seen = views(IMAGE, "flips")
    np.testing.assert_array_equal(seen[0], IMAGE)
    turned = [np.rot90(IMAGE, k, (1, 2)) for k in range(4)]
    expected = {view.tobytes() for one in turned for view in (one, one[:, :, ::-1])}
    assert len(expected) == 8
    assert {np.ascontiguousarray(view).tobytes() for view in seen} == expected


def test_crops_are_enlarged_as_opencv_does() -> None:
    # Of 40 pixels a crop has 34, and begins at pixel 0, 3 or 6.
    image = RNG.random((1, 40, 40, 3), np.float32)
    seen = views(image, "crops")
    assert seen.shape == (9, 1, 40, 40, 3)
    for index, view in enumerate(seen):
        top, left = index // 3 * 3, index % 3 * 3
        crop = np.ascontiguousarray(image[0, top : top + 34, left : left + 34])
        resized = cv2.resize(crop, (40, 40), interpolation=cv2.INTER_LINEAR)
        # At its edge OpenCV knows the crop alone.
        np.testing.assert_allclose(view[0, 1:-1, 1:-1], resized[1:-1, 1:-1], atol=1e-4)


@pytest.mark.parametrize("kind", ["flips", "crops"])
def test_the_softmax_is_the_mean_of_the_softmax_over_the_views(kind: str) -> None:
    weights = RNG.normal(0, 0.3, (8 * 8 * 3, 4)).astype(np.float32)

    def forward(image_BHWC: Any) -> Any:
        return image_BHWC.reshape(len(image_BHWC), -1) @ weights

    seen = jax.jit(lambda image: test_time.mean_logits(forward, image, kind))(IMAGE)
    each = [jax.nn.softmax(forward(view)) for view in views(IMAGE, kind)]
    assert np.std(each, axis=0).max() > 0.01
    np.testing.assert_allclose(jax.nn.softmax(seen), np.mean(each, axis=0), atol=1e-6)
    np.testing.assert_allclose(np.exp(seen).sum(1), 1, atol=1e-5)


def test_without_it_the_logits_are_the_networks_own() -> None:
    logits = test_time.mean_logits(lambda image: image[:, 0, 0] * 100, jnp.asarray(IMAGE), "none")
    np.testing.assert_array_equal(logits, IMAGE[:, 0, 0] * 100)


def test_an_extreme_prediction_stays_finite() -> None:
    # In float32 the softmax of the other class is 0, and so would its logarithm be lost.
    logits = test_time.mean_logits(
        lambda image: jnp.stack([image[:, 0, 0, 0] + 500, image[:, 0, 0, 0]], 1),
        jnp.asarray(IMAGE),
        "flips",
    )
    np.testing.assert_allclose(logits, [[0, -500]] * 2, atol=1e-3)


def test_another_kind_is_refused() -> None:
    test_time.check("flips")
    with pytest.raises(InputError, match="--tta=flip is none of none, flips, crops"):
        test_time.check("flip")
