"""The classifier: a backbone made of named stages, and a head. `create` builds one by name."""

import dataclasses
from collections.abc import Collection
from types import ModuleType

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from skinjax.config import nearest
from skinjax.errors import InputError
from skinjax.models import (
    convnext,
    densenet,
    efficientnet,
    efficientnet_v2,
    inception,
    resnet,
    simple_cnn,
    vgg,
    vit,
)
from skinjax.models.backbone import Backbone
from skinjax.models.heads import Head, check_layers
from skinjax.models.layers import EVALUATION, KERAS, TORCH, Mode, Settings

__all__ = ["Classifier", "create", "families", "image_size", "stages"]

_FAMILIES = (
    efficientnet,
    efficientnet_v2,
    resnet,
    convnext,
    vit,
    densenet,
    inception,
    vgg,
    simple_cnn,
)


class Classifier(nn.Module):
    """Normalised images (B, H, W, 3) to logits (B, num_classes), float32.

    A head with a `metadata_width` takes patient metadata (B, M) as a second input.

    Variables are `params['backbone'][stage]` and `params['head']`, `batch_stats` likewise.
    """

    backbone: Backbone
    head: Head

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages from the image to the logits; the last is 'head'."""
        return (*self.backbone.stages, "head")

    def __call__(
        self,
        image_BHWC: jax.Array,
        metadata_BM: jax.Array | None = None,
        *,
        train: bool,
        frozen: Collection[str] = (),
    ) -> jax.Array:
        """Logits; needs the rng 'dropout' when `train` and the model has dropout or drop_path.

        Batch norm in a layer of `frozen` ("backbone/stem/bn") uses its running statistics and
        leaves them alone, as Keras does with `trainable=False`; dropout follows `train`.

        Raises:
          InputError: metadata for a model without, or none for one with it.
        """
        mode = Mode(train, frozenset(frozen))
        return self.head(self.backbone(image_BHWC, mode), mode, metadata_BM)

    def features(self, image_BHWC: jax.Array) -> jax.Array:
        """What the backbone gives to the head, in evaluation: (B, D)."""
        return self.backbone(image_BHWC, EVALUATION)

    def feature_map(self, image_BHWC: jax.Array, stage: str = "") -> jax.Array:
        """A stage's output, in evaluation; "" for the last that shows where something is."""
        return self.backbone.feature_map(image_BHWC, EVALUATION, stage)

    def features_of_map(self, feature_map: jax.Array, stage: str = "") -> jax.Array:
        """The `features` that a `feature_map` of the same stage leads to."""
        return self.backbone.from_map(feature_map, EVALUATION, stage)

    def logits(self, features_BD: jax.Array, metadata_BM: jax.Array | None = None) -> jax.Array:
        """The logits of `features`, in evaluation: (B, num_classes), float32."""
        return self.head(features_BD, EVALUATION, metadata_BM)


def families() -> dict[str, ModuleType]:
    """The module that builds each `model.name`."""
    return {name: family for family in _FAMILIES for name in family.NAMES}


def create(
    config: ConfigDict, *, num_classes: int, axis_name: str | None, metadata_width: int = 0
) -> Classifier:
    """The classifier of `config.model`.

    Args:
      config: `config.model`.
      num_classes: outputs.
      axis_name: the mapped axis that batch norm is reduced over; None is one device.
      metadata_width: `config.metadata.width` for a second input, patient metadata; 0 is without.

    Raises:
      InputError: an unknown name, dtype or head layer, or a field the network can't follow.
    """
    family = _family(config.name)
    _check_fields(config)
    layers = check_layers(config.head)
    settings = Settings(
        dtype=jnp.dtype(config.dtype),
        axis_name=axis_name,
        lowering=config.lowering,
        remat=config.remat,
    )
    backbone = family.build(config.name, config, settings)
    # Not the backbone's own constants, which some families have: those that a new layer gets.
    norm = KERAS if config.variant == "keras" else TORCH
    head_settings = dataclasses.replace(backbone.settings, norm=norm)
    return Classifier(backbone, Head(num_classes, layers, head_settings, metadata_width))


def image_size(name: str) -> int:
    """Side in pixels of the images that a network was published for.

    Raises:
      InputError: there is no such network.
    """
    size: int = _family(name).image_size(name)
    return size


def stages(config: ConfigDict) -> tuple[str, ...]:
    """Names of the stages of `config.model` from the image to the logits."""
    return create(config, num_classes=2, axis_name=None).stages


def _family(name: str) -> ModuleType:
    known = families()
    if name not in known:
        raise InputError(
            f"unknown model.name {name!r}; known are {', '.join(known)}{nearest(name, known)}"
        )
    return known[name]


def _check_fields(config: ConfigDict) -> None:
    for field, choices in {
        "dtype": ("float32", "bfloat16", "float16"),
        "lowering": ("auto", "xla", "cpu"),
        "variant": ("", "timm", "tf", "keras"),
    }.items():
        if config[field] not in choices:
            raise InputError(
                f"model.{field} is {config[field]!r}; expected one of "
                f"{', '.join(choice or 'nothing' for choice in choices)}"
            )
    if config.width < 1:
        raise InputError(f"model.width is {config.width}; expected at least 1 (64 as published)")
    if config.width != 64 and not config.name.startswith("resnet"):
        raise InputError(
            f"model.width is {config.width}, but {config.name} has no width to set: leave it at 64"
        )
    if not config.fully_connected and not config.name.startswith("vgg"):
        raise InputError(f"{config.name} has no fully connected layers to leave out")
    if not 0.0 <= config.drop_path < 1.0:
        raise InputError(f"model.drop_path is {config.drop_path}; expected 0 <= drop_path < 1")
