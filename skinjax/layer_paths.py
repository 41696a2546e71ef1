"""The layers of a network, and which of them a description such as ("head", "block7") trains.

A layer is the module that holds parameters, named by its path:
"backbone/block7/block0/conv_project".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from flax import traverse_util

from skinjax.config import nearest
from skinjax.errors import InputError

Params = dict[str, Any]
Path = tuple[str, ...]


@dataclass(frozen=True)
class Layers:
    """The layers of a network.

    Attributes:
      names: from the first stage to the head; within a stage in no special order.
      norms: those of them that keep running statistics.
      stages: names of the stages, the head last.
    """

    names: tuple[str, ...]
    norms: frozenset[str]
    stages: tuple[str, ...]

    @classmethod
    def of(cls, variables: dict[str, Params], stages: Sequence[str]) -> "Layers":
        """The layers behind `params` and `batch_stats`, arrays or their shapes."""
        found = dict.fromkeys(map(layer_of, traverse_util.flatten_dict(variables["params"])))
        place = {stage: number for number, stage in enumerate(stages)}
        names = sorted(found, key=lambda layer: place[stage_of(layer)])
        norms = map(layer_of, traverse_util.flatten_dict(variables["batch_stats"]))
        return cls(tuple(names), frozenset(norms), tuple(stages))


def layer_of(path: Path) -> str:
    """The layer that a parameter's path belongs to."""
    return "/".join(path[:-1])


def stage_of(layer: str) -> str:
    """The stage of a layer: its backbone stage, or "head"."""
    first, *rest = layer.split("/")
    return rest[0] if first == "backbone" else first


def select(entries: Sequence[str], layers: Layers, *, origin: str) -> tuple[str, ...]:
    """The layers that a description names, in the order of `layers`.

    Args:
      entries: each "*" for all layers, "backbone", a stage, or a path of layers in which * and ?
        stand for anything ("backbone/block5/*/bn_*"); a path means all that is below it too.
      layers: of the network.
      origin: the config field, for messages.

    Raises:
      InputError: an entry matches nothing, or a path everything.
    """
    chosen: set[str] = set()
    for entry in entries:
        matched = {layer for layer in layers.names if _matches(entry, layer)}
        if not matched:
            raise InputError(
                f"{origin} trains {entry!r}, which the model does not have; its stages are "
                f"{', '.join(layers.stages)}, and paths of layers look like "
                f"{layers.names[0]!r}{_hint(entry, layers)}"
            )
        if entry != "*" and len(matched) == len(layers.names) > 1:
            raise InputError(f'{origin} trains {entry!r}, which is everything; write "*" for that')
        chosen |= matched
    return tuple(layer for layer in layers.names if layer in chosen)


def _hint(entry: str, layers: Layers) -> str:
    if "," in entry:
        return f"; several are written as {tuple(part.strip() for part in entry.split(','))}"
    return nearest(entry, layers.stages)


def _matches(entry: str, layer: str) -> bool:
    if "/" not in entry:
        return entry in ("*", stage_of(layer), layer.split("/")[0])
    return fnmatchcase(layer, entry) or fnmatchcase(layer, f"{entry}/*")
