"""Orbax checkpoints: parameters, training state, data iterator, and a description of it all."""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from ml_collections import ConfigDict
from orbax.checkpoint.checkpoint_managers import preservation_policy

from skinjax import checkpoint_contents as contents
from skinjax import checkpoint_description, metrics, parallel
from skinjax import config as config_lib
from skinjax.checkpoint_description import Description
from skinjax.errors import InputError
from skinjax.train_step import TrainState

_LATEST_KEPT = 2  # so that there is one before the latest, should that be unreadable
_FORMAT = 2
_READABLE = (1, 2)  # 1 has no state of training that this version could go on from


class Checkpointer:
    """Saves in the background; keeps the latest and the best, and reads back what is whole."""

    def __init__(
        self,
        directory: Path,
        *,
        metric: str,
        keep_best: int = 1,
        read_only: bool = False,
    ) -> None:
        """Opens a folder of checkpoints; `metric` chooses the best among those that have it."""
        self.directory = Path(directory).resolve()
        self._metric = metric
        self._sign = 1 if metrics.direction(metric) == "max" else -1
        self._score_of_step: dict[int, float] = {}
        self._open: Callable[[], ocp.CheckpointManager] = lambda: ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_LatestAndBest(self._score_of_step, keep_best),
                read_only=read_only,
                create=not read_only,
                cleanup_tmp_directories=not read_only,  # of a save that a kill cut off
                enable_async_checkpointing=not read_only,
            ),
            item_names=("variables", "training", "data", "description"),
        )
        self._manager = self._open()
        if not read_only:
            for step in self.steps():
                self._note_score(step, self._describe_or_none(step))

    def _note_score(self, step: int, description: Description | None) -> None:
        self._score_of_step.pop(step, None)
        if description is not None and self._metric in description.metrics:
            self._score_of_step[step] = self._sign * description.metrics[self._metric]

    def save(self, state: TrainState, data_state: Any, description: Description) -> None:
        """Starts saving; waits only for the save before this one.

        Args:
          state: replicated; copied to the host first, so that the step may reuse its memory.
          data_state: the data iterator's, JSON-able.
          description: its `step` names the checkpoint.
        """
        if description.step in self._manager.all_steps():
            return
        host = jax.tree.map(lambda leaf: np.array(leaf), state)
        self._note_score(description.step, description)
        with self._clear_errors():
            self._manager.save(
                description.step,
                args=ocp.args.Composite(
                    variables=ocp.args.StandardSave(contents.variables(host)),
                    training=ocp.args.StandardSave(contents.training(host)),
                    data=ocp.args.JsonSave({"state": data_state}),
                    description=ocp.args.JsonSave(
                        {
                            "format": _FORMAT,
                            "digest": contents.digest(contents.variables(host)),
                            **asdict(description),
                        }
                    ),
                ),
                force=True,
            )

    def wait(self) -> None:
        """Waits until what was saved is on the disk; raises OSError where the disk is full."""
        with self._clear_errors():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """Turns what the disk refuses, however Orbax words it, into an OSError.

        It is full, or has become read-only, or the folder is gone. The half is removed.
        """
        try:
            yield
        except Exception as error:
            number = _error_number(error)
            if not number:
                raise
            for half in self.directory.glob("*.orbax-checkpoint-tmp"):
                shutil.rmtree(half, ignore_errors=True)
            raise OSError(number, os.strerror(number), str(self.directory)) from error

    def close(self) -> None:
        """Waits and releases the folder."""
        with self._clear_errors():
            self._manager.close()

    def steps(self) -> list[int]:
        """Lists the steps that have a finished checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def describe(self, step: int) -> Description:
        """Reads a checkpoint's description.

        Raises:
          InputError: it is missing or unreadable.
        """
        try:
            values = dict(self._description(step))
            if values.pop("format") not in _READABLE:
                raise ValueError("it is of another version of skinjax")
            values.pop("digest", None)
            description = Description(**{**values, "classes": tuple(values["classes"])})
            checkpoint_description.check(description, step)
            return description
        except Exception as error:
            raise InputError(
                f"checkpoint {step} in {self.directory} can't be read ({_first_line(error)})"
            ) from error

    def choose(self, which: str) -> int:
        """Returns the step that "best", "latest" or a number names.

        Raises:
          InputError: there is none, with a list of those that there are.
        """
        steps = self.steps()
        if not steps:
            raise InputError(f"{self.directory} has no finished checkpoint; train first")
        if which == "latest":
            return steps[-1]
        if which == "best":
            for step in steps:
                self._note_score(step, self._describe_or_none(step))
            scored = _by_score(steps, self._score_of_step)
            if scored:
                return scored[-1]
            logging.warning("no checkpoint has %s; taking the latest", self._metric)
            return steps[-1]
        if which.isdecimal() and int(which) in steps:
            return int(which)
        raise InputError(
            f"--checkpoint={which} is none of best, latest or a step of {self.directory}; "
            f"it has: {'; '.join(self.listing())}"
        )

    def listing(self) -> list[str]:
        """Describes each checkpoint in a line: step, epoch and metric."""
        lines = []
        for step in self.steps():
            about = self._describe_or_none(step)
            if about is None:
                lines.append(f"step {step}, unreadable")
                continue
            value = about.metrics.get(self._metric)
            metric = "not evaluated" if value is None else f"{self._metric} {value:.4f}"
            lines.append(f"step {step}, epoch {about.epoch:.2f}, {metric}")
        return lines

    def _describe_or_none(self, step: int) -> Description | None:
        try:
            return self.describe(step)
        except InputError as error:
            logging.warning("%s", error)
            return None

    def restore_variables(self, step: int) -> dict[str, Any]:
        """Reads `params` and `batch_stats` as NumPy arrays; raises InputError where it can't."""
        try:
            args = ocp.args.Composite(variables=ocp.args.StandardRestore())
            restored = self._manager.restore(step, args=args)["variables"]
            self._check_digest(step, restored)
        except Exception as error:
            raise InputError(
                f"checkpoint {step} in {self.directory} can't be read ({_first_line(error)}); "
                "choose another with --checkpoint"
            ) from error
        return jax.tree.map(np.asarray, restored)

    def restore(self, step: int, template: TrainState) -> tuple[TrainState, Any]:
        """Reads a training state of the template's very structure, and the data iterator's state.

        Args:
          step: a step of `steps()`.
          template: built with the optimizer of the checkpoint's own phase. Orbax would fill
            another phase's tree without an error, so the structures are compared.

        Raises:
          ValueError: the structure or a shape differs.
        """
        abstract = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template)
        if self._description(step)["format"] != _FORMAT:
            raise ValueError(
                "it is of an earlier version of skinjax: it evaluates, but can't go on"
            )
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                variables=ocp.args.StandardRestore(contents.variables(abstract)),
                training=ocp.args.StandardRestore(contents.training(abstract)),
                data=ocp.args.JsonRestore(),
            ),
        )
        variables, training = restored["variables"], restored["training"]
        self._check_digest(step, variables)
        raw = training.pop("raw", None)
        state = TrainState(**(raw or variables), **training, ema=None if raw is None else variables)
        expected: Any = jax.tree.structure(template)
        if jax.tree.structure(state) != expected:
            raise ValueError("its optimizer state is of another phase")
        jax.tree.map(contents.check_leaf, state, template)
        return state, restored["data"]["state"]

    def _description(self, step: int) -> dict[str, Any]:
        args = ocp.args.Composite(description=ocp.args.JsonRestore())
        values: dict[str, Any] = self._manager.restore(step, args=args)["description"]
        return values

    def _check_digest(self, step: int, variables: Any) -> None:
        """Raises ValueError where the numbers read are not those that were saved."""
        # Earlier versions saved none. TensorStore has no checksum of what it does not compress.
        expected = self._description(step).get("digest")
        if expected is not None and contents.digest(variables) != expected:
            raise ValueError("its parameters are damaged: they are not those that were saved")

    def set_aside(self, step: int) -> None:
        """Moves an unreadable checkpoint out of the way, so that training can pass its step.

        All processes call it together.
        """
        self._manager.close()
        parallel.on_main_process(lambda: self._move_aside(step))
        self._manager = self._open()

    def _move_aside(self, step: int) -> None:
        aside = self.directory.parent / "unreadable_checkpoints"
        aside.mkdir(exist_ok=True)
        shutil.rmtree(aside / str(step), ignore_errors=True)
        (self.directory / str(step)).rename(aside / str(step))


