"""The classifier: a backbone made of named stages, and a head. `create` builds one by name."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from skinjax.config import nearest
from skinjax.errors import InputError
from skinjax.models.efficientnet import EfficientNet
from skinjax.models.heads import Head, check_layers
from skinjax.models.resnet import ResNet
from skinjax.models.simple_cnn import SimpleCNN

__all__ = ["Classifier", "create"]


class Classifier(nn.Module):
    """Normalised images (B, H, W, 3) to logits (B, num_classes), float32.

    Variables are `params['backbone'][stage]` and `params['head']`, `batch_stats` likewise.
    """

    backbone: nn.Module
    head: Head

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages from the image to the logits; the last is 'head'."""
        return (*self.backbone.stages, "head")

    def __call__(
        self, image_BHWC: jax.Array, *, train: bool, frozen: tuple[str, ...] = ()
    ) -> jax.Array:
        """Logits; needs the rng 'dropout' when `train` and the model has dropout or drop_path.

        Batch norm in a stage of `frozen` uses its running statistics and leaves them alone, as
        Keras does with `trainable=False`; dropout in it follows `train`.

        Raises:
          InputError: `frozen` names a stage that the model doesn't have.
        """
        if unknown := [stage for stage in frozen if stage not in self.stages]:
            raise InputError(f"no stage {unknown[0]!r} to freeze; stages: {', '.join(self.stages)}")
        features_BC = self.backbone(image_BHWC, train=train, frozen=frozen)
        return self.head(features_BC, train=train, frozen="head" in frozen)


def create(config: ConfigDict, *, num_classes: int, axis_name: str | None) -> Classifier:
    """The classifier of `config.model`, its batch norm reduced over `axis_name` (None: one device).

    Raises:
      InputError: an unknown name, dtype or head layer, or a field the network can't follow.
    """
    backbones: dict[str, Callable[..., nn.Module]] = {
        "efficientnet_b0": _efficientnet_b0,
        "resnet18": functools.partial(_resnet, depths=(2, 2, 2, 2), bottleneck=False),
        "resnet34": functools.partial(_resnet, depths=(3, 4, 6, 3), bottleneck=False),
        "resnet50": functools.partial(_resnet, depths=(3, 4, 6, 3), bottleneck=True),
        "simple_cnn": lambda _, dtype, axis_name: SimpleCNN(dtype),
    }
    if config.name not in backbones:
        raise InputError(
            f"unknown model.name {config.name!r}; known are {', '.join(backbones)}"
            f"{nearest(config.name, backbones)}"
        )
    _check_fields(config)
    layers = check_layers(config.head)
    dtype = jnp.dtype(config.dtype)
    return Classifier(
        backbone=backbones[config.name](config, dtype=dtype, axis_name=axis_name),
        head=Head(num_classes, layers, dtype, axis_name),
    )


def _efficientnet_b0(config: ConfigDict, **fields: Any) -> EfficientNet:
    return EfficientNet(drop_path=config.drop_path, **fields)


def _resnet(config: ConfigDict, **fields: Any) -> ResNet:
    return ResNet(width=config.width, drop_path=config.drop_path, **fields)


def _check_fields(config: ConfigDict) -> None:
    dtypes = ("float32", "bfloat16", "float16")
    if config.dtype not in dtypes:
        raise InputError(f"model.dtype is {config.dtype!r}; expected one of {', '.join(dtypes)}")
    if config.pretrained:
        raise InputError(
            f"model.pretrained is {config.pretrained!r}, but published weights arrive in a later "
            "version; leave it empty to train from scratch"
        )
    if config.width < 1:
        raise InputError(f"model.width is {config.width}; expected at least 1 (64 as published)")
    if config.width != 64 and not config.name.startswith("resnet"):
        raise InputError(
            f"model.width is {config.width}, but {config.name} has no width to set: leave it at 64"
        )
    if not 0.0 <= config.drop_path < 1.0:
        raise InputError(f"model.drop_path is {config.drop_path}; expected 0 <= drop_path < 1")
    if config.drop_path and config.name == "simple_cnn":
        raise InputError("simple_cnn has no residual branch to drop: set model.drop_path to 0")
