"""Padding by hand, and the CPU's lowering of dense convolution against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skinjax.models import convolution


def random(shape: tuple[int, ...], seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    ("padding", "size", "kernel_size", "strides", "want"),
    [
        (2, (8, 8), (3, 3), 1, ((2, 2), (2, 2))),
        ("valid", (8, 8), (3, 3), 1, ((0, 0), (0, 0))),
        ("symmetric", (8, 8), (1, 7), 2, ((0, 0), (3, 3))),
        ("same", (8, 7), (3, 3), 1, ((1, 1), (1, 1))),
        # Even sizes with stride 2: TensorFlow pads behind only. Odd ones: on both sides.
        ("same", (8, 7), (3, 3), 2, ((0, 1), (1, 1))),
        ("same", (8, 8), (5, 2), 2, ((1, 2), (0, 0))),
        # A stride beyond the kernel needs nothing.
        ("same", (8, 8), (1, 1), 2, ((0, 0), (0, 0))),
    ],
)
def test_pads(
    padding: int | str,
    size: tuple[int, int],
    kernel_size: tuple[int, int],
    strides: int,
    want: convolution.Padding,
) -> None:
    assert convolution.pads(size, kernel_size, strides, padding) == want


@pytest.mark.parametrize("padding", ["full", "SAME"])
def test_unknown_padding(padding: str) -> None:
    with pytest.raises(ValueError, match=f"unknown padding '{padding}'"):
        convolution.pads((8, 8), (3, 3), 1, padding)


@pytest.mark.parametrize("image", [(7, 6), (3, 2)])  # the second has a tiny result
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (3, 3), (1, 3)])
@pytest.mark.parametrize("how", ["symmetric", "same"])
def test_lowerings_agree_in_values_and_gradients(
    how: str, size: tuple[int, int], strides: int, image: tuple[int, int]
) -> None:
    x_BHWC, kernel = random((2, *image, 5), 0), random((*size, 5, 4), 1)
    padding = convolution.pads(image, size, strides, how)

    def results(lowering: str) -> tuple[jax.Array, ...]:
        def convolve(x_BHWC: jax.Array, kernel: jax.Array) -> jax.Array:
            return convolution.convolve(x_BHWC, kernel, strides, padding, lowering)

        y_BHWC, vjp = jax.vjp(convolve, x_BHWC, kernel)
        return y_BHWC, *vjp(random(y_BHWC.shape, 2))

    for got, want in zip(jax.jit(lambda: results("cpu"))(), results("xla"), strict=True):
        scale = jnp.max(jnp.abs(want))
        np.testing.assert_allclose(got / scale, want / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("how", ["symmetric", "same"])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("channels", [(24, 24), (32, 96)])
def test_the_gradient_of_a_kernel_row_by_row(
    channels: tuple[int, int], strides: int, how: str
) -> None:
    x_BHWC, kernel = random((2, 9, 8, channels[0]), 0), random((3, 3, *channels), 1)
    padding = convolution.pads((9, 8), (3, 3), strides, how)

    def vjp(lowering: str, x_BHWC: jax.Array, kernel: jax.Array) -> jax.Array:
        def convolve(kernel: jax.Array) -> jax.Array:
            return convolution.convolve(x_BHWC, kernel, strides, padding, lowering)

        y_BHWC, backward = jax.vjp(convolve, kernel)
        return backward(random(y_BHWC.shape, 2))[0]

    np.testing.assert_allclose(
        vjp("cpu", x_BHWC, kernel), vjp("xla", x_BHWC, kernel), rtol=1e-4, atol=1e-4
    )
    # Only going forward: the gradient is made of products.
    text = jax.jit(lambda *operands: vjp("cpu", *operands)).lower(x_BHWC, kernel).as_text()
    assert text.count("stablehlo.convolution") <= 1
    assert text.count("stablehlo.dot_general") == 3


def test_padded_pointwise_convolution_is_padded() -> None:
    x_BHWC, kernel = jnp.ones((1, 2, 2, 1)), jnp.ones((1, 1, 1, 1))
    y_BHWC = convolution.convolve(x_BHWC, kernel, 1, ((1, 0), (0, 2)), "cpu")
    np.testing.assert_array_equal(y_BHWC[0, :, :, 0], [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]])


@pytest.mark.parametrize(
    ("lowering", "cpu", "cuda"), [("auto", 0, 1), ("xla", 1, 1), ("cpu", 0, 0)]
)
def test_each_platform_gets_its_own_lowering(lowering: str, cpu: int, cuda: int) -> None:
    def convolve(x_BHWC: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolution.convolve(x_BHWC, kernel, 1, ((0, 0), (0, 0)), lowering)

    traced = jax.jit(convolve).trace(random((2, 6, 6, 4), 0), random((1, 1, 4, 4), 1))
    for platform, count in (("cpu", cpu), ("cuda", cuda)):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == count


def test_unknown_lowering() -> None:
    with pytest.raises(ValueError, match="unknown lowering 'gpu'"):
        convolution.convolve(
            jnp.ones((1, 2, 2, 1)), jnp.ones((1, 1, 1, 1)), 1, ((0, 0),) * 2, "gpu"
        )


def test_a_tiny_result_is_a_product_on_the_cpu() -> None:
    x_BHWC, kernel = random((2, 2, 2, 5), 0), random((3, 3, 5, 4), 1)
    traced = jax.jit(lambda x, k: convolution.convolve(x, k, 1, ((1, 1), (1, 1)))).trace(
        x_BHWC, kernel
    )
    assert "stablehlo.convolution" not in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.convolution" in traced.lower(lowering_platforms=("cuda",)).as_text()