class _LatestAndBest(preservation_policy.PreservationPolicy):
    """Says which checkpoints stay, by the scores that their descriptions give.

    Orbax's own policy forgets the metrics of what an earlier start of the run has saved.
    """

    def __init__(self, score_of_step: Mapping[int, float], keep_best: int) -> None:
        self._score_of_step, self._keep_best = score_of_step, keep_best

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        steps = sorted(info.step for info in checkpoints)
        scored = _by_score(steps, self._score_of_step)
        kept = {*steps[-_LATEST_KEPT:], *scored[max(0, len(scored) - self._keep_best) :]}
        return [info.step in kept for info in checkpoints]


def _by_score(steps: Sequence[int], score_of_step: Mapping[int, float]) -> list[int]:
    """The steps that have a score, the best last; of equal ones the latest."""
    scored = [step for step in steps if step in score_of_step]
    return sorted(scored, key=lambda step: (score_of_step[step], step))


def open_run(workdir: Path) -> tuple[Checkpointer, ConfigDict]:
    """Opens a work directory's checkpoints for reading, with the config that they hold.

    The folder of checkpoints is enough: nothing else of the work directory is read.

    Raises:
      InputError: it is not a work directory, or has no checkpoint that can be read.
    """
    directory = Path(workdir) / "checkpoints"
    if not directory.is_dir() and (Path(workdir) / "fold_0").is_dir():
        raise InputError(
            f"{workdir} is of a cross-validation: give one of its folds, as {workdir}/fold_0 (what "
            f"all of them say of the images they did not see is in {workdir}/out_of_fold)"
        )
    if not directory.is_dir():
        raise InputError(
            f"{workdir} is not a work directory of a training run (it has no folder checkpoints); "
            "give the --workdir that was trained"
        )
    # Which metric chooses the best stands in the checkpoints, so they are opened twice.
    try:
        opened = Checkpointer(directory, metric="loss", read_only=True)
    except (RecursionError, TypeError, ValueError) as error:
        raise InputError(f"{directory} can't be read ({_first_line(error)})") from error
    with contextlib.closing(opened) as any_metric:
        steps = reversed(any_metric.steps())
        about = next(filter(None, map(any_metric._describe_or_none, steps)), None)
    if about is None:
        raise InputError(f"{directory} has no finished checkpoint that can be read; train first")
    config = config_lib.from_json(about.config, origin=f"checkpoint {about.step} in {directory}")
    return Checkpointer(directory, metric=config.checkpoint.metric, read_only=True), config


def _error_number(error: BaseException) -> int:
    """The system's number of an error, or 0: an OSError's own, or what TensorStore has written."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    written = re.search(r"os_error_code='(\d+)'", str(error))
    if written:
        return int(written[1])
    return errno.ENOSPC if os.strerror(errno.ENOSPC) in str(error) else 0


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
