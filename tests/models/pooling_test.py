"""Pooling by hand, and the CPU's lowering against XLA's windows."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skinjax.models import pooling


def random(shape: tuple[int, ...], seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def ramp() -> jax.Array:
    return -jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)


@pytest.mark.parametrize("lowering", ["cpu", "xla", "auto"])
def test_max_pool_never_takes_the_padding(lowering: str) -> None:
    # All negative: zeros around would win.
    y_BHWC = pooling.max_pool(ramp(), 3, 2, 1, lowering)
    np.testing.assert_array_equal(y_BHWC[0, :, :, 0], [[-1, -2], [-4, -5]])


@pytest.mark.parametrize("lowering", ["cpu", "xla", "auto"])
def test_average_pool_counts_the_padding_or_not(lowering: str) -> None:
    counted = pooling.average_pool(ramp(), 2, 2, 1, True, lowering)
    np.testing.assert_allclose(counted[0, :, :, 0], [[-0.25, -1.25], [-2.75, -7.0]])
    uncounted = pooling.average_pool(ramp(), 2, 2, 1, False, lowering)
    np.testing.assert_allclose(uncounted[0, :, :, 0], [[-1, -2.5], [-5.5, -7]])


def test_sizes_that_the_windows_do_not_fill() -> None:
    assert pooling.max_pool(jnp.ones((1, 7, 8, 1)), 2, 2).shape == (1, 3, 4, 1)
    # TensorFlow's padding rounds up.
    assert pooling.max_pool(jnp.ones((1, 7, 8, 1)), 2, 2, "same").shape == (1, 4, 4, 1)


def test_average_pool_sums_in_float32() -> None:
    # Sums of bfloat16 would be wrong in the second digit.
    x_BHWC = random((1, 32, 32, 8), 0).astype(jnp.bfloat16)
    y_BHWC = pooling.average_pool(x_BHWC, 32, 32)
    want_BC = jnp.mean(x_BHWC, axis=(1, 2), dtype=jnp.float32)
    assert y_BHWC.dtype == jnp.bfloat16
    np.testing.assert_allclose(y_BHWC[:, 0, 0].astype(jnp.float32), want_BC, rtol=0.004)


def pool_max(x_BHWC: jax.Array, padding: int | str, lowering: str) -> jax.Array:
    return pooling.max_pool(x_BHWC, 3, 2, padding, lowering)


def pool_average(x_BHWC: jax.Array, padding: int | str, lowering: str) -> jax.Array:
    return pooling.average_pool(x_BHWC, 3, 2, padding, False, lowering)


@pytest.mark.parametrize("padding", [1, "same"])
@pytest.mark.parametrize("pool", [pool_max, pool_average])
def test_lowerings_agree_in_values_and_gradients(
    pool: Callable[..., jax.Array], padding: int | str
) -> None:
    x_BHWC = random((2, 7, 8, 3), 0)

    def results(lowering: str) -> tuple[jax.Array, ...]:
        y_BHWC, vjp = jax.vjp(lambda x_BHWC: pool(x_BHWC, padding, lowering), x_BHWC)
        return y_BHWC, *vjp(random(y_BHWC.shape, 1))

    for got, want in zip(jax.jit(lambda: results("cpu"))(), results("xla"), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_each_platform_gets_its_own_lowering() -> None:
    traced = jax.jit(lambda x_BHWC: pooling.max_pool(x_BHWC, 3, 2, 1)).trace(
        random((1, 4, 4, 1), 0)
    )
    assert "reduce_window" not in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "reduce_window" in traced.lower(lowering_platforms=("cuda",)).as_text()
