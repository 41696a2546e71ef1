"""The classification head, described by the config as a tuple of layers."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from skinjax.errors import InputError
from skinjax.models.layers import batch_norm

Layer = tuple[Any, ...]

_KNOWN = "('batch_norm',), ('dense', width), ('dropout', rate), ('relu',)"


def check_layers(layers: Sequence[Sequence[Any]]) -> tuple[Layer, ...]:
    """The layers of `config.model.head` as tuples.

    Raises:
      InputError: a layer's kind is unknown or its arguments are wrong.
    """
    return tuple(_check_layer(layer) for layer in layers)


def _check_layer(layer: Any) -> Layer:
    match layer:
        case ("batch_norm" | "relu",):
            return tuple(layer)
        case ("dense", int(width)) if width >= 1 and not isinstance(width, bool):
            return tuple(layer)
        case ("dropout", int(rate) | float(rate)) if 0 <= rate < 1 and not isinstance(rate, bool):
            return tuple(layer)
    raise InputError(
        f"model.head has a layer {layer!r}; expected a tuple of layers, each one of {_KNOWN} "
        "with width >= 1 and 0 <= rate < 1"
    )


class Head(nn.Module):
    """Layers of the config, then a dense layer in float32: (B, C) to logits (B, num_classes)."""

    num_classes: int
    layers: tuple[Layer, ...] = ()
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x_BC: jax.Array, *, train: bool, frozen: bool) -> jax.Array:
        x_BC = x_BC.astype(self.dtype)
        for number, (kind, *arguments) in enumerate(self.layers):
            name = f"{kind}_{number}"
            if kind == "dense":
                x_BC = nn.Dense(arguments[0], dtype=self.dtype, name=name)(x_BC)
            elif kind == "batch_norm":
                x_BC = batch_norm(
                    name, frozen=frozen or not train, dtype=self.dtype, axis_name=self.axis_name
                )(x_BC)
            elif kind == "dropout":
                x_BC = nn.Dropout(arguments[0], name=name)(x_BC, deterministic=not train)
            else:
                x_BC = nn.relu(x_BC)
        return nn.Dense(self.num_classes, dtype=jnp.float32, name="logits")(x_BC)
