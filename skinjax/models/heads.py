"""The classification head: layers described by the config, or by the name of a published one."""

from collections.abc import Sequence
from dataclasses import field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from skinjax.config import nearest
from skinjax.errors import InputError
from skinjax.models.layers import BatchNorm, Dense, Mode, Settings

Layer = tuple[Any, ...]

_ACTIVATIONS = {"relu": nn.relu, "silu": nn.silu, "gelu": nn.gelu, "tanh": nn.tanh}
_KNOWN = (
    "('batch_norm',), ('dense', width), ('dropout', rate), "
    + "".join(f"({name!r},), " for name in _ACTIVATIONS)
    + "and at the end ('sigmoid',)"
)

# The heads of the published projects, by what stands in them.
PRESETS: dict[str, tuple[Layer, ...]] = {
    "bn_256": (("batch_norm",), ("dense", 256), ("relu",), ("dropout", 0.5)),
    "dropout_256_bn": (
        ("dropout", 0.5), ("dense", 256), ("relu",), ("batch_norm",), ("dropout", 0.5),
    ),
    "bn_512_256_sigmoid": (
        ("batch_norm",), ("dropout", 0.5), ("dense", 512), ("relu",),
        ("batch_norm",), ("dropout", 0.5), ("dense", 256), ("relu",), ("dropout", 0.3),
        ("sigmoid",),
    ),
    "dropout_512_256": (
        ("dropout", 0.5), ("dense", 512), ("batch_norm",), ("relu",),
        ("dropout", 0.5), ("dense", 256), ("batch_norm",), ("relu",), ("dropout", 0.5),
    ),
    "bn_128_bn": (
        ("batch_norm",), ("dropout", 0.5), ("dense", 128), ("relu",),
        ("batch_norm",), ("dropout", 0.25),
    ),
    "dense_256_128": (
        ("dense", 256), ("relu",), ("dropout", 0.7), ("dense", 128), ("relu",), ("dropout", 0.7),
    ),
}  # fmt: skip


def check_layers(layers: Sequence[Any]) -> tuple[Layer, ...]:
    """The layers of `config.model.head` as tuples; `("bn_256",)` stands for that preset's.

    Raises:
      InputError: a preset is unknown, or a layer's kind is or its arguments are wrong.
    """
    if len(layers) == 1 and isinstance(layers[0], str):
        if layers[0] not in PRESETS:
            raise InputError(
                f"model.head names {layers[0]!r}; the published heads are {', '.join(PRESETS)}"
                f", () is none, and a layer is written (('relu',),)"
                f"{nearest(layers[0], PRESETS)}"
            )
        return PRESETS[layers[0]]
    checked = tuple(_check_layer(layer) for layer in layers)
    if ("sigmoid",) in checked[:-1]:
        raise InputError("model.head has ('sigmoid',) before its end; it is the output")
    return checked


def _check_layer(layer: Any) -> Layer:
    match layer:
        case ("batch_norm" | "sigmoid",):
            return tuple(layer)
        case (str(kind),) if kind in _ACTIVATIONS:
            return tuple(layer)
        case ("dense", int(width)) if width >= 1 and not isinstance(width, bool):
            return tuple(layer)
        case ("dropout", int(rate) | float(rate)) if 0 <= rate < 1 and not isinstance(rate, bool):
            return tuple(layer)
    raise InputError(
        f"model.head has a layer {layer!r}; expected a tuple of layers, each one of {_KNOWN},"
        " with width >= 1 and 0 <= rate < 1; a single one is written (('relu',),)"
    )


class Head(nn.Module):
    """Layers of the config, then a dense layer in float32: (B, C) to logits (B, num_classes).

    With ("sigmoid",) at the end the dense layer has one output z, as binary networks with a
    sigmoid have, and the logits are (0, z): their softmax is (1 - sigmoid(z), sigmoid(z)), so the
    losses and metrics of several classes are those of the sigmoid.

    With a `metadata_width` the patient metadata (B, M) goes through a dense layer of that width and
    a ReLU, and joins the image's features before the first of the layers (Gessert et al. 2019,
    arXiv:1910.03910; ngessert/isic2019 has two such layers, with batch norm and dropout).
    """

    num_classes: int
    layers: tuple[Layer, ...] = ()
    settings: Settings = field(default_factory=Settings)
    metadata_width: int = 0  # 0 is images alone

    @nn.compact
    def __call__(
        self, x_BC: jax.Array, mode: Mode, metadata_BM: jax.Array | None = None
    ) -> jax.Array:
        x_BC = x_BC.astype(self.settings.dtype)
        self._check_metadata(metadata_BM)
        if metadata_BM is not None:
            dense = Dense(self.metadata_width, settings=self.settings, name="metadata")
            x_BC = jnp.concatenate([x_BC, nn.relu(dense(metadata_BM))], axis=-1)
        for number, (kind, *arguments) in enumerate(self.layers):
            name = f"{kind}_{number}"
            if kind == "dense":
                x_BC = Dense(arguments[0], settings=self.settings, name=name)(x_BC)
            elif kind == "batch_norm":
                x_BC = BatchNorm(self.settings, name=name)(x_BC, mode)
            elif kind == "dropout":
                x_BC = nn.Dropout(arguments[0], name=name)(x_BC, deterministic=not mode.train)
            elif kind in _ACTIVATIONS:
                x_BC = _ACTIVATIONS[kind](x_BC)
        is_sigmoid = self.layers[-1:] == (("sigmoid",),)
        if is_sigmoid and self.num_classes != 2:
            raise InputError(
                f"model.head ends in a sigmoid, which tells two classes apart, not "
                f"{self.num_classes}; leave ('sigmoid',) out"
            )
        outputs = 1 if is_sigmoid else self.num_classes
        logits_BC = Dense(outputs, name="logits")(x_BC)
        return jnp.pad(logits_BC, ((0, 0), (1, 0))) if is_sigmoid else logits_BC

    def _check_metadata(self, metadata_BM: jax.Array | None) -> None:
        if metadata_BM is None and self.metadata_width:
            raise InputError(
                "the model takes patient metadata beside the image and got none; encode it with "
                "the checkpoint's encoder (what is not known is encoded as missing)"
            )
        if metadata_BM is not None and not self.metadata_width:
            raise InputError(
                "the model takes images alone and got patient metadata; leave it out, or train "
                "with metadata.features"
            )
