"""ResNet's behaviour, on tiny networks."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skinjax.models import Classifier
from skinjax.models.heads import Head
from skinjax.models.resnet import ResNet


def classifier(**fields: Any) -> Classifier:
    backbone = ResNet(**{"depths": (1, 2), "bottleneck": True, "width": 4, **fields})
    return Classifier(backbone, Head(3))


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


def test_a_block_starts_as_the_identity() -> None:
    # With every residual branch at zero, the features are the stem's, pooled after the shortcut.
    model = classifier(depths=(2,), bottleneck=False)
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images(1))
    params = variables["params"]["backbone"]["layer1"]
    assert not any(params[block]["bn2"]["scale"].any() for block in ("block0", "block1"))
    shorter = classifier(depths=(), bottleneck=False)
    np.testing.assert_allclose(
        apply(model, variables, images(2)),
        apply(shorter, variables, images(2)),
        rtol=1e-6,
    )


def test_strides_are_in_the_3x3_convolution() -> None:
    model = classifier()
    _, state = jax.eval_shape(
        lambda: model.apply(
            model.init(jax.random.key(0), images(1), train=False),
            images(1),
            train=False,
            capture_intermediates=True,
            mutable=["intermediates"],
        )
    )
    layers = state["intermediates"]["backbone"]
    assert layers["stem"]["__call__"][0].shape == (1, 8, 8, 4)
    assert layers["layer1"]["__call__"][0].shape == (1, 8, 8, 16)
    assert layers["layer2"]["block0"]["conv1"]["__call__"][0].shape == (1, 8, 8, 8)
    assert layers["layer2"]["block0"]["conv2"]["__call__"][0].shape == (1, 4, 4, 8)
    assert layers["layer2"]["__call__"][0].shape == (1, 4, 4, 32)


def test_frozen_stages_keep_their_statistics_and_others_do_not() -> None:
    model = classifier()
    variables = init(model)
    _, updates = model.apply(
        variables, images(4), train=True, frozen=("stem", "layer2"), mutable=["batch_stats"]
    )
    before = variables["batch_stats"]["backbone"]
    after = updates["batch_stats"]["backbone"]
    for stage in ("stem", "layer2"):
        assert jax.tree.all(jax.tree.map(jnp.array_equal, before[stage], after[stage]))
    changed = jax.tree.map(lambda a, b: not jnp.array_equal(a, b), before, after)["layer1"]
    assert jax.tree.all(changed)


def test_freezing_every_stage_is_evaluation() -> None:
    model = classifier()
    variables = init(model)
    frozen = apply(model, variables, images(4), train=True, frozen=model.stages)
    np.testing.assert_array_equal(frozen, apply(model, variables, images(4)))
    # And it matters: with batch statistics the logits are others.
    free, _ = apply(model, variables, images(4), train=True, mutable=["batch_stats"])
    assert not jnp.allclose(free, frozen, atol=1e-2)


def test_an_example_alone_is_its_row_in_a_batch() -> None:
    model = classifier(drop_path=0.5)
    variables = init(model)
    logits_BC = apply(model, variables, images(4))
    alone_1C = apply(model, variables, images(4)[2:3])
    np.testing.assert_allclose(alone_1C[0], logits_BC[2], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(logits_BC, apply(model, variables, images(4)))


def test_drop_path_is_linear_in_depth_and_needs_its_key_only_in_training() -> None:
    model = classifier(depths=(2, 1), drop_path=0.5)
    variables = init(model)

    def train(key: int) -> jax.Array:
        rngs = {"dropout": jax.random.key(key)}
        return apply(model, variables, images(4), train=True, frozen=model.stages, rngs=rngs)

    assert not jnp.allclose(train(0), train(1))
    rates: list[float] = []

    def watch(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if type(context.module).__name__ == "DropPath":
            rates.append(context.module.rate)
        return next_fun(*args, **kwargs)

    with nn.intercept_methods(watch):
        jax.eval_shape(lambda: model.apply(variables, images(1), train=False))
    assert rates == [0.0, 0.25, 0.5]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_close_to_single(dtype: str) -> None:
    single, half = classifier(), classifier(dtype=jnp.dtype(dtype))
    variables = init(single)
    logits_BC, updates = apply(half, variables, images(4), train=True, mutable=["batch_stats"])
    want_BC, _ = apply(single, variables, images(4), train=True, mutable=["batch_stats"])
    assert logits_BC.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(updates))
    assert 0 < jnp.max(jnp.abs(logits_BC - want_BC)) < 0.1 * jnp.max(jnp.abs(want_BC))


def test_batch_statistics_are_over_the_named_axis() -> None:
    model, alone = classifier(axis_name="batch"), classifier()
    variables = init(alone)
    want_BC, want = apply(alone, variables, images(4), train=True, mutable=["batch_stats"])

    def replica(image_BHWC: jax.Array) -> Any:
        return model.apply(variables, image_BHWC, train=True, mutable=["batch_stats"])

    split = images(4).reshape(2, 2, 32, 32, 3)
    logits_DBC, updates = jax.jit(jax.vmap(replica, axis_name="batch"))(split)
    np.testing.assert_allclose(logits_DBC.reshape(4, 3), want_BC, rtol=1e-4, atol=1e-4)
    jax.tree.map(
        lambda got, wanted: np.testing.assert_allclose(got[0], wanted, rtol=1e-4, atol=1e-4),
        updates["batch_stats"],
        want["batch_stats"],
    )
