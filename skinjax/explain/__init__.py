"""Maps of what in an image speaks for a class: Grad-CAM and saliency, for every backbone.

A map says what a network looked at, not whether that was right, and no method's map is proof of
how the network decides; `sanity` tests whether one depends on what was learned at all.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from skinjax.calibration import Calibration
from skinjax.errors import InputError
from skinjax.explain import grad_cam, saliency
from skinjax.trained import TrainedModel

__all__ = ["DESCRIPTIONS", "METHODS", "Explainer", "function", "missing_metadata"]

# What a map shows, in the words that stand beside it.
DESCRIPTIONS = {
    "grad_cam": "Grad-CAM: regions that speak for the class",
    "saliency": "gradient: pixels that a small change of moves the score",
    "smooth_grad": "SmoothGrad: the gradient, averaged over noisy copies",
    "integrated_gradients": "integrated gradients: pixels that make the score, against the image's "
    "mean colour",
}
METHODS = tuple(DESCRIPTIONS)

BATCH_SIZE = 8

MapFunction = Callable[..., jax.Array]


def function(model: TrainedModel, method: str, stage: str = "") -> MapFunction:
    """A method's pure `(variables, image_BHWC, class_B, metadata_BM) -> map_BHW`, to be jitted.

    Maps are float32 in [0, 1], and scaled by each image's own largest value. `stage` is
    Grad-CAM's, see there.

    Raises:
      InputError: there is no such method.
    """
    attributions: dict[str, MapFunction] = {
        "saliency": saliency.gradient,
        "smooth_grad": functools.partial(saliency.smooth_grad, key=jax.random.key(0)),
        "integrated_gradients": saliency.integrated_gradients,
    }
    if method == "grad_cam":
        shift = grad_cam.measure_shift(model, stage, key=jax.random.key(0))
        return functools.partial(grad_cam.grad_cam, model, stage=stage, shift=shift)
    if method not in attributions:
        raise InputError(f"--method={method} is none of {', '.join(METHODS)}")

    def pixel_map(*arguments: Any) -> jax.Array:
        return saliency.pixel_map(attributions[method](model, *arguments))

    return pixel_map


def missing_metadata(model: TrainedModel, count: int) -> np.ndarray | None:
    """Patient metadata of which nothing is known, float32 (count, M); None for images alone."""
    if model.encoder is None:
        return None
    return model.encoder.encode([{"age": None, "sex": "", "site": ""}] * count)


class Explainer:
    """A model and a method, compiled for one size of batch; takes any number of images."""

    def __init__(
        self,
        model: TrainedModel,
        method: str = "grad_cam",
        *,
        stage: str = "",
        calibration: Calibration | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        """Compiles at the first call.

        Args:
          model: from `trained.load`.
          method: one of `METHODS`.
          stage: whose feature map Grad-CAM looks at; "" is `grad_cam.find_stage`'s choice, then
            in `self.stage`.
          calibration: of the probabilities; None leaves them as predicted.
          batch_size: images at a time.

        Raises:
          InputError: there is no such method, or no such stage, or the method has none.
        """
        if stage and method != "grad_cam":
            raise InputError(f"--stage={stage} is grad_cam's, and --method={method} has none")
        self.model, self.method, self._calibration = model, method, calibration
        self.stage = grad_cam.find_stage(model, stage) if method == "grad_cam" else ""
        self._batch_size = batch_size
        map_of = function(model, method, self.stage)
        self._map = jax.jit(map_of)
        signed = functools.partial(grad_cam.signed, model, stage=self.stage)
        self._coarse = jax.jit(signed) if method == "grad_cam" else self._map
        self._forward = jax.jit(model.forward())
        self._variables = jax.device_put(model.variables)

    def probabilities(
        self, image_NHWC: np.ndarray, metadata_NM: np.ndarray | None = None
    ) -> np.ndarray:
        """Of every class, calibrated where there is a calibration: float64 (N, C).

        Args:
          image_NHWC: uint8, of the model's size.
          metadata_NM: encoded patient metadata; None is all missing.
        """

        def softmax(image_BHWC: np.ndarray, metadata_BM: np.ndarray | None) -> jax.Array:
            outputs = self._forward(self._variables, image_BHWC, metadata_BM)
            return jax.nn.softmax(outputs["logits_BC"])

        parts = self._batches(softmax, image_NHWC, self._metadata(image_NHWC, metadata_NM))
        probability_NC = parts.astype(np.float64)
        return (
            probability_NC if self._calibration is None else self._calibration.apply(probability_NC)
        )

    def maps(
        self,
        image_NHWC: np.ndarray,
        class_N: np.ndarray,
        metadata_NM: np.ndarray | None = None,
        *,
        variables: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """The maps of a class per image: float32 (N, H, W) in [0, 1].

        Args:
          image_NHWC: uint8, of the model's size.
          class_N: integers in [0, C).
          metadata_NM: encoded patient metadata; None is all missing.
          variables: in place of the model's own.
        """
        return self._all_maps(self._map, image_NHWC, class_N, metadata_NM, variables)

    def coarse_maps(
        self,
        image_NHWC: np.ndarray,
        class_N: np.ndarray,
        metadata_NM: np.ndarray | None = None,
        *,
        variables: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """As `maps`, but of Grad-CAM in its own `resolution` and before its ReLU: (N, h, w)."""
        return self._all_maps(self._coarse, image_NHWC, class_N, metadata_NM, variables)

    def _all_maps(
        self,
        map_of: MapFunction,
        image_NHWC: np.ndarray,
        class_N: np.ndarray,
        metadata_NM: np.ndarray | None,
        variables: Mapping[str, Any] | None,
    ) -> np.ndarray:
        variables = self._variables if variables is None else variables

        def one_batch(
            image_BHWC: np.ndarray, class_B: np.ndarray, metadata_BM: np.ndarray | None
        ) -> jax.Array:
            return map_of(variables, image_BHWC, class_B, metadata_BM)

        metadata_NM = self._metadata(image_NHWC, metadata_NM)
        class_N = np.asarray(class_N, np.int32)
        return self._batches(one_batch, image_NHWC, class_N, metadata_NM)

    def resolution(self) -> tuple[int, int]:
        """Rows and columns that a map really has, before it is resized to the image."""
        size = self.model.image_size
        image = jax.ShapeDtypeStruct((1, size, size, 3), np.uint8)
        if self.method != "grad_cam":
            return size, size
        arguments = (self._variables, image, np.zeros(1, np.int32), missing_metadata(self.model, 1))
        shape = jax.eval_shape(self._coarse, *arguments).shape
        return shape[1], shape[2]

    def _metadata(
        self, image_NHWC: np.ndarray, metadata_NM: np.ndarray | None
    ) -> np.ndarray | None:
        if metadata_NM is None:
            return missing_metadata(self.model, len(image_NHWC))
        return metadata_NM

    def _batches(self, step: Callable[..., jax.Array], *arrays: np.ndarray | None) -> np.ndarray:
        """`step` over batches of one size, the last filled up with copies of its last row."""
        image_NHWC = arrays[0]
        assert image_NHWC is not None
        results = []
        for start in range(0, len(image_NHWC), self._batch_size):
            stop = min(start + self._batch_size, len(image_NHWC))
            row_B = np.minimum(np.arange(start, start + self._batch_size), stop - 1)
            batch = [None if array is None else array[row_B] for array in arrays]
            results.append(np.asarray(step(*batch))[: stop - start])
        if not results:
            raise ValueError("there are no images")
        return np.concatenate(results)
