"""Saliency: against differences of the score, completeness, and independence of the batch."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skinjax import explain
from skinjax.errors import InputError
from skinjax.explain import saliency, score
from skinjax.trained import TrainedModel


@pytest.fixture(scope="module")
def model(tiny_classifier: Any, make_model: Any) -> TrainedModel:
    """With an age beside the image."""
    made: TrainedModel = make_model(tiny_classifier(3).backbone, image_size=16, with_age=True)
    return made


AGE = np.array([[0.5, 0], [-1, 0], [0, 1]], np.float32)
CLASSES = np.array([0, 1, 2])


def gradient(model: TrainedModel, image_BHWC: Any) -> jax.Array:
    function = functools.partial(saliency.gradient, model)
    return jax.jit(function)(model.variables, image_BHWC, CLASSES, AGE)


def scores(model: TrainedModel, image_BHWC: Any) -> np.ndarray:
    function = functools.partial(score.of_images, model)
    return np.asarray(jax.jit(function)(model.variables, image_BHWC, CLASSES, AGE))


def test_the_gradient_is_the_slope_of_the_score(model: TrainedModel, images: Any) -> None:
    image_BHWC = images(3, 16).astype(np.float32)
    slope_BHWC = np.asarray(gradient(model, image_BHWC))
    step_BHWC = 0.05 * np.sign(slope_BHWC)
    ahead, behind = (scores(model, image_BHWC + sign * step_BHWC) for sign in (1, -1))
    wanted = 2 * 0.05 * np.abs(slope_BHWC).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(ahead - behind, wanted, rtol=0.03)


def test_integrated_gradients_add_up_to_the_difference_of_the_scores(
    model: TrainedModel, images: Any
) -> None:
    image_BHWC = images(3, 16)

    @functools.partial(jax.jit, static_argnames="steps")
    def attribute(image_BHWC: Any, steps: int) -> jax.Array:
        return saliency.integrated_gradients(
            model, model.variables, image_BHWC, CLASSES, AGE, steps=steps
        )

    baseline_BHWC = saliency.mean_colour(image_BHWC)
    wanted = scores(model, image_BHWC.astype(np.float32)) - scores(model, baseline_BHWC)
    gap = [
        np.abs(attribute(image_BHWC, steps).sum(axis=(1, 2, 3)) - wanted).max() for steps in (1, 64)
    ]
    assert np.abs(wanted).min() > 0.02
    assert gap[1] < 0.01 * np.abs(wanted).max()
    assert gap[1] < gap[0] / 5


def test_smooth_grad_is_the_mean_over_noisy_copies_and_the_same_in_any_batch(
    model: TrainedModel, images: Any
) -> None:
    image_BHWC, key = images(3, 16), jax.random.key(3)

    @functools.partial(jax.jit, static_argnames="noise")
    def smooth(image_BHWC: Any, class_B: Any, age: Any, noise: float) -> jax.Array:
        return saliency.smooth_grad(
            model, model.variables, image_BHWC, class_B, age, key=key, samples=2, noise=noise
        )

    plain = gradient(model, image_BHWC.astype(np.float32))
    np.testing.assert_allclose(smooth(image_BHWC, CLASSES, AGE, 0.0), plain, atol=1e-6)
    noisy = np.asarray(smooth(image_BHWC, CLASSES, AGE, 0.2))
    spread = np.ptp(image_BHWC, axis=(1, 2, 3), keepdims=True)
    copies = [
        image_BHWC + 0.2 * spread * jax.random.normal(jax.random.fold_in(key, i), (16, 16, 3))
        for i in range(2)
    ]
    wanted = [gradient(model, one) for one in copies]
    np.testing.assert_allclose(noisy, np.mean(wanted, axis=0), atol=1e-6)
    reversed_ = smooth(image_BHWC[::-1], CLASSES[::-1], AGE[::-1], 0.2)
    np.testing.assert_allclose(reversed_[::-1], noisy, atol=1e-6)


def test_a_pixel_map_is_capped_and_adds_the_channels() -> None:
    attribution = np.zeros((2, 20, 20, 3), np.float32)
    attribution[0, :, :, 0] = -np.arange(400).reshape(20, 20)
    attribution[0, 0, 0] = 1000
    attribution[1, 3, 4] = (1, -2, 0)
    got = np.asarray(saliency.pixel_map(jnp.array(attribution)))
    cap = np.percentile(np.abs(attribution[0]).sum(-1), 99)
    np.testing.assert_allclose(got[0, 1, 0], 20 / cap, rtol=1e-5)
    assert got[0, 0, 0] == 1
    # Where the percentile is 0, the one pixel that counts is still there.
    np.testing.assert_array_equal(np.argwhere(got[1]), [[3, 4]])


def test_an_explainer_takes_any_number_of_images(model: TrainedModel, images: Any) -> None:
    image_NHWC = images(5, 16)
    three, five = (explain.Explainer(model, "saliency", batch_size=size) for size in (3, 5))
    class_N = np.array([0, 1, 2, 0, 1])
    np.testing.assert_allclose(
        three.maps(image_NHWC, class_N), five.maps(image_NHWC, class_N), atol=1e-5
    )
    # Without any, patient metadata are missing, not 0.
    missing = np.array([[0, 1]] * 5, np.float32)
    np.testing.assert_array_equal(
        five.probabilities(image_NHWC), five.probabilities(image_NHWC, missing)
    )
    known = five.probabilities(image_NHWC, np.zeros((5, 2), np.float32))
    assert np.abs(known - five.probabilities(image_NHWC)).max() > 1e-4


def test_an_unknown_method_is_refused(model: TrainedModel) -> None:
    with pytest.raises(InputError, match="--method=gradcam is none of grad_cam, saliency"):
        explain.Explainer(model, "gradcam")
