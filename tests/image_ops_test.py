"""Image operations against OpenCV, SciPy, the standard library and hand computation."""

import colorsys

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from skinjax import image_ops

LUMA = np.array([0.299, 0.587, 0.114])

_affine_matrix = jax.jit(image_ops.affine_matrix, static_argnums=0)


def _image(height: int = 12, width: int = 16) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def _smooth(height: int, width: int) -> np.ndarray:
    """A float image on [0, 255] without detail finer than a few pixels."""
    rng = np.random.default_rng(1)
    image_HWC = scipy.ndimage.gaussian_filter(rng.normal(size=(height, width, 3)), (2, 2, 0))
    image_HWC -= image_HWC.min()
    return (255 * image_HWC / image_HWC.max()).astype(np.float32)


def test_flips_by_the_warp_are_exact_too():
    image_HWC = _image()
    matrix_23 = _affine_matrix(
        (12, 16, 3), flip_x=True, flip_y=True, degrees=0, crop_side=1, crop_x=0.3, crop_y=0.9
    )
    warped = jax.jit(image_ops.warp_affine)(image_HWC, matrix_23)
    np.testing.assert_array_equal(np.asarray(warped), cv2.flip(image_HWC, -1))


_DEGREES = [0.0, 3.0, 45.0, 90.0, 137.0, -180.0]


