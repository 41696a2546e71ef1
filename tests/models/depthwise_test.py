"""The CPU's lowering of depthwise convolution against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from skinjax.models import depthwise
from skinjax.models.convolution import Padding, pads

ONE: Padding = ((1, 1), (1, 1))


def random(shape: tuple[int, ...], seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", [(4, 8, 8, 5), (3, 9, 7, 4), (1, 6, 11, 2), (34, 5, 5, 3)])
def test_values_and_gradients_are_those_of_a_convolution(
    shape: tuple[int, ...], size: int, strides: int, padding: str
) -> None:
    x_BHWC, kernel = random(shape, 0), random((size, size, 1, shape[-1]), 1)
    sides = pads(shape[1:3], (size, size), strides, padding)

    def results(lowering: str) -> tuple[jax.Array, ...]:
        def convolve(x_BHWC: jax.Array, kernel: jax.Array) -> jax.Array:
            return depthwise.convolve(x_BHWC, kernel, strides, sides, lowering)

        y_BHWC, vjp = jax.vjp(convolve, x_BHWC, kernel)
        return y_BHWC, *vjp(random(y_BHWC.shape, 2))

    for got, want in zip(jax.jit(lambda: results("cpu"))(), results("xla"), strict=True):
        scale = jnp.max(jnp.abs(want))
        np.testing.assert_allclose(got / scale, want / scale, rtol=0, atol=1e-5)


def test_xlas_lowering_is_the_grouped_convolution() -> None:
    x_BHWC, kernel = random((2, 6, 5, 3), 0), random((3, 3, 1, 3), 1)
    got = depthwise.convolve(x_BHWC, kernel, 2, ((0, 1), (1, 2)), "xla")
    want = jax.lax.conv_general_dilated(
        x_BHWC,
        kernel,
        (2, 2),
        ((0, 1), (1, 2)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=3,
    )
    np.testing.assert_array_equal(got, want)


def test_half_precision_accumulates_the_kernel_gradient_in_float32() -> None:
    # 4,096 ones: a bfloat16 sum would stop growing at 256.
    x_BHWC, kernel = jnp.ones((1, 64, 64, 1), jnp.bfloat16), jnp.ones((3, 3, 1, 1), jnp.bfloat16)
    gradient = jax.grad(lambda kernel: depthwise.convolve(x_BHWC, kernel, 1, ONE).sum())(kernel)
    assert gradient.dtype == jnp.bfloat16
    assert gradient[1, 1, 0, 0] == 4096


def test_each_platform_gets_its_own_lowering() -> None:
    def loss(x_BHWC: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.sum(depthwise.convolve(x_BHWC, kernel, 1, ONE) ** 2)

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
        return jnp.sum(depthwise.convolve(x_BHWC, kernel, 1, ONE) ** 2)

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
