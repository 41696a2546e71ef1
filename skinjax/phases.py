"""What is trainable when: the phases of gradual unfreezing, and parameters split by them."""

from dataclasses import dataclass

from absl import logging
from flax import traverse_util
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.layer_paths import Layers, Params, layer_of, select, stage_of


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one set of trainable layers and one learning-rate cycle.

    Attributes:
      index: place among the phases, from 0.
      trainable: layers whose parameters are trained, from stem to head.
      frozen: all other layers.
      since: for each trainable layer, the first phase of its unbroken run of being trained.
      num_steps: its length in steps; early stopping may end it before.
      steps_per_epoch: full batches in an epoch.
      learning_rate: the peak.
    """

    index: int
    trainable: tuple[str, ...]
    frozen: tuple[str, ...]
    since: tuple[int, ...]
    num_steps: int
    steps_per_epoch: int
    learning_rate: float


def resolve(config: ConfigDict, layers: Layers, steps_per_epoch: int) -> tuple[Phase, ...]:
    """Lays the config's phases out in steps.

    Without any there is one phase of `config.epochs` or `config.steps`, which trains
    `config.trainable`. Without pretrained weights (unless `phases_from_scratch`) that one trains
    everything.

    Args:
      config: the whole config.
      layers: of the model.
      steps_per_epoch: full batches in an epoch.

    Raises:
      InputError: a phase names a stage or layers that the model does not have, or trains
        nothing; or both `config.phases` and `config.trainable` say what is trained.
    """
    described = select_all(config, layers)
    from_scratch = not config.model.pretrained and not config.phases_from_scratch
    held = frozenset() if from_scratch else _held_norms(config, layers)
    freezes = any(trainable != layers.names for trainable, *_ in described)
    if from_scratch and (freezes or config.model.frozen_batch_norm == "all"):
        logging.warning(
            "model.pretrained is empty, so there is nothing worth freezing: training everything "
            "in one phase of %s instead", f"{config.steps} steps" if config.steps else
            f"{config.epochs} epochs",
        )  # fmt: skip
        described = [(layers.names, config.epochs, config.steps, 1.0)]
    phases: list[Phase] = []
    since: dict[str, int] = {}
    for index, (chosen, epochs, steps, factor) in enumerate(described):
        trainable = tuple(layer for layer in chosen if layer not in held)
        if not trainable:
            raise InputError(
                f"phase {index + 1} trains nothing; name stages in config.trainable or in its "
                "phase(...), and more than batch norm where model.frozen_batch_norm is all"
            )
        since = {layer: since.get(layer, index) for layer in trainable}
        phases.append(
            Phase(
                index=index,
                trainable=trainable,
                frozen=tuple(layer for layer in layers.names if layer not in since),
                since=tuple(since.values()),
                num_steps=steps or epochs * steps_per_epoch,
                steps_per_epoch=steps_per_epoch,
                learning_rate=config.optimizer.learning_rate * factor,
            )
        )
    return tuple(phases)


def select_all(config: ConfigDict, layers: Layers) -> list[tuple[tuple[str, ...], int, int, float]]:
    """What each phase of a config trains, its epochs or steps, and its learning-rate factor.

    Raises:
      InputError: as `resolve`, but for a phase that trains nothing.
    """
    if not config.phases:
        trainable = select(config.trainable, layers, origin="config.trainable")
        return [(trainable, config.epochs, config.steps, 1.0)]
    if tuple(config.trainable) != ("*",):
        raise InputError(
            f"config.trainable is {config.trainable}, but the config has phases, each of which says"
            " what it trains; leave one of the two out (--config.phases='()')"
        )
    return [
        (
            select(one.trainable, layers, origin=f"config.phases[{number}]"),
            one.epochs,
            one.steps,
            one.learning_rate_factor,
        )
        for number, one in enumerate(config.phases)
    ]


def _held_norms(config: ConfigDict, layers: Layers) -> frozenset[str]:
    """Batch norm that is never trained: the backbone's with "all"; the head's is new."""
    if config.model.frozen_batch_norm != "all":
        return frozenset()
    return frozenset(layer for layer in layers.norms if layer.startswith("backbone/"))


def frozen_batch_norm(config: ConfigDict, phase: Phase) -> tuple[str, ...]:
    """Returns the layers whose batch norm keeps to its running statistics in a phase."""
    return () if config.model.frozen_batch_norm == "batch" else phase.frozen


def split_params(params: Params, phase: Phase) -> tuple[Params, Params]:
    """Splits a parameter tree into its trainable and its frozen part, each a smaller tree.

    The step differentiates and the optimizer sees the first part only: what is frozen has no
    gradient, no backward pass and no optimizer state, and keeps its bits by construction.
    """
    flat = traverse_util.flatten_dict(params)
    chosen = frozenset(phase.trainable)
    trainable = {path: leaf for path, leaf in flat.items() if layer_of(path) in chosen}
    frozen = {path: leaf for path, leaf in flat.items() if path not in trainable}
    return traverse_util.unflatten_dict(trainable), traverse_util.unflatten_dict(frozen)


def merge_params(trainable: Params, frozen: Params) -> Params:
    """Joins what `split_params` split."""
    flat = traverse_util.flatten_dict(trainable) | traverse_util.flatten_dict(frozen)
    return traverse_util.unflatten_dict(flat)


def describe_trainable(phase: Phase, layers: Layers) -> str:
    """The stages that a phase trains; "part of" those that it trains some layers of."""
    parts = []
    for stage in layers.stages:
        count = sum(stage_of(layer) == stage for layer in layers.names)
        trained = sum(stage_of(layer) == stage for layer in phase.trainable)
        if trained:
            parts.append(stage if trained == count else f"part of {stage}")
    return ", ".join(parts)
