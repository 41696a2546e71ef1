"""Batch norm with its activation: values and gradients against automatic differentiation's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skinjax.models import batch_norm

EPSILON = 1e-3


def random(shape: tuple[int, ...], seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def operands() -> tuple[jax.Array, jax.Array, jax.Array]:
    # Far from mean 0, and channels of different spread.
    x = random((8, 5, 4, 6), 0) * jnp.arange(1.0, 7.0) + 3
    return x, random((6,), 1) + 1, random((6,), 2)


def plain(x: jax.Array, scale_C: jax.Array, bias_C: jax.Array, activation: str) -> jax.Array:
    mean_C, var_C = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
    z = (x - mean_C) / jnp.sqrt(var_C + EPSILON) * scale_C + bias_C
    functions = {"linear": lambda z: z, "relu": jax.nn.relu, "silu": jax.nn.silu}
    return functions[activation](z)


def fused(
    x: jax.Array, scale_C: jax.Array, bias_C: jax.Array, activation: str, axis: str | None
) -> jax.Array:
    return batch_norm.normalize_by_batch(x, scale_C, bias_C, EPSILON, activation, axis)[0]


@pytest.mark.parametrize("activation", batch_norm.ACTIVATIONS)
def test_values_and_gradients_are_those_of_the_formula(activation: str) -> None:
    args = operands()
    want, want_vjp = jax.vjp(lambda *args: plain(*args, activation), *args)
    got, got_vjp = jax.vjp(lambda *args: fused(*args, activation, None), *args)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    dy = random(want.shape, 3)
    for one, other in zip(got_vjp(dy), want_vjp(dy), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", batch_norm.ACTIVATIONS)
def test_gradients_over_replicas_are_those_of_the_global_batch(activation: str) -> None:
    x, scale_C, bias_C = operands()
    dy = random(x.shape, 3)

    def gradients(x: jax.Array, dy: jax.Array, axis: str | None) -> Any:
        return jax.vjp(lambda *args: fused(*args, activation, axis), x, scale_C, bias_C)[1](dy)

    whole = gradients(x, dy, None)
    split = jax.vmap(lambda x, dy: gradients(x, dy, "batch"), axis_name="batch")(
        x.reshape(4, 2, *x.shape[1:]), dy.reshape(4, 2, *dy.shape[1:])
    )
    np.testing.assert_allclose(split[0].reshape(x.shape), whole[0], rtol=1e-4, atol=1e-5)
    for one, other in zip(split[1:], whole[1:], strict=True):
        np.testing.assert_allclose(one.sum(0), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("constant", [0.0, 5.0, 1000.0])
def test_a_constant_channel_gives_its_scale_no_gradient(constant: float) -> None:
    x, scale_C, bias_C = operands()
    x = x.at[..., 0].set(constant)
    dy = random(x.shape, 3)
    dx, dscale_C, _ = jax.vjp(lambda *args: fused(*args, "silu", None), x, scale_C, bias_C)[1](dy)
    assert dscale_C[0] == 0
    assert jnp.all(dscale_C[1:] != 0)
    np.testing.assert_allclose(dx[..., 0].mean(), 0, atol=1e-4)  # as that of any channel


def test_half_precision_reduces_in_float32() -> None:
    x, scale_C, bias_C = operands()
    half = x.astype(jnp.bfloat16)
    y, vjp = jax.vjp(lambda x: fused(x, scale_C, bias_C, "silu", None), half)
    dx = vjp(jnp.ones_like(y))[0]
    assert (y.dtype, dx.dtype) == (jnp.float32, jnp.bfloat16)
    exact = jax.vjp(lambda x: plain(x, scale_C, bias_C, "silu"), half.astype(jnp.float32))[1]
    np.testing.assert_allclose(
        dx.astype(jnp.float32), exact(jnp.ones_like(y))[0], rtol=2e-2, atol=1e-3
    )


def test_only_the_input_is_kept_for_the_backward_pass() -> None:
    x, scale_C, bias_C = operands()
    _, vjp = jax.vjp(lambda x: fused(x, scale_C, bias_C, "silu", None), x)
    kept = sum(leaf.size for leaf in jax.tree.leaves(vjp))
    assert kept < 1.1 * x.size


def test_an_unknown_activation_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown activation 'gelu'; expected linear, relu, silu"):
        batch_norm.activate(jnp.zeros(2), "gelu")
