"""The CPU's lowering of depthwise convolution against XLA's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from skinjax.models import depthwise


def random(shape: tuple[int, ...], seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def reference(
    x_BHWC: jax.Array, kernel: jax.Array, dy_BHWC: jax.Array | None, strides: int, padding: int
) -> tuple[jax.Array, ...]:
    grouped = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(strides, strides),
        padding=[(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x_BHWC.shape[-1],
    )
    y_BHWC, vjp = jax.vjp(grouped, x_BHWC, kernel)
    return y_BHWC, *(() if dy_BHWC is None else vjp(dy_BHWC))


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", [(4, 8, 8, 5), (3, 9, 7, 4), (1, 6, 11, 2), (34, 5, 5, 3)])
def test_values_and_gradients_are_those_of_a_convolution(
    shape: tuple[int, ...], size: int, strides: int
) -> None:
    padding = (size - 1) // 2
    x_BHWC, kernel = random(shape, 0), random((size, size, 1, shape[-1]), 1)
    dy_BHWC = random(reference(x_BHWC, kernel, None, strides, padding)[0].shape, 2)
    want = reference(x_BHWC, kernel, dy_BHWC, strides, padding)

    @jax.jit
    def got(x_BHWC: jax.Array, kernel: jax.Array) -> tuple[jax.Array, ...]:
        convolve = functools.partial(depthwise.convolve, strides=strides, padding=padding)
        y_BHWC, vjp = jax.vjp(convolve, x_BHWC, kernel)
        return y_BHWC, *vjp(dy_BHWC)

    for got_array, want_array in zip(got(x_BHWC, kernel), want, strict=True):
        scale = jnp.max(jnp.abs(want_array))
        np.testing.assert_allclose(got_array / scale, want_array / scale, rtol=0, atol=1e-5)


def test_half_precision_accumulates_the_kernel_gradient_in_float32() -> None:
    # 4,096 ones: a bfloat16 sum would stop growing at 256.
    x_BHWC, kernel = jnp.ones((1, 64, 64, 1), jnp.bfloat16), jnp.ones((3, 3, 1, 1), jnp.bfloat16)
    gradient = jax.grad(lambda kernel: depthwise.convolve(x_BHWC, kernel, 1, 1).sum())(kernel)
    assert gradient.dtype == jnp.bfloat16
    assert gradient[1, 1, 0, 0] == 4096


def test_each_platform_gets_its_own_lowering() -> None:
    def loss(x_BHWC: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.sum(depthwise.convolve(x_BHWC, kernel, 1, 1) ** 2)

    arguments = random((2, 6, 6, 4), 0), random((3, 3, 1, 4), 1)
    lowered = jax.jit(jax.grad(loss, (0, 1))).trace(*arguments)
    cpu = lowered.lower(lowering_platforms=("cpu",)).as_text()
    cuda = lowered.lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.convolution" not in cpu
    assert "stablehlo.while" in cpu
    assert cuda.count("stablehlo.convolution") == 3
    assert "stablehlo.while" not in cuda


def test_gradients_under_shard_map_and_pmap() -> None:
    # Over two devices with two examples each.
    x_BHWC, kernel = random((4, 6, 6, 4), 0), random((3, 3, 1, 4), 1)

    def loss(kernel: jax.Array, x_BHWC: jax.Array) -> jax.Array:
        return jnp.sum(depthwise.convolve(x_BHWC, kernel, 1, 1) ** 2)

    def gradient(kernel: jax.Array, x_BHWC: jax.Array) -> jax.Array:
        return jax.lax.psum(jax.grad(loss)(kernel, x_BHWC), "d")

    mesh = Mesh(np.array(jax.devices()[:2]), ("d",))
    specs = {"in_specs": (P(), P("d")), "out_specs": P()}
    sharded = jax.jit(jax.shard_map(gradient, mesh=mesh, check_vma=False, **specs))
    mapped = jax.pmap(gradient, axis_name="d", in_axes=(None, 0), devices=jax.devices()[:2])
    want = jax.jit(jax.grad(loss))(kernel, x_BHWC)
    np.testing.assert_allclose(sharded(kernel, x_BHWC), want, rtol=1e-5, atol=1e-4)
    for got in mapped(kernel, x_BHWC.reshape(2, 2, 6, 6, 4)):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)
