"""Layers shared by the families."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skinjax.models import layers


def random(shape: tuple[int, ...], seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(("size", "strides"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
@pytest.mark.parametrize("side", [8, 9])
def test_conv_is_xlas_convolution_with_symmetric_padding(
    side: int, size: int, strides: int
) -> None:
    x_BHWC = random((2, side, side, 3))
    conv = layers.Conv(5, size, strides)
    variables = conv.init(jax.random.key(0), x_BHWC)
    assert variables["params"]["kernel"].shape == (size, size, 3, 5)
    padding = [((size - 1) // 2,) * 2] * 2
    reference = nn.Conv(5, (size, size), (strides, strides), padding=padding, use_bias=False)

    def value_and_gradients(module: nn.Module) -> tuple[jax.Array, ...]:
        y_BHWC, vjp = jax.vjp(module.apply, variables, x_BHWC)
        dvariables, dx_BHWC = vjp(jnp.cos(y_BHWC))
        return y_BHWC, dx_BHWC, dvariables["params"]["kernel"]

    got = jax.jit(lambda: value_and_gradients(conv))()
    want = jax.jit(lambda: value_and_gradients(reference))()
    for got_array, want_array in zip(got, want, strict=True):
        np.testing.assert_allclose(got_array, want_array, rtol=1e-5, atol=1e-5)


def test_pointwise_is_a_product_on_the_cpu_and_a_convolution_elsewhere() -> None:
    x_BHWC, kernel = random((2, 4, 4, 3)), random((1, 1, 3, 5))
    traced = jax.jit(jax.grad(lambda *a: layers.convolve(*a, 2, 0).sum(), (0, 1))).trace(
        x_BHWC, kernel
    )
    assert "stablehlo.convolution" not in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.dot" not in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_depthwise_parameters_and_fan_out() -> None:
    x_BHWC = random((1, 4, 4, 4096))
    params = layers.Conv(4096, 3, depthwise=True, use_bias=True).init(jax.random.key(0), x_BHWC)
    assert params["params"]["kernel"].shape == (3, 3, 1, 4096)
    assert params["params"]["bias"].shape == (4096,)
    # He by fan-out over one group: 2 / (3 * 3), not 2 / (3 * 3 * 4096).
    np.testing.assert_allclose(jnp.std(params["params"]["kernel"]), (2 / 9) ** 0.5, rtol=0.02)
    with pytest.raises(ValueError, match="4096 channels to 8"):
        layers.Conv(8, 3, depthwise=True).init(jax.random.key(0), x_BHWC)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_batch_norm_statistics_are_float32(dtype: str) -> None:
    # Values near 500 overflow float16's range when squared, and bfloat16 can't tell 500 from 501.
    x_BC = (500 + random((512, 1))).astype(dtype)
    norm = layers.batch_norm("bn", frozen=False, dtype=jnp.dtype(dtype), axis_name=None)
    variables = norm.init(jax.random.key(0), x_BC)
    y_BC, updates = norm.apply(variables, x_BC, mutable=["batch_stats"])
    assert y_BC.dtype == dtype
    x_BC = np.asarray(x_BC, np.float64)
    assert updates["batch_stats"]["mean"].dtype == jnp.float32
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.1 * x_BC.mean(0), rtol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["var"], 0.9 + 0.1 * x_BC.var(0), rtol=0.05)


def test_drop_path_drops_whole_examples_and_keeps_the_mean() -> None:
    x_BHWC = jnp.ones((2000, 2, 1, 3))
    drop = layers.DropPath(0.4)
    y_BHWC = drop.apply({}, x_BHWC, train=True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(y_BHWC)) == {np.float32(0), np.float32(1) / np.float32(0.6)}
    assert bool(jnp.all(y_BHWC == y_BHWC[:, :1, :1, :1]))
    np.testing.assert_allclose(y_BHWC.mean(), 1.0, atol=0.05)
    assert drop.apply({}, x_BHWC, train=False) is x_BHWC


@pytest.mark.parametrize("side", [8, 9])
def test_max_pool_is_xlas_on_the_cpu_too(side: int) -> None:
    x_BHWC = random((2, side, side, 3))
    got = jax.value_and_grad(lambda x: (layers.max_pool(x) ** 2).sum())(x_BHWC)
    windows = lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))  # noqa: E731
    want = jax.value_and_grad(lambda x: (windows(x) ** 2).sum())(x_BHWC)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, want)


def test_pools() -> None:
    x_BHWC = jnp.arange(25.0).reshape(1, 5, 5, 1) - 100
    average_HW = layers.average_pool(x_BHWC)[0, :, :, 0]
    np.testing.assert_array_equal(average_HW, np.array([[3, 5], [13, 15]]) - 100)
    # PyTorch's padding is -inf and symmetric: the first window is rows and columns 0 to 1.
    maximum_HW = layers.max_pool(x_BHWC)[0, :, :, 0]
    np.testing.assert_array_equal(
        maximum_HW, np.array([[6, 8, 9], [16, 18, 19], [21, 23, 24]]) - 100
    )