@pytest.mark.parametrize("shape", [(24, 24), (20, 31)])
def test_warp_is_scipys_and_opencvs(shape: tuple[int, int]):
    image_HWC = _smooth(*shape)
    matrix_B23 = jnp.stack(
        [
            _affine_matrix(
                shape, flip_x=k % 2, flip_y=k % 3, degrees=a, crop_side=0.8, crop_x=0.1, crop_y=0.7
            )
            for k, a in enumerate(_DEGREES)
        ]
    )
    # One far outside, so that a position is reflected more than once.
    matrix_B23 = matrix_B23.at[0].set(jnp.array([[2.5, 0.3, -70.0], [-0.4, 3.1, 40.0]]))
    warped_BHWC = jax.jit(jax.vmap(image_ops.warp_affine, (None, 0)))(image_HWC, matrix_B23)
    y_HW, x_HW = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    for warped_HWC, matrix_23 in zip(np.asarray(warped_BHWC), np.asarray(matrix_B23), strict=True):
        (x_place, y_place) = np.einsum(
            "ij,jhw->ihw", matrix_23.astype(np.float64), np.stack([x_HW, y_HW, np.ones(shape)])
        )
        expected_HWC = np.stack(
            [
                scipy.ndimage.map_coordinates(channel, [y_place, x_place], order=1, mode="reflect")
                for channel in np.moveaxis(image_HWC, -1, 0)
            ],
            -1,
        )
        np.testing.assert_allclose(warped_HWC, expected_HWC, atol=0.01)
        opencv_HWC = cv2.warpAffine(
            image_HWC,
            matrix_23,
            shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
        # OpenCV may round places to 1/32 of a pixel; the image changes by some 30 per pixel.
        np.testing.assert_allclose(warped_HWC, opencv_HWC, atol=1.5)


@pytest.mark.parametrize("degrees", [0.0, 10.0, 90.0, -120.0])
def test_affine_matrix_is_opencvs_rotation(degrees: float):
    shape = (24, 31)
    matrix_23 = _affine_matrix(
        shape, flip_x=False, flip_y=False, degrees=degrees, crop_side=1.0, crop_x=0.5, crop_y=0.5
    )
    forward_23 = cv2.getRotationMatrix2D((15.0, 11.5), degrees, 1.0)
    np.testing.assert_allclose(matrix_23, cv2.invertAffineTransform(forward_23), atol=1e-4)


def test_about_the_centre_and_shifted():
    shape = (20, 30)
    matrix_22 = jnp.array([[1.2, 0.3], [-0.1, 0.7]])
    matrix_23 = np.asarray(image_ops.about_centre(shape, matrix_22, 0.1, -0.2))
    # The centre, between the pixels, moves by the shift alone: 3 pixels right and 4 up.
    np.testing.assert_allclose(matrix_23 @ [14.5, 9.5, 1], [17.5, 5.5], atol=1e-5)
    np.testing.assert_allclose(matrix_23[:, :2], matrix_22)


def test_composed_is_one_warp_after_the_other():
    image_HWC = _smooth(40, 40)
    first_23 = image_ops.about_centre((40, 40), jnp.array([[0.9, 0.2], [0.0, 1.1]]), 0.1, 0.0)
    second_23 = image_ops.about_centre((40, 40), jnp.array([[1.0, 0.0], [-0.3, 0.8]]), 0.0, 0.05)
    warp = jax.jit(image_ops.warp_affine)
    both = warp(image_HWC, jax.jit(image_ops.compose)(first_23, second_23))
    one_by_one = warp(warp(image_HWC, first_23), second_23)
    # The second sampling blurs a little, and sees the first one's reflections at the edge.
    np.testing.assert_allclose(both[12:-12, 12:-12], one_by_one[12:-12, 12:-12], atol=8)


def test_crop_is_opencvs_resize_of_the_crop():
    # A crop of exactly 20 of 40 pixels, bottom left, by half-pixel rules.
    image_HWC = _smooth(40, 40)
    matrix_23 = _affine_matrix(
        (40, 40), flip_x=False, flip_y=False, degrees=0.0, crop_side=0.5, crop_x=0.0, crop_y=1.0
    )
    warped_HWC = np.asarray(jax.jit(image_ops.warp_affine)(image_HWC, matrix_23))
    crop_HWC = cv2.resize(image_HWC[20:, :20], (40, 40), interpolation=cv2.INTER_LINEAR)
    # OpenCV repeats the crop's edge where the warp still sees the image around it.
    np.testing.assert_allclose(warped_HWC[1:, :-1], crop_HWC[1:, :-1], atol=0.01)


def test_flip_then_rotate_then_crop():
    image_HWC = _smooth(24, 24)
    matrix_23 = _affine_matrix(
        (24, 24), flip_x=True, flip_y=False, degrees=90.0, crop_side=0.5, crop_x=1.0, crop_y=0.0
    )
    one_by_one = np.rot90(image_HWC[:, ::-1])[:12, 12:]
    warped_HWC = np.asarray(jax.jit(image_ops.warp_affine)(image_HWC, matrix_23))
    expected = cv2.resize(np.ascontiguousarray(one_by_one), (24, 24))
    np.testing.assert_allclose(warped_HWC[1:-1, 1:-1], expected[1:-1, 1:-1], atol=0.05)


@given(brightness=st.floats(0, 2), contrast=st.floats(0, 2), saturation=st.floats(0, 2))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_brightness_contrast_saturation_in_torchvisions_order(
    brightness: float, contrast: float, saturation: float
):
    image_HWC = _image(5, 6) / 255.0
    matrix_33, offset = image_ops.colour_matrix(
        image_HWC.mean((0, 1)).astype(np.float32),
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        hue=0.0,
    )
    expected = image_HWC * brightness
    expected = contrast * expected + (1 - contrast) * (expected @ LUMA).mean()
    expected = saturation * expected + (1 - saturation) * (expected @ LUMA)[..., None]
    result = image_ops.adjust_colour(jnp.asarray(image_HWC, jnp.float32), matrix_33, offset)
    np.testing.assert_allclose(np.asarray(result), expected, atol=1e-5)


def test_hue_turns_the_chroma_and_keeps_the_grey():
    image_HWC = _image() / np.float32(255)

    def turned(hue: float) -> np.ndarray:
        matrix_33, offset = image_ops.colour_matrix(
            jnp.zeros(3), brightness=1.0, contrast=1.0, saturation=1.0, hue=hue
        )
        return np.asarray(image_ops.adjust_colour(jnp.asarray(image_HWC), matrix_33, offset))

    np.testing.assert_allclose(turned(0.0), image_HWC, atol=1e-6)
    np.testing.assert_allclose(turned(1.0), image_HWC, atol=1e-5)
    np.testing.assert_allclose(turned(0.13) @ LUMA, image_HWC @ LUMA, atol=1e-5)
    # Half a turn mirrors every colour at its grey.
    grey_HW1 = (image_HWC @ LUMA)[..., None]
    np.testing.assert_allclose(turned(0.5), 2 * grey_HW1 - image_HWC, atol=1e-5)


@pytest.mark.parametrize("hue", [-0.05, 0.02, 0.05])
def test_small_hue_shifts_follow_hsv_on_skin(hue: float):
    skin = (0.85, 0.62, 0.55)
    h, s, v = colorsys.rgb_to_hsv(*skin)
    matrix_33, _ = image_ops.colour_matrix(
        jnp.zeros(3), brightness=1.0, contrast=1.0, saturation=1.0, hue=hue
    )
    shifted = colorsys.hsv_to_rgb((h + hue) % 1, s, v)
    change = np.asarray(matrix_33) @ np.array(skin) - skin
    expected = np.array(shifted) - skin
    # HSV changes the grey too: compare the change of colour alone.
    expected -= expected @ LUMA
    cosine = change @ expected / np.linalg.norm(change) / np.linalg.norm(expected)
    assert cosine > 0.8


def test_normalize():
    image_BHWC = jnp.array([[[[0.5, 0.25, 1.0]]]])
    result = image_ops.normalize(image_BHWC, (0.5, 0.5, 0.5), (0.25, 0.5, 0.1))
    np.testing.assert_allclose(np.asarray(result).ravel(), [0.0, -0.5, 5.0], rtol=1e-6)
