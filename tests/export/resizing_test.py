"""The resizing inside exports against OpenCV's."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from jax import export as jax_export
from onnx import helper

from skinjax.data.preprocess import Preprocess
from skinjax.export import onnx_resizing, resizing

# Height, width, and the share of values that may differ by a grey level. OpenCV rounds its linear
# weights, and what they give, on the way; ONNX doesn't, so what grows differs more often.
SHRINK = [(75, 100), (224, 224), (32, 64), (64, 64), (16, 16), (33, 500)]
GROW = [(7, 9), (11, 40), (60, 5), (1, 1)]
MODES = [("squash", 0), ("crop", 0), ("crop", 21), ("pad", 0)]


def session(preprocess: Preprocess) -> onnxruntime.InferenceSession:
    model = helper.make_model(
        onnx_resizing.graph(preprocess),
        opset_imports=[helper.make_opsetid("", onnx_resizing.OPSET)],
        ir_version=onnx_resizing.IR_VERSION,
    )
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def check(found: np.ndarray, preprocess: Preprocess, image_HWC: np.ndarray, share: float) -> None:
    wanted = preprocess(image_HWC).astype(np.float32)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1
    assert (found != wanted).mean() <= share


@pytest.mark.parametrize(("resize", "short_side"), MODES)
def test_onnx_resizes_as_opencv(
    resize: str, short_side: int, images: Callable[..., np.ndarray]
) -> None:
    preprocess = Preprocess(resize=resize, short_side=short_side, image_size=16)
    run = session(preprocess).run
    for sizes, share in ((SHRINK, 0.02), (GROW, 0.25)):
        for size in sizes:
            if resize == "crop" and short_side and size == (16, 16):
                continue  # it grows
            image_BHWC = images(2, *size)
            (found,) = run(None, {"image": image_BHWC})
            check(found[1], preprocess, image_BHWC[1], share)


@pytest.mark.parametrize(
    ("resize", "short_side", "sizes"),
    [
        ("squash", 0, [(75, 100), (32, 32), (11, 40), (60, 5)]),
        ("crop", 21, [(75, 100), (33, 700), (12, 30)]),
        ("pad", 0, [(75, 100), (10, 7)]),
    ],
)
def test_jax_resizes_images_of_a_size_it_did_not_know(
    resize: str, short_side: int, sizes: list, images: Callable[..., np.ndarray]
) -> None:
    preprocess = Preprocess(resize=resize, short_side=short_side, image_size=16)
    shape = jax_export.symbolic_shape("b, h, w, 3")
    exported = jax_export.export(
        jax.jit(lambda image_BHWC: resizing.resize(image_BHWC, preprocess))
    )(jax.ShapeDtypeStruct(shape, jnp.uint8))
    for size in sizes:
        image_BHWC = images(2, *size)
        found = np.asarray(exported.call(image_BHWC))
        # Where OpenCV's vectors end, at a row's last pixels, it rounds in another way.
        check(found[1], preprocess, image_BHWC[1], 0.0 if min(size) >= 16 else 0.12)


@pytest.mark.parametrize("size", [(70, 90), (130, 60)])
def test_jax_interpolates_in_opencvs_integers(
    size: tuple[int, int], images: Callable[..., np.ndarray]
) -> None:
    # By exact linear interpolation one value in eight would differ.
    preprocess, image_HWC = Preprocess(image_size=96), images(*size)
    resize = jax.jit(functools.partial(resizing.resize, preprocess=preprocess))
    check(np.asarray(resize(image_HWC[None]))[0], preprocess, image_HWC, 0.01)


def test_halves_of_2x2_means_go_up_and_others_to_the_even() -> None:
    image_HWC = np.zeros((32, 32, 3), np.uint8)
    image_HWC[::2, ::2] = 2  # a mean of 0.5
    preprocess = Preprocess(image_size=16)
    resize = jax.jit(functools.partial(resizing.resize, preprocess=preprocess))
    assert preprocess(image_HWC).min() == 1
    assert np.asarray(resize(image_HWC[None])).min() == 1
    assert session(preprocess).run(None, {"image": image_HWC[None]})[0].min() == 1
    image_HWC = np.zeros((64, 64, 3), np.uint8)
    image_HWC[::4, ::4] = 8  # a mean of 0.5 of 4x4
    assert preprocess(image_HWC).max() == 0
    assert np.asarray(resize(image_HWC[None])).max() == 0
    assert session(preprocess).run(None, {"image": image_HWC[None]})[0].max() == 0


@pytest.mark.parametrize("side", [4000, 6001])
def test_sums_over_a_long_side_stay_exact(side: int) -> None:
    rng = np.random.default_rng(side)
    image_HWC = rng.integers(200, 256, (side, 3, 3), dtype=np.uint8)
    preprocess = Preprocess(image_size=3)
    (found,) = session(preprocess).run(None, {"image": image_HWC[None]})
    check(found[0], preprocess, image_HWC, 0.0)
