"""What is trainable when: the phases of gradual unfreezing, and parameters split by them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from absl import logging
from flax import traverse_util
from ml_collections import ConfigDict

from skinjax.config import nearest
from skinjax.errors import InputError

Params = dict[str, Any]


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one set of trainable stages and one learning-rate cycle.

    Attributes:
      index: place among the phases, from 0.
      trainable: stages whose parameters are trained, from stem to head.
      frozen: all other stages.
      since: for each trainable stage, the first phase of its unbroken run of being trained.
      first_step: global step at which the phase begins.
      num_steps: its length in steps.
      learning_rate: the peak.
    """

    index: int
    trainable: tuple[str, ...]
    frozen: tuple[str, ...]
    since: tuple[int, ...]
    first_step: int
    num_steps: int
    learning_rate: float

    @property
    def end_step(self) -> int:
        """The global step at which the next phase begins."""
        return self.first_step + self.num_steps


def resolve(config: ConfigDict, stages: Sequence[str], steps_per_epoch: int) -> tuple[Phase, ...]:
    """Lays the config's phases out in steps.

    Without any, or without pretrained weights (unless `phases_from_scratch`), one phase of
    `config.epochs` trains everything.

    Args:
      config: the whole config.
      stages: the model's stages, from stem to head.
      steps_per_epoch: full batches in an epoch.

    Raises:
      InputError: a phase names a stage that the model does not have.
    """
    described = [
        (_expand(one.trainable, stages, i), one.epochs, one.learning_rate_factor)
        for i, one in enumerate(config.phases)
    ]
    from_scratch = not config.model.pretrained and not config.phases_from_scratch
    if described and from_scratch:
        logging.warning(
            "model.pretrained is empty, so there is nothing worth freezing: training everything "
            "in one phase of %d epochs instead of config.phases", config.epochs,
        )  # fmt: skip
    if not described or from_scratch:
        described = [(tuple(stages), config.epochs, 1.0)]
    phases: list[Phase] = []
    first_step = 0
    since: dict[str, int] = {}
    for index, (trainable, epochs, factor) in enumerate(described):
        since = {stage: since.get(stage, index) for stage in trainable}
        phases.append(
            Phase(
                index=index,
                trainable=trainable,
                frozen=tuple(stage for stage in stages if stage not in trainable),
                since=tuple(since[stage] for stage in trainable),
                first_step=first_step,
                num_steps=epochs * steps_per_epoch,
                learning_rate=config.optimizer.learning_rate * factor,
            )
        )
        first_step = phases[-1].end_step
    return tuple(phases)


def _expand(names: Sequence[str], stages: Sequence[str], index: int) -> tuple[str, ...]:
    if tuple(names) == ("*",):
        return tuple(stages)
    for name in names:
        if name not in stages:
            raise InputError(
                f"config.phases[{index}] trains a stage {name!r} that the model does not have; "
                f"its stages are {', '.join(stages)}{nearest(name, stages)}"
            )
    return tuple(stage for stage in stages if stage in names)


def frozen_batch_norm(config: ConfigDict, phase: Phase) -> tuple[str, ...]:
    """Returns the stages whose batch norm keeps to its running statistics in a phase."""
    return phase.frozen if config.model.frozen_batch_norm == "running" else ()


def stage_of(path: tuple[str, ...]) -> str:
    """Returns the stage that a parameter's path belongs to: its backbone stage, or "head"."""
    return path[1] if path[0] == "backbone" else path[0]


def split_params(params: Params, phase: Phase) -> tuple[Params, Params]:
    """Splits a parameter tree into its trainable and its frozen part, each a smaller tree.

    The step differentiates and the optimizer sees the first part only: what is frozen has no
    gradient, no backward pass and no optimizer state, and keeps its bits by construction.
    """
    flat = traverse_util.flatten_dict(params)
    trainable = {path: leaf for path, leaf in flat.items() if stage_of(path) in phase.trainable}
    frozen = {path: leaf for path, leaf in flat.items() if path not in trainable}
    return traverse_util.unflatten_dict(trainable), traverse_util.unflatten_dict(frozen)


def merge_params(trainable: Params, frozen: Params) -> Params:
    """Joins what `split_params` split."""
    flat = traverse_util.flatten_dict(trainable) | traverse_util.flatten_dict(frozen)
    return traverse_util.unflatten_dict(flat)
