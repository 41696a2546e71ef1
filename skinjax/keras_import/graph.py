"""The layers of a Keras model and what feeds them, from the JSON in its file.

Keras 2 and 3 write the same things differently; see `get_config` in Keras's functional.py and
sequential.py, and Keras 2's `node.serialize`. Models inside the model are taken apart, so that one
used as a layer reads as one that was built on.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinjax.errors import InputError

_MODELS = ("Functional", "Model", "Sequential")
_INPUT = "InputLayer"


@dataclass(frozen=True)
class Node:
    """A layer of Keras.

    Attributes:
      name: unique in the model.
      kind: Keras's class, "Dense".
      config: what it was built with.
      sources: names of the layers whose outputs it takes, in order.
    """

    name: str
    kind: str
    config: dict[str, Any]
    sources: tuple[str, ...]

    def error(self, origin: object, problem: str, advice: str) -> InputError:
        """The error that says what is wrong with this layer."""
        return InputError(f"{origin}: layer {self.name!r} ({self.kind}) {problem}; {advice}")


@dataclass(frozen=True)
class Graph:
    """A model with one input and one output.

    Attributes:
      nodes: by name; every one of them is behind the output.
      input: the layer that the images come in by.
      output: name of the last layer.
    """

    nodes: dict[str, Node]
    input: Node
    output: str

    @property
    def image_shape(self) -> tuple[int | None, ...]:
        """(height, width, channels) of the input; None where it was left open."""
        config = self.input.config
        return tuple((config.get("batch_shape") or config["batch_input_shape"])[1:])

    def before(self, name: str) -> list[Node]:
        """The layer called `name` and all that it depends on."""
        found: dict[str, Node] = {}
        waiting = [name]
        while waiting:
            node = self.nodes[waiting.pop()]
            if node.name not in found:
                found[node.name] = node
                waiting.extend(node.sources)
        return list(found.values())


def read(path: Path) -> Graph:
    """The graph of a model that Keras saved as HDF5.

    Raises:
      InputError: the file holds only weights, or a model that isn't a graph of layers, each called
        once, from one input to one output.
    """
    import h5py

    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config")
    if text is None:
        raise InputError(
            f"{path} holds weights without their architecture; load them into the model in Keras "
            "and save all of it with model.save('model.h5')"
        )
    with understood(path):
        return parse(json.loads(text))


@contextlib.contextmanager
def understood(path: Path) -> Iterator[None]:
    """Turns what malformed JSON makes Python raise into an InputError that names the file."""
    try:
        yield
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: its model_config can't be understood ({type(error).__name__}: {error}); open "
            "it in Keras and save it again with model.save('model.h5')"
        ) from None


def parse(model: dict[str, Any]) -> Graph:
    """The graph of a model's `{"class_name": ..., "config": ...}`.

    Raises:
      InputError: as in `read`.
      KeyError, TypeError, and so on: it isn't what Keras writes.
    """
    nodes: dict[str, Node] = {}
    output = _add_model(nodes, model, ())
    inputs = [node for node in nodes.values() if node.kind == _INPUT]
    if len(inputs) != 1:
        raise InputError(f"the model has {len(inputs)} inputs; only one can be imported")
    graph = Graph(nodes, inputs[0], output)
    behind = {node.name for node in graph.before(output)}
    for node in nodes.values():
        if node.name not in behind:
            raise InputError(f"layer {node.name!r} ({node.kind}) doesn't lead to the output")
    return graph


def _add_model(nodes: dict[str, Node], model: dict[str, Any], sources: tuple[str, ...]) -> str:
    """Adds a model's layers, fed by `sources`; returns the name of the last one."""
    kind, config = model["class_name"], model["config"]
    if kind not in _MODELS:
        raise InputError(
            f"the model is of class {kind}; only Keras's own Functional and Sequential models can "
            "be imported"
        )
    if len(sources) > 1:
        raise InputError(f"the model {_name(model)!r} inside takes {len(sources)} inputs, not one")
    # The oldest Sequential models are but the list of their layers.
    layers = config if isinstance(config, list) else config["layers"]
    if kind == "Sequential":
        return _add_sequence(nodes, layers, sources)
    added: dict[str, str] = {}  # Keras lists a layer after those that feed it
    for layer in layers:
        name, calls = _name(layer), layer["inbound_nodes"]
        if len(calls) > 1:
            raise InputError(
                f"layer {name!r} ({layer['class_name']}) is used {len(calls)} times; only layers "
                "that are used once can be imported"
            )
        feeding = tuple(added[source] for source in references(calls))
        added[name] = _add(nodes, layer, feeding or sources)
    outputs = list(references(config["output_layers"]))
    if len(outputs) != 1:
        raise InputError(f"the model has {len(outputs)} outputs; only one can be imported")
    return added[outputs[0]]


def _add_sequence(
    nodes: dict[str, Node], layers: list[dict[str, Any]], sources: tuple[str, ...]
) -> str:
    for layer in layers:
        shape = layer["config"].get("batch_input_shape")
        if not sources and shape and layer["class_name"] != _INPUT:
            # Older models have the shape at the first layer instead of an input layer.
            first = {"class_name": _INPUT, "config": {"name": "", "batch_input_shape": shape}}
            sources = (_add(nodes, first, ()),)
        sources = (_add(nodes, layer, sources),)
    (last,) = sources
    return last


def _add(nodes: dict[str, Node], layer: dict[str, Any], sources: tuple[str, ...]) -> str:
    """Adds a layer, or those of a model in its place; returns what the next ones name it by."""
    name, kind = _name(layer), layer["class_name"]
    if kind in _MODELS:
        return _add_model(nodes, layer, sources)
    if kind == _INPUT and sources:  # of a model inside: what feeds that model
        return sources[0]
    if name in nodes:
        raise InputError(f"two layers are called {name!r}, so their weights can't be told apart")
    nodes[name] = Node(name, kind, layer["config"], sources)
    return name


def _name(layer: dict[str, Any]) -> str:
    return str(layer.get("name") or layer["config"]["name"])


def references(value: Any) -> Iterator[str]:
    """The layers that a call takes: Keras 2's ["name", 0, 0, ...], or Keras 3's tensors."""
    match value:
        case [str(name), int(), int(), *rest]:
            yield name
            yield from references(rest)
        case {"class_name": "__keras_tensor__", "config": {"keras_history": [str(name), *_]}}:
            yield name
        case list():
            for item in value:
                yield from references(item)
        case dict():
            for item in value.values():
                yield from references(item)
