"""What stands behind the network of a Keras model, as layers of `config.model.head`."""

from dataclasses import dataclass
from typing import Any

from skinjax.errors import InputError
from skinjax.keras_import import base
from skinjax.keras_import.graph import Node
from skinjax.models.heads import Layer
from skinjax.models.layers import Norm

# Keras's activations that are the same here; its GELU isn't, which is the exact one.
_ACTIVATIONS = {"relu": "relu", "silu": "silu", "swish": "silu", "tanh": "tanh"}
_OUTPUTS = ("sigmoid", "softmax")
_ADVICE = (
    "behind the network only GlobalAveragePooling2D, then Dense, BatchNormalization, Dropout and "
    "the activations ReLU, SiLU and tanh can be imported, and Dense with sigmoid or softmax at the "
    "end"
)


@dataclass(frozen=True)
class Head:
    """A head and where its weights are.

    Attributes:
      layers: as `config.model.head`.
      outputs: classes that are told apart.
      keras_names: Keras's layer for each of ours that has weights: "batch_norm_0", "logits".
    """

    layers: tuple[Layer, ...]
    outputs: int
    keras_names: dict[str, str]


def describe(tail: list[Node], origin: object) -> Head:
    """The head that these layers make, which follow one another.

    Args:
      tail: from the pooling to the output.
      origin: of the model, for messages.

    Raises:
      InputError: naming the first layer that can't be said.
    """
    if not tail:
        raise InputError(f"{origin} has nothing behind its network; expected a trained classifier")
    pooling = tail[0]
    if pooling.kind != "GlobalAveragePooling2D" or pooling.config.get("keepdims"):
        raise pooling.error(origin, "is in the place of the pooling", _ADVICE)
    steps = [(layer, node) for node in tail[1:] for layer in _layers(node, origin)]
    if len(steps) < 2 or steps[-2][0][0] != "dense" or steps[-1][0][0] not in _OUTPUTS:
        raise tail[-1].error(origin, "is the output", _ADVICE)
    *hidden, (dense, logits), (output, last) = steps
    for (kind, *_), node in hidden:
        if kind in _OUTPUTS:
            raise node.error(origin, f"has {kind} before the output", _ADVICE)
    units = dense[1]
    if (output[0] == "sigmoid") != (units == 1):
        raise last.error(
            origin,
            f"is a {output[0]} of {units} outputs",
            "expected a sigmoid of one, or a softmax of one for each class",
        )
    names = {
        f"{layer[0]}_{number}": node.name
        for number, (layer, node) in enumerate(hidden)
        if layer[0] in ("dense", "batch_norm")
    }
    layers = tuple(layer for layer, _ in hidden)
    return Head(
        layers=(*layers, ("sigmoid",)) if units == 1 else layers,
        outputs=max(units, 2),
        keras_names={**names, "logits": logits.name},
    )


def check_norms(tail: list[Node], norm: Norm, origin: object) -> None:
    """Checks the head's batch norm against `norm`, which is computed here.

    Raises:
      InputError: naming the layer that differs.
    """
    for node in tail:
        if node.kind == "BatchNormalization":
            base.check_norm(node, norm, origin)


def _layers(node: Node, origin: object) -> list[Layer]:
    """Our layers for one of Keras's; a dense one may bring its activation."""
    config = node.config
    match node.kind:
        case "BatchNormalization":
            _check(node, {"center": True, "scale": True}, origin)
            return [("batch_norm",)]
        case "Dropout":
            _check(node, {"noise_shape": None}, origin)
            return [("dropout", config["rate"])]
        case "Dense":
            _check(node, {"use_bias": True, "lora_rank": None, "quantization_config": None}, origin)
            return [("dense", config["units"]), *_activation(node, config["activation"], origin)]
        case "Activation":
            return _activation(node, config["activation"], origin)
        case "ReLU":
            # Keras 2's names, and Keras 3's.
            _check(node, {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}, origin)
            return [("relu",)]
        case "Softmax":
            _check(node, {"axis": -1}, origin)
            return [("softmax",)]
    raise node.error(origin, "can't be imported", _ADVICE)


def _check(node: Node, expected: dict[str, Any], origin: object) -> None:
    for field, value in expected.items():
        if node.config.get(field, value) != value:
            problem = f"has {field} {node.config[field]}"
            raise node.error(origin, problem, f"only {value} can be imported")


def _activation(node: Node, activation: Any, origin: object) -> list[Layer]:
    """Keras writes a name, or a dict around one."""
    while isinstance(activation, dict):
        inner = activation.get("config")
        activation = inner if isinstance(inner, str) else activation.get("class_name")
    if activation in (None, "linear"):
        return []
    if activation in _OUTPUTS:
        return [(activation,)]
    if activation not in _ACTIVATIONS:
        raise node.error(origin, f"has the activation {activation}", _ADVICE)
    return [(_ACTIVATIONS[activation],)]
