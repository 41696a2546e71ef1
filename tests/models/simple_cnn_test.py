"""SimpleCNN's behaviour."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.models import simple_cnn
from skinjax.models.backbone import Backbone
from skinjax.models.layers import Mode, Settings

EVALUATION, TRAINING = Mode(train=False), Mode(train=True)


def built(name: str, settings: Settings | None = None, **fields: Any) -> Backbone:
    model = ConfigDict({"variant": "", "drop_path": 0.0, **fields})
    return simple_cnn.build(name, model, settings or Settings())


def initialised(model: Backbone, image_BHWC: jax.Array) -> Any:
    return jax.jit(model.init, static_argnums=2)(jax.random.key(0), image_BHWC, EVALUATION)


def images(height: int = 33, width: int = 32) -> jax.Array:
    return jax.random.normal(jax.random.key(1), (2, height, width, 3))


@pytest.mark.parametrize(
    ("name", "kernels", "flat"),
    [
        ("simple_cnn", [(5, 5, 3, 32), (5, 5, 32, 64)], 2 * 2 * 64),
        (
            "simple_cnn4",
            [(3, 3, 3, 32), (3, 3, 32, 64), (3, 3, 64, 128), (3, 3, 128, 256)],
            2 * 2 * 256,
        ),
    ],
)
def test_stages_shapes_and_features(name: str, kernels: list[tuple[int, ...]], flat: int) -> None:
    model, image_BHWC = built(name), images()
    variables = initialised(model, image_BHWC)
    assert set(variables) == {"params"}
    params = variables["params"]
    assert tuple(params) == model.stages
    assert model.stages == (*(f"conv{n + 1}" for n in range(len(kernels))), "dense")
    assert [params[stage]["conv"]["kernel"].shape for stage in model.stages[:-1]] == kernels
    assert params["dense"]["dense"]["kernel"].shape == (flat, 256)
    features_BC: Any = model.apply(variables, image_BHWC, TRAINING)
    assert features_BC.shape == (2, 256)
    assert float(features_BC.min()) == 0.0
    np.testing.assert_array_equal(features_BC, model.apply(variables, image_BHWC, EVALUATION))


def test_a_stage_halves_the_size_by_averages() -> None:
    stage = simple_cnn.ConvStage(4, 3, 1, 1)
    image_BHWC = images(6, 5)
    variables = stage.init(jax.random.key(0), image_BHWC, EVALUATION)
    kernel = variables["params"]["conv"]["kernel"]
    padded = np.pad(image_BHWC, ((0, 0), (1, 1), (1, 1), (0, 0)))
    want = np.zeros((2, 3, 2, 4))
    for i, j in np.ndindex(6, 4):  # the fifth column has no other to be averaged with
        value_BC = np.einsum("bhwc,hwcn->bn", padded[:, i : i + 3, j : j + 3], kernel)
        want[:, i // 2, j // 2] += np.maximum(value_BC, 0) / 4
    got: Any = stage.apply(variables, image_BHWC, EVALUATION)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_parameter_and_remat_keeps_them() -> None:
    image_BHWC = images(16, 16)

    def gradients(remat: bool) -> Any:
        model = built("simple_cnn4", Settings(remat=remat))
        variables = initialised(model, image_BHWC)

        def loss(variables: Any) -> jax.Array:
            features_BC: Any = model.apply(variables, image_BHWC, TRAINING)
            return jnp.cos(features_BC).sum()

        return jax.jit(jax.grad(loss))(variables)

    plain, remat = gradients(False), gradients(True)
    assert len(jax.tree.leaves(plain)) == 10
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), plain, remat)
    assert all(np.abs(leaf).max() > 1e-6 for leaf in jax.tree.leaves(plain))
    model = built("simple_cnn4", Settings(remat=True))
    shapes = jax.eval_shape(lambda: initialised(model, image_BHWC))
    jaxpr = jax.make_jaxpr(model.apply, static_argnums=2)(shapes, image_BHWC, TRAINING)
    names = [equation.primitive.name for equation in jaxpr.eqns]
    assert len([name for name in names if name.startswith(("remat", "checkpoint"))]) == 5


def test_bfloat16_is_close() -> None:
    image_BHWC = images(16, 16)
    variables = initialised(built("simple_cnn"), image_BHWC)
    whole: Any = built("simple_cnn").apply(variables, image_BHWC, EVALUATION)
    half: Any = built("simple_cnn", Settings(dtype=jnp.bfloat16)).apply(
        variables, image_BHWC, EVALUATION
    )
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), whole, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("name", simple_cnn.NAMES)
def test_what_it_refuses(name: str) -> None:
    with pytest.raises(InputError, match=r"15 x 64 pixels are too small .* 16 x 16"):
        built(name).init(jax.random.key(0), jnp.zeros((1, 15, 64, 3)), EVALUATION)
    with pytest.raises(InputError, match=f"'keras', but {name} has no variants"):
        built(name, variant="keras")
    with pytest.raises(InputError, match=f"drop_path is 0.1, but {name} has no residual branch"):
        built(name, drop_path=0.1)
    assert simple_cnn.timm_architecture(name) is None
