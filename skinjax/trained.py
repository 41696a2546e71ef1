"""A trained model as it is used: all that predicting needs, from a checkpoint alone."""

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from skinjax import checkpoint, image_ops, models
from skinjax.data.metadata import Encoder
from skinjax.data.preprocess import Preprocess
from skinjax.errors import InputError
from skinjax.layer_paths import Params
from skinjax.models import Classifier, heads


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint, read.

    Attributes:
      workdir: of the run.
      step: of the checkpoint; its fitted files are under it (`skinjax.fitted`).
      epoch: finished epochs, with the fraction.
      fingerprint: of the data that it was trained on; '' where it was imported.
      config: of the run; it says whether and how an image is normalised and prepared.
      classes: in the order of the logits.
      module: the network, on one device.
      variables: `params` and `batch_stats`, NumPy float32.
      preprocess: from an image as published to the network's size, uint8 in and out.
      encoder: of patient metadata; None for images alone.
    """

    workdir: Path
    step: int
    epoch: float
    fingerprint: str
    config: ConfigDict
    classes: tuple[str, ...]
    module: Classifier
    variables: dict[str, Params]
    preprocess: Preprocess
    encoder: Encoder | None

    @property
    def image_size(self) -> int:
        """Side of the images that the network takes, in pixels."""
        return self.preprocess.image_size

    @property
    def num_metadata(self) -> int:
        """Columns of encoded patient metadata, M; 0 for images alone."""
        return 0 if self.encoder is None else sum(self.encoder.sizes)

    def normalize(self, image_BHWC: jax.Array) -> jax.Array:
        """Uint8 images, or floats in [0, 255], (B, H, W, 3) to what the network takes."""
        settings = self.config.normalize
        return image_ops.normalize(image_BHWC / jnp.float32(255), settings.mean, settings.std)

    def forward(self) -> Callable[..., dict[str, jax.Array]]:
        """The pure `(variables, image_BHWC, metadata_BM) -> outputs`, to be jitted by the caller.

        It takes uint8 images (B, S, S, 3) of `image_size`, and metadata float32 (B, M) or None; and
        gives `logits_BC` and `features_BD`, float32, D being what the backbone gives to the head.
        """
        return functools.partial(_forward, self)


def load(workdir: Path | str, which: str = "best") -> TrainedModel:
    """Reads a checkpoint of a work directory; nothing but its folder of checkpoints is needed.

    Args:
      workdir: that `train` or `import` made.
      which: "best", "latest" or a step.

    Raises:
      InputError: there is no such run or checkpoint, or it can't be read.
    """
    workdir = Path(workdir)
    checkpointer, config = checkpoint.open_run(workdir)
    with contextlib.closing(checkpointer):
        step = checkpointer.choose(which)
        about = checkpointer.describe(step)
        variables = checkpointer.restore_variables(step)
    _check_outputs(variables, config.model, about, workdir)
    encoder = Encoder.from_json(about.metadata) if about.metadata else None
    module = models.create(
        config.model,
        num_classes=len(about.classes),
        axis_name=None,
        metadata_width=config.metadata.width if encoder else 0,
    )
    return TrainedModel(
        workdir=workdir,
        step=step,
        epoch=about.epoch,
        fingerprint=about.fingerprint,
        config=config,
        classes=about.classes,
        module=module,
        variables=variables,
        preprocess=Preprocess.from_config(config.data),
        encoder=encoder,
    )


def _check_outputs(
    variables: dict[str, Params], model: ConfigDict, about: checkpoint.Description, workdir: Path
) -> None:
    """Says in words what Flax would say of shapes; a whole check takes as long as a compilation."""
    is_sigmoid = heads.check_layers(model.head)[-1:] == (("sigmoid",),)
    expected = 1 if is_sigmoid else len(about.classes)
    try:
        found = variables["params"]["head"]["logits"]["kernel"].shape[1]
    except (KeyError, TypeError, AttributeError, IndexError):
        found = 0
    if found != expected:
        raise InputError(
            f"checkpoint {about.step} in {workdir} has {len(about.classes)} classes, and its "
            f"network {found} outputs: it is damaged; choose another with --checkpoint"
        )


def _forward(
    model: TrainedModel,
    variables: dict[str, Params],
    image_BHWC: jax.Array,
    metadata_BM: jax.Array | None = None,
) -> dict[str, jax.Array]:
    def both(module: Classifier) -> tuple[jax.Array, jax.Array]:
        features_BD = module.features(model.normalize(image_BHWC))
        return features_BD, module.logits(features_BD, metadata_BM)

    features_BD, logits_BC = nn.apply(both, model.module)(variables)
    return {"logits_BC": logits_BC, "features_BD": features_BD.astype(jnp.float32)}
