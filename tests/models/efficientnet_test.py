"""EfficientNet's behaviour, on a network of two blocks."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skinjax.models import Classifier
from skinjax.models.efficientnet import EfficientNet, SqueezeExcite
from skinjax.models.heads import Head

BLOCKS = ((1, 3, 1, 1, 4), (2, 5, 2, 2, 8))


def classifier(**fields: Any) -> Classifier:
    tiny = {"blocks": BLOCKS, "stem_features": 4, "top_features": 6}
    return Classifier(EfficientNet(**{**tiny, **fields}), Head(3))


def images(batch: int) -> Any:
    return np.random.default_rng(1).standard_normal((batch, 32, 32, 3), np.float32)


def init(model: Classifier) -> Any:
    """Variables with no zero or one left, so that no part of the network is without effect."""
    generator = np.random.default_rng(2)

    def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> Any:
        noise = generator.standard_normal(shape.shape, np.float32)
        if path[-1].key == "kernel":
            return noise / np.prod(shape.shape[:-1]) ** 0.5
        return 0.1 * np.abs(noise) + (path[-1].key in ("scale", "var"))

    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images(1), train=False))
    return jax.tree_util.tree_map_with_path(leaf, shapes)


def apply(model: Classifier, variables: Any, image_BHWC: jax.Array, **settings: Any) -> Any:
    settings = {"train": False, **settings}
    rngs = settings.pop("rngs", None)
    return jax.jit(functools.partial(model.apply, **settings))(variables, image_BHWC, rngs=rngs)


def test_shapes_by_stage_and_squeezed_width() -> None:
    model = classifier()
    variables, state = jax.eval_shape(
        lambda: model.init_with_output(
            jax.random.key(0), images(1), train=False, capture_intermediates=True
        )[::-1]
    )
    stages = variables["intermediates"]["backbone"]
    shapes = [stages[stage]["__call__"][0].shape for stage in model.stages[:-1]]
    assert shapes == [(1, 16, 16, 4), (1, 16, 16, 4), (1, 8, 8, 8), (1, 8, 8, 6)]
    assert state.shape == (1, 3)
    # A quarter of the block's input (8), not of its expanded width (16).
    squeeze = variables["params"]["backbone"]["block2"]["block1"]["se"]["conv_reduce"]
    assert squeeze["kernel"].shape == (1, 1, 16, 2)


def test_squeeze_excite_by_hand() -> None:
    x_BHWC = jnp.array([[1.0, 4.0], [3.0, 0.0]]).reshape(1, 2, 1, 2)
    params = {
        "conv_reduce": {"kernel": jnp.array([1.0, 1.0]).reshape(1, 1, 2, 1), "bias": jnp.ones(1)},
        "conv_expand": {"kernel": jnp.array([0.5, -1]).reshape(1, 1, 1, 2), "bias": jnp.zeros(2)},
    }
    y_BHWC = SqueezeExcite(1, jnp.float32).apply({"params": params}, x_BHWC)
    squeezed = 5 / (1 + np.exp(-5))  # silu of mean 2 plus mean 2 plus bias 1
    gate_C = 1 / (1 + np.exp(-squeezed * np.array([0.5, -1])))
    np.testing.assert_allclose(y_BHWC, x_BHWC * gate_C, rtol=1e-6)


def test_frozen_stages_keep_their_statistics_and_others_do_not() -> None:
    model = classifier()
    variables = init(model)
    frozen = ("stem", "block2")
    _, updates = apply(
        model, variables, images(4), train=True, frozen=frozen, mutable=["batch_stats"]
    )
    before = variables["batch_stats"]["backbone"]
    after = updates["batch_stats"]["backbone"]
    same = jax.tree.map(np.array_equal, before, after)
    for stage in model.stages[:-1]:
        assert set(jax.tree.leaves(same[stage])) == {stage in frozen}


def test_evaluation_is_deterministic_and_by_example() -> None:
    model = classifier(drop_path=0.5)
    variables = init(model)
    logits_BC = apply(model, variables, images(4))
    np.testing.assert_array_equal(logits_BC, apply(model, variables, images(4)))
    alone_1C = apply(model, variables, images(4)[2:3])
    np.testing.assert_allclose(alone_1C[0], logits_BC[2], rtol=1e-5, atol=1e-5)


def test_drop_path_is_on_in_training() -> None:
    model = classifier(drop_path=0.5)
    variables = init(model)
    first, second = (
        apply(
            model,
            variables,
            images(8),
            train=True,
            frozen=model.stages,
            rngs={"dropout": jax.random.key(key)},
        )
        for key in (0, 1)
    )
    assert not np.allclose(first, second)


def test_drop_path_is_linear_in_depth_and_only_on_residual_branches() -> None:
    model = classifier(drop_path=0.6)
    rates: list[float] = []

    def watch(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if type(context.module).__name__ == "DropPath":
            rates.append(context.module.rate)
        return next_fun(*args, **kwargs)

    with nn.intercept_methods(watch):
        jax.eval_shape(lambda: model.init(jax.random.key(0), images(1), train=False))
    # The block in between changes the size and has no residual branch.
    np.testing.assert_allclose(rates, [0.0, 0.4])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_close_to_single(dtype: str) -> None:
    single, half = classifier(), classifier(dtype=jnp.dtype(dtype))
    variables = init(half)
    logits_BC = apply(half, variables, images(4))
    want_BC = apply(single, variables, images(4))
    assert logits_BC.dtype == jnp.float32
    assert 0 < np.max(np.abs(logits_BC - want_BC)) < 0.1 * np.max(np.abs(want_BC))


def test_gradients_reach_every_parameter() -> None:
    model = classifier()
    variables = init(model)

    @jax.jit
    def gradient(params: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            state = {**variables, "params": params}
            logits_BC, _ = model.apply(state, images(4), train=True, mutable=["batch_stats"])
            return jnp.sum(logits_BC**2)

        return jax.grad(loss)(params)

    largest = jax.tree.map(lambda leaf: float(np.max(np.abs(leaf))), gradient(variables["params"]))
    assert all(value > 0 for value in jax.tree.leaves(largest))
