"""SimpleCNN's behaviour."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skinjax.errors import InputError
from skinjax.models.simple_cnn import SimpleCNN


def test_stages_shapes_and_features() -> None:
    model = SimpleCNN()
    image_BHWC = jax.random.normal(jax.random.key(1), (2, 33, 32, 3))
    variables = jax.jit(model.init, static_argnames="train")(
        jax.random.key(0), image_BHWC, train=False
    )
    assert set(variables) == {"params"}
    assert set(variables["params"]) == set(model.stages)
    assert variables["params"]["conv1"]["conv"]["kernel"].shape == (5, 5, 3, 32)
    assert variables["params"]["dense"]["dense"]["kernel"].shape == (2 * 2 * 64, 256)
    features_BC = model.apply(variables, image_BHWC, train=True, frozen=model.stages)
    assert features_BC.shape == (2, 256)
    assert float(features_BC.min()) == 0.0
    np.testing.assert_array_equal(features_BC, model.apply(variables, image_BHWC, train=False))


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(InputError, match="16x16"):
        SimpleCNN().init(jax.random.key(0), jnp.zeros((1, 15, 64, 3)), train=False)
