"""Layers shared by the families."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skinjax.models import convolution, layers
from skinjax.models.layers import EVALUATION, Mode, Norm, Settings

TRAIN = Mode(train=True)


def random(shape: tuple[int, ...], seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("lowering", ["auto", "xla", "cpu"])
@pytest.mark.parametrize(("size", "strides"), [(1, 2), (3, 1), (3, 2), (7, 2)])
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_conv_is_xlas_convolution(padding: str, size: int, strides: int, lowering: str) -> None:
    x_BHWC = random((2, 8, 9, 3))
    conv = layers.Conv(5, size, strides, settings=Settings(padding=padding, lowering=lowering))
    variables = conv.init(jax.random.key(0), x_BHWC)
    assert variables["params"]["kernel"].shape == (size, size, 3, 5)
    pads: Any = [((size - 1) // 2,) * 2] * 2 if padding == "symmetric" else "SAME"
    reference = nn.Conv(5, (size, size), (strides, strides), padding=pads, use_bias=False)

    def value_and_gradients(module: nn.Module) -> tuple[jax.Array, ...]:
        y_BHWC, vjp = jax.vjp(module.apply, variables, x_BHWC)
        dvariables, dx_BHWC = vjp(jnp.cos(y_BHWC))
        return y_BHWC, dx_BHWC, dvariables["params"]["kernel"]

    got = jax.jit(lambda: value_and_gradients(conv))()
    want = jax.jit(lambda: value_and_gradients(reference))()
    for got_array, want_array in zip(got, want, strict=True):
        np.testing.assert_allclose(got_array, want_array, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel_size", "padding", "shape"),
    [
        ((1, 7), None, (1, 8, 9, 5)),
        ((7, 1), "symmetric", (1, 8, 9, 5)),
        (3, "valid", (1, 6, 7, 5)),
        (3, 0, (1, 6, 7, 5)),
        (3, 3, (1, 12, 13, 5)),
        ((1, 3), "same", (1, 8, 9, 5)),
    ],
)
def test_padding_of_a_single_convolution(kernel_size: Any, padding: Any, shape: Any) -> None:
    conv = layers.Conv(5, kernel_size, padding=padding)
    y_BHWC, _ = conv.init_with_output(jax.random.key(0), random((1, 8, 9, 3)))
    assert y_BHWC.shape == shape


def test_unknown_padding_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown padding 'sym'"):
        layers.Conv(5, 3, padding="sym").init(jax.random.key(0), random((1, 8, 9, 3)))


def test_same_padding_is_tensorflows() -> None:
    assert convolution.pads((224, 225), (3, 3), 2, "same") == ((0, 1), (1, 1))
    assert convolution.pads((7, 8), (5, 5), 2, "same") == ((2, 2), (1, 2))
    assert convolution.pads((4, 4), (1, 1), 2, "same") == ((0, 0), (0, 0))


def test_depthwise_parameters_and_fan_out() -> None:
    x_BHWC = random((1, 4, 4, 4096))
    params = layers.Conv(4096, 3, depthwise=True, use_bias=True).init(jax.random.key(0), x_BHWC)
    assert params["params"]["kernel"].shape == (3, 3, 1, 4096)
    assert params["params"]["bias"].shape == (4096,)
    # He by fan-out over one group: 2 / (3 * 3), not 2 / (3 * 3 * 4096).
    np.testing.assert_allclose(jnp.std(params["params"]["kernel"]), (2 / 9) ** 0.5, rtol=0.02)
    with pytest.raises(ValueError, match="4096 channels to 8"):
        layers.Conv(8, 3, depthwise=True).init(jax.random.key(0), x_BHWC)


def test_dense_is_flaxs() -> None:
    x_BTC = random((2, 3, 4))
    ours, variables = layers.Dense(5).init_with_output(jax.random.key(0), x_BTC)
    theirs, their_variables = nn.Dense(5).init_with_output(jax.random.key(0), x_BTC)
    np.testing.assert_array_equal(ours, theirs)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, variables, their_variables))
    half = layers.Dense(5, settings=Settings(jnp.bfloat16)).apply(variables, x_BTC)
    assert half.dtype == jnp.bfloat16


@pytest.mark.parametrize("unbiased", [True, False])
def test_batch_norm_by_hand(unbiased: bool) -> None:
    x_BC = random((6, 3)) * jnp.array([1.0, 2.0, 0.1]) + 1
    norm = layers.BatchNorm(Settings(norm=Norm(1e-2, 0.8, unbiased)))
    variables = norm.init(jax.random.key(0), x_BC, EVALUATION)
    variables["params"] = {"scale": jnp.array([1.0, 2.0, 3.0]), "bias": jnp.array([0.0, 1.0, 2.0])}
    y_BC, updates = norm.apply(variables, x_BC, TRAIN, mutable=["batch_stats"])
    mean, var = np.mean(x_BC, 0), np.var(x_BC, 0)
    want = (x_BC - mean) / np.sqrt(var + 1e-2) * np.array([1, 2, 3]) + np.array([0, 1, 2])
    np.testing.assert_allclose(y_BC, want, rtol=1e-4, atol=1e-5)
    new_var = 0.8 + 0.2 * np.var(x_BC, 0, ddof=int(unbiased))
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.2 * mean, rtol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["var"], new_var, rtol=1e-5)
    y_BC = norm.apply({**variables, **updates}, x_BC, EVALUATION)
    want = (x_BC - 0.2 * mean) / np.sqrt(new_var + 1e-2) * np.array([1, 2, 3]) + np.array([0, 1, 2])
    np.testing.assert_allclose(y_BC, want, rtol=1e-4, atol=1e-5)


def test_a_batch_norm_of_a_frozen_layer_keeps_to_its_running_statistics() -> None:
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x_BC: jax.Array, mode: Mode) -> jax.Array:
            x_BC = layers.BatchNorm(name="a")(x_BC, mode)
            return layers.BatchNorm(name="b")(x_BC, mode)

    x_BC = random((6, 3))
    model = Two()
    variables = model.init(jax.random.key(0), x_BC, EVALUATION)
    mode = Mode(train=True, frozen=frozenset({"a"}))
    _, updates = model.apply(variables, x_BC, mode, mutable=["batch_stats"])
    assert updates["batch_stats"]["a"]["mean"].tolist() == [0, 0, 0]
    assert all(updates["batch_stats"]["b"]["mean"] != 0)


def test_batch_norm_over_replicas_is_that_of_the_global_batch() -> None:
    x_BC = random((8, 5))
    alone = layers.BatchNorm()
    variables = alone.init(jax.random.key(0), x_BC, EVALUATION)
    want, want_stats = alone.apply(variables, x_BC, TRAIN, mutable=["batch_stats"])
    mapped = layers.BatchNorm(Settings(axis_name="batch"))

    def replica(x_bC: jax.Array) -> Any:
        return mapped.apply(variables, x_bC, TRAIN, mutable=["batch_stats"])

    got, got_stats = jax.vmap(replica, axis_name="batch")(x_BC.reshape(4, 2, 5))
    np.testing.assert_allclose(got.reshape(8, 5), want, rtol=1e-5, atol=1e-5)
    for name, value in want_stats["batch_stats"].items():
        np.testing.assert_allclose(got_stats["batch_stats"][name][0], value, rtol=1e-5, atol=1e-6)


def test_batch_norm_without_a_scale() -> None:
    variables = layers.BatchNorm(use_scale=False).init(
        jax.random.key(0), random((4, 3)), EVALUATION
    )
    assert set(variables["params"]) == {"bias"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_batch_norm_statistics_are_float32(dtype: str) -> None:
    # Values near 500 overflow float16's range when squared, and bfloat16 can't tell 500 from 501.
    x_BC = (500 + random((512, 1))).astype(dtype)
    norm = layers.BatchNorm(Settings(jnp.dtype(dtype)))
    variables = norm.init(jax.random.key(0), x_BC, EVALUATION)
    y_BC, updates = norm.apply(variables, x_BC, TRAIN, mutable=["batch_stats"])
    assert y_BC.dtype == dtype
    x_BC = np.asarray(x_BC, np.float64)
    assert updates["batch_stats"]["mean"].dtype == jnp.float32
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.1 * x_BC.mean(0), rtol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["var"], 0.9 + 0.1 * x_BC.var(0), rtol=0.05)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layer_norm_is_flaxs(dtype: str) -> None:
    x_BTC = (10 + random((2, 3, 16))).astype(dtype)
    ours = layers.LayerNorm(1e-6, Settings(jnp.dtype(dtype)))
    theirs = nn.LayerNorm(1e-6, dtype=jnp.dtype(dtype), use_fast_variance=False)
    variables = {"params": {"scale": random((16,), 1), "bias": random((16,), 2)}}
    got, want = ours.apply(variables, x_BTC), theirs.apply(variables, x_BTC)
    assert got.dtype == want.dtype == dtype
    tolerance = 1e-5 if dtype == "float32" else 1e-2
    np.testing.assert_allclose(
        got.astype(jnp.float32), want.astype(jnp.float32), rtol=tolerance, atol=tolerance
    )


def test_drop_path_drops_whole_examples_and_keeps_the_mean() -> None:
    x_BHWC = jnp.ones((2000, 2, 1, 3))
    drop = layers.DropPath(0.4)
    y_BHWC = drop.apply({}, x_BHWC, TRAIN, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(y_BHWC)) == {np.float32(0), np.float32(1) / np.float32(0.6)}
    assert bool(jnp.all(y_BHWC == y_BHWC[:, :1, :1, :1]))
    np.testing.assert_allclose(y_BHWC.mean(), 1.0, atol=0.05)
    assert drop.apply({}, x_BHWC, EVALUATION) is x_BHWC


def test_drop_path_rates_grow_linearly() -> None:
    rates = layers.drop_path_rates(0.2, (1, 2, 2))
    np.testing.assert_allclose(sum(rates, ()), [0, 0.05, 0.1, 0.15, 0.2])
    assert [len(stage) for stage in rates] == [1, 2, 2]
    rates = layers.drop_path_rates(0.2, (2, 2), inclusive=False)
    np.testing.assert_allclose(sum(rates, ()), [0, 0.05, 0.1, 0.15])
    assert layers.drop_path_rates(0.2, (1,)) == ((0.0,),)


class Residual(nn.Module):
    settings: Settings

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        y = nn.relu(layers.Dense(16, settings=self.settings, name="in")(x))
        y = layers.BatchNorm(self.settings, name="bn")(y, mode)
        y = layers.Dense(x.shape[-1], settings=self.settings, name="out")(y)
        return x + layers.DropPath(0.5, name="drop_path")(y, mode)


def test_remat_keeps_less_and_changes_nothing() -> None:
    x_BC = random((8, 4))

    def residuals(settings: Settings) -> tuple[Any, int]:
        blocks = tuple(Residual(settings, name=f"block{i}") for i in range(3))
        stage = layers.Stage(blocks, settings)
        variables = stage.init(jax.random.key(0), x_BC, EVALUATION)
        assert set(variables["params"]) == {"block0", "block1", "block2"}

        def loss(params: Any) -> Any:
            y_BC, updated = stage.apply(
                {**variables, "params": params}, x_BC, TRAIN,
                rngs={"dropout": jax.random.key(1)}, mutable=["batch_stats"],
            )  # fmt: skip
            return jnp.sum(jnp.sin(y_BC)), updated

        result = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        kept = jax.eval_shape(lambda p: jax.vjp(loss, p, has_aux=True)[1], variables["params"])
        return result, sum(leaf.size for leaf in jax.tree.leaves(kept))

    (plain, plain_kept), (again, again_kept) = (
        residuals(Settings()),
        residuals(Settings(remat=True)),
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), plain, again)
    assert again_kept < plain_kept
