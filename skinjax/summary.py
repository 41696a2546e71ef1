"""The table that is shown when training starts: parameters by stage, trainable or frozen."""

from typing import Any

import numpy as np
from flax import traverse_util

from skinjax.layer_paths import Layers, Params, layer_of, stage_of
from skinjax.phases import Phase


def counts(variables: dict[str, Params], phase: Phase, layers: Layers) -> dict[str, dict[str, int]]:
    """Counts by stage, from stem to head: `trainable`, `frozen` and `statistics`.

    Args:
      variables: `params` and `batch_stats`, arrays or their shapes.
      phase: says what is trained.
      layers: of the same variables.
    """
    table = {stage: {"trainable": 0, "frozen": 0, "statistics": 0} for stage in layers.stages}
    trained = frozenset(phase.trainable)
    for path, leaf in _leaves(variables["params"]):
        layer = layer_of(path)
        table[stage_of(layer)]["trainable" if layer in trained else "frozen"] += _size(leaf)
    for path, leaf in _leaves(variables["batch_stats"]):
        table[stage_of(layer_of(path))]["statistics"] += _size(leaf)
    return table


def describe(variables: dict[str, Params], phase: Phase, layers: Layers) -> str:
    """The counts as text, with Keras's three lines below.

    Keras counts the statistics of batch norm among the parameters, as not trainable.
    """
    table = counts(variables, phase, layers)
    width = max(len("stage"), *map(len, layers.stages))
    lines = [f"{'stage':<{width}} {'parameters':>12} {'statistics':>11}  trained"]
    for stage, count in table.items():
        parameters = count["trainable"] + count["frozen"]
        if count["frozen"] == 0:
            state = "all"
        elif count["trainable"] == 0:
            state = "frozen"
        else:
            state = f"{count['trainable']:,}"
        lines.append(f"{stage:<{width}} {parameters:>12,} {count['statistics']:>11,}  {state}")
    trainable = sum(count["trainable"] for count in table.values())
    total = sum(sum(count.values()) for count in table.values())
    lines += [
        f"total {total:,} (as Keras counts, with statistics)",
        f"trainable {trainable:,}",
        f"not trainable {total - trainable:,}",
    ]
    return "\n".join(f"  {line}" for line in lines)


def _leaves(tree: Params) -> Any:
    return traverse_util.flatten_dict(tree).items()


def _size(leaf: Any) -> int:
    return int(np.prod(leaf.shape))
