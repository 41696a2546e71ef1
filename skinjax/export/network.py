"""What an export computes, as a pure function: from resized images to calibrated probabilities."""

import copy
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import linen as nn

from skinjax import models
from skinjax.calibration import Calibration
from skinjax.errors import InputError
from skinjax.models import Classifier
from skinjax.models.pretrained import matching
from skinjax.trained import TrainedModel

DTYPES: dict[str, Any] = {
    "float32": np.float32,
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
}
OUTPUTS = ("probabilities", "logits")

# `Calibration.apply` counts smaller probabilities as this.
_LEAST_LOG = float(np.log(np.finfo(np.float32).tiny))


@dataclass(frozen=True)
class Network:
    """A trained network that computes in float32, whatever its weights are kept in.

    Attributes:
      model: as it was trained.
      calibration: of its probabilities.
      module: with plain convolutions, whatever the platform.
      variables: NumPy; arrays of two axes and more are in the export's dtype, all else (biases,
        batch norm) in float32.
    """

    model: TrainedModel
    calibration: Calibration
    module: Classifier
    variables: dict[str, Any]

    def outputs(
        self, image_BSSC: jax.Array, metadata_BM: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Resized images, float32 in [0, 255], to `OUTPUTS`, each (B, num_classes) float32."""
        logits_BC = run(self.model, self.module, self.variables, image_BSSC, metadata_BM)
        return {"probabilities": self._calibrated(logits_BC), "logits": logits_BC}

    def _calibrated(self, logits_BC: jax.Array) -> jax.Array:
        if self.calibration.method == "none":
            return jax.nn.softmax(logits_BC)
        log_BC = jnp.maximum(jax.nn.log_softmax(logits_BC), _LEAST_LOG)
        scale_C = jnp.asarray(self.calibration.scale_C, jnp.float32)
        bias_C = jnp.asarray(self.calibration.bias_C, jnp.float32)
        return jax.nn.softmax(scale_C * log_BC + bias_C)


def create(model: TrainedModel, calibration: Calibration, dtype: str = "float32") -> Network:
    """The network of a trained model, for an export with weights in `dtype`.

    Raises:
      InputError: an unknown dtype, or one in which a weight would be infinite.
    """
    if dtype not in DTYPES:
        raise InputError(f"--dtype={dtype} is none of {', '.join(DTYPES)}")

    def kept(path: tuple[str, ...], array: Any) -> np.ndarray:
        array = np.asarray(array, np.float32)
        if array.ndim < 2:
            return array
        with np.errstate(over="ignore"):
            kept: np.ndarray = array.astype(DTYPES[dtype])
        if not np.isfinite(kept.astype(np.float32)).all():
            raise InputError(
                f"{'/'.join(path[1:])} has a weight of {np.abs(array).max():.3g}, more than {dtype}"
                " can hold; use --dtype=bfloat16 or float32"
            )
        return kept

    variables = matching.replaced(model.variables, kept)
    return Network(model, calibration, rebuild(model, lowering="xla"), variables)


def rebuild(model: TrainedModel, *, lowering: str) -> Classifier:
    """The model's network in float32, its convolutions lowered as said."""
    config = copy.deepcopy(model.config.model)
    config.lowering, config.dtype, config.remat = lowering, "float32", False
    return models.create(
        config,
        num_classes=len(model.classes),
        axis_name=None,
        metadata_width=model.config.metadata.width if model.encoder else 0,
    )


def run(
    model: TrainedModel,
    module: Classifier,
    variables: Any,
    image_BSSC: jax.Array,
    metadata_BM: jax.Array | None = None,
) -> jax.Array:
    """Logits (B, num_classes) of resized images in [0, 255], by variables of any float dtype."""
    variables = jax.tree.map(lambda array: jnp.asarray(array).astype(jnp.float32), variables)

    def forward(module: Classifier) -> jax.Array:
        features_BD = module.features(model.normalize(image_BSSC.astype(jnp.float32)))
        return module.logits(features_BD, metadata_BM)

    logits_BC: jax.Array = nn.apply(forward, module)(variables)
    return logits_BC
