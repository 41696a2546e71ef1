"""The training loop: steps, evaluations, phases and checkpoints of a run."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from skinjax import config as config_lib
from skinjax import (
    evaluate,
    logs,
    metrics,
    monitor,
    optimizer,
    out_of_memory,
    parallel,
    phases,
    report,
    stopping,
    summary,
    training_data,
)
from skinjax import workdir as workdir_lib
from skinjax.checkpoint import Checkpointer, Description
from skinjax.data import builder
from skinjax.device_data import DeviceData
from skinjax.errors import InputError, NonFiniteLossError, OriginError
from skinjax.experiment import Experiment
from skinjax.models import pretrained
from skinjax.monitor import Monitor
from skinjax.profiling import Profiler
from skinjax.run_log import RunLog
from skinjax.train_step import TrainState

OnEvaluation = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class _Place:
    """Where a run is among its phases.

    Attributes:
      phase: the one at hand.
      began: the step at which it began.
      monitor: what its evaluations have shown.
    """

    phase: phases.Phase
    began: int
    monitor: Monitor

    def is_over(self, step: int, config: ConfigDict) -> bool:
        """Says whether the phase ends at a step: by its length, or by early stopping."""
        return step - self.began >= self.phase.num_steps or self.monitor.is_exhausted(config)


class Loop:
    """Training between its steps: the parts of a run, and what has been reached."""

    def __init__(
        self,
        experiment: Experiment,
        prepared: builder.PreparedDataset,
        trained_on: Sequence[str],
        published: pretrained.Published | None,
        on_evaluation: OnEvaluation | None,
    ) -> None:
        config = experiment.config
        self._on_evaluation = on_evaluation
        self._experiment, self._config, self._prepared = experiment, config, prepared
        self._published = published
        self._metadata = "" if experiment.encoder is None else experiment.encoder.to_json()
        data = training_data.open_data(experiment, prepared, trained_on)
        self._feed, self._val = data.feed, data.val
        self._images_on_devices = data.on_devices
        self._steps_per_epoch, self._phases = data.steps_per_epoch, data.phases
        self._total_steps = sum(phase.num_steps for phase in self._phases)
        self._eval_step = experiment.eval_step()

    def run(self, workdir: Path, stop: stopping.StopRequest) -> dict[str, Any]:
        """Trains to the last step, from the latest checkpoint that is whole."""
        with contextlib.ExitStack() as stack:
            self._checkpoints = Checkpointer(
                workdir_lib.checkpoint_dir(workdir),
                metric=self._config.checkpoint.metric,
                keep_best=self._config.checkpoint.keep_best,
            )
            stack.callback(self._checkpoints.close)
            stack.enter_context(out_of_memory.explained(self._memory_advice))
            state, place = self._restore() or self._initialize(workdir)
            parallel.on_main_process(lambda: self._describe(workdir))
            self._log = RunLog(
                workdir,
                self._config,
                self._prepared.classes,
                start_step=int(state.step),
                total_steps=self._total_steps,
                steps_per_epoch=self._steps_per_epoch,
                writes=parallel.is_main_process(),
            )
            if parallel.is_main_process():
                title = f"{self._config.model.name} on {self._config.data.dataset}"
                stack.callback(report.write_history, workdir, title=title)  # stopped runs too
            stack.callback(self._log.close)
            self._profiler = Profiler(
                workdir,
                start_step=int(state.step),
                total_steps=self._total_steps,
                enabled=self._config.profile and parallel.is_main_process(),
            )
            stack.callback(self._profiler.close)
            self._train(state, place, stop)
            self._checkpoints.wait()
            best = self._checkpoints.describe(self._checkpoints.choose("best"))
        return {"step": best.step, "epoch": best.epoch, "metrics": best.metrics}

    def _memory_advice(self) -> str:
        saved = self._checkpoints.steps()
        return out_of_memory.advice_for_training(
            self._config,
            self._experiment.mapper.num_devices,
            saved[-1] if saved else None,
            images_on_devices=self._images_on_devices,
        )

    def _describe(self, workdir: Path) -> None:
        devices = [f"{device.platform} {device.device_kind}" for device in jax.devices()]
        logs.describe_run(workdir, self._config, devices=devices)

    def _initialize(self, workdir: Path) -> tuple[TrainState, _Place]:
        first = self._phases[0]
        variables = self._experiment.init_variables()
        if self._config.model.pretrained:
            published = self._published or pretrained.find(self._config.model)
            variables, report = pretrained.load(published, variables)
            logging.info(
                "%s fills the backbone with %d tensors; %s", published.origin, report.filled,
                report.describe_unused(),
            )  # fmt: skip
            parallel.on_main_process(
                lambda: logs.write_json(
                    workdir_lib.pretrained_path(workdir),
                    {"origin": published.origin, "unused": list(report.unused)},
                )
            )
        return self._experiment.init_state(first, variables), _Place(first, 0, Monitor())

    def _restore(self) -> tuple[TrainState, _Place] | None:
        """Reads the latest checkpoint that is whole; those after it are then set aside.

        Raises:
          OriginError: a checkpoint is of other data.
          InputError: there are checkpoints, and none of them can be read.
        """
        unreadable: dict[int, str] = {}
        for step in reversed(self._checkpoints.steps()):
            error = ""
            try:
                about = self._checkpoints.describe(step)
                self._check_origin(about)
                phase = self._phases[about.phase]
                place = _Place(phase, about.phase_start, Monitor(**about.monitor))
                state, data_state = self._checkpoints.restore(step, self._template(phase))
            except OriginError:
                raise
            except Exception as caught:  # whatever Orbax makes of a damaged file
                error = (str(caught).splitlines() or [type(caught).__name__])[0][:200]
            if parallel.any_process(bool(error)):
                logging.warning(
                    "checkpoint %d can't be read, trying the one before: %s", step, error
                )
                unreadable[step] = error
                continue
            for broken in unreadable:
                self._checkpoints.set_aside(broken)
            self._feed.set_state(data_state)
            logging.info("going on from step %d of %d", step, self._total_steps)
            return state, place
        if unreadable:
            step, error = next(iter(unreadable.items()))
            raise InputError(
                f"none of the checkpoints {', '.join(map(str, unreadable))} can be read (step "
                f"{step}: {error}); restore them, or train in another --workdir"
            )
        return None

    def _template(self, phase: phases.Phase) -> TrainState:
        shapes = self._experiment.variable_shapes()
        return jax.eval_shape(lambda shapes: self._experiment.init_state(phase, shapes), shapes)

    def _check_origin(self, about: Description) -> None:
        for name, here, there in (
            ("classes", self._prepared.classes, about.classes),
            ("data", self._prepared.fingerprint, about.fingerprint),
            ("patient metadata", self._metadata, about.metadata),
        ):
            if here != there:
                raise OriginError(
                    f"the work directory's checkpoints are of other {name} ({there}; now {here}); "
                    "restore the files, or train in another --workdir"
                )

    def _train(self, state: TrainState, place: _Place, stop: stopping.StopRequest) -> None:
        step = int(state.step)
        key = jax.random.key(self._config.seed)
        state, train_step, learning_rate_S = self._enter(state, place.phase)
        pending: dict[str, Any] | None = None
        while True:
            if place.is_over(step, self._config):
                if place.phase is self._phases[-1]:
                    break
                state, place = self._next_phase(state, place, step)
                state, train_step, learning_rate_S = self._enter(state, place.phase)
            batch = self._feed.take()
            with self._profiler.step(step + 1):
                state, outputs = train_step(state, batch, key)
            step += 1
            # While this step runs, the next batch is on its way, and the step before this is read.
            if step < self._total_steps:
                self._feed.fetch()
            self._read(pending)
            self._profiler.after(step, outputs)
            rate = float(learning_rate_S[step - 1 - place.began])
            pending = {
                "step": step,
                "phase": place.phase.index,
                "learning_rate": rate * place.monitor.learning_rate_scale,
                "waited": self._feed.take_waited(),
                "outputs": outputs,
            }
            is_stopped = not place.is_over(step, self._config) and stop.is_made(step)
            if is_stopped or self._is_checkpointed(step, place):
                self._read(pending)
                state, place = self._evaluate_and_save(step, place, pending["learning_rate"], state)
                pending = None
            if is_stopped:
                self._checkpoints.wait()
                raise stop.error(step)

    def _next_phase(self, state: TrainState, place: _Place, step: int) -> tuple[TrainState, _Place]:
        phase = self._phases[place.phase.index + 1]
        if self._config.early_stopping.restore_best and self._val is not None:
            self._checkpoints.wait()
            best = self._checkpoints.choose("best")
            logging.info("phase %d begins with the parameters of step %d", phase.index + 1, best)
            restored = self._experiment.init_state(phase, self._checkpoints.restore_variables(best))
            state = restored.replace(step=state.step, loss_scale=state.loss_scale,
                                     skipped=state.skipped)  # fmt: skip
        else:
            state = self._experiment.next_phase(state, phase)
        return state, _Place(phase, step, Monitor())

    def _enter(self, state: TrainState, phase: phases.Phase) -> tuple[TrainState, Any, Any]:
        layers = self._experiment.layers
        logging.info(
            "phase %d of %d: training %s for %d steps\n%s",
            phase.index + 1, len(self._phases), phases.describe_trainable(phase, layers),
            phase.num_steps,
            summary.describe(self._experiment.variable_shapes(), phase, layers),
        )  # fmt: skip
        return (
            self._experiment.mapper.replicate(state),
            self._experiment.train_step(phase),
            optimizer.learning_rates(self._config.optimizer, phase),
        )

    def _read(self, pending: dict[str, Any] | None) -> None:
        if pending is not None:
            self._log.step(**{**pending, "outputs": jax.device_get(pending["outputs"])})

    def _is_checkpointed(self, step: int, place: _Place) -> bool:
        every = self._config.checkpoint.every_steps
        return (
            self._ends_row(step, place)
            or self._is_evaluated(step, place)
            or bool(every and step % every == 0)
        )

    def _ends_row(self, step: int, place: _Place) -> bool:
        """Says whether the history has a row that ends at a step."""
        every = self._config.evaluate.every_steps
        in_phase = step - place.began
        is_due = step % self._steps_per_epoch == 0 if every == 0 else in_phase % every == 0
        return is_due or in_phase == place.phase.num_steps

    def _is_evaluated(self, step: int, place: _Place) -> bool:
        """Says whether a step is followed by validation: at intervals, and at the phase's end."""
        evaluate, in_phase = self._config.evaluate, step - place.began
        if evaluate.every_steps:
            is_due = in_phase % evaluate.every_steps == 0
        else:
            is_due = step % (evaluate.every_epochs * self._steps_per_epoch) == 0
        return (is_due or in_phase == place.phase.num_steps) and self._val is not None

    def _evaluate_and_save(
        self, step: int, place: _Place, learning_rate: float, state: TrainState
    ) -> tuple[TrainState, _Place]:
        val = self._validate(step, state) if self._is_evaluated(step, place) else None
        if val is not None or self._ends_row(step, place):
            self._log.epoch(step, place.phase.index, learning_rate, val)
        scalars: dict[str, float | None] = {}
        if val is not None:
            scalars = {"loss": val["loss"], **metrics.scalars(val)}
            place = replace(place, monitor=monitor.update(place.monitor, self._config, scalars))
            scale = np.float32(place.monitor.learning_rate_scale)
            state = state.replace(learning_rate_scale=self._experiment.mapper.replicate(scale))
        known = {name: value for name, value in scalars.items() if value is not None}
        self._checkpoints.save(
            state,
            self._feed.get_state(),
            Description(
                step=step,
                epoch=step / self._steps_per_epoch,
                phase=place.phase.index,
                metrics=known,
                classes=self._prepared.classes,
                config=config_lib.to_json(self._config),
                fingerprint=self._prepared.fingerprint,
                phase_start=place.began,
                monitor=asdict(place.monitor),
                metadata=self._metadata,
            ),
        )
        if place.monitor.is_exhausted(self._config):
            logging.info(
                "early stopping at step %d: no improvement in %d evaluations", step,
                place.monitor.waited,
            )  # fmt: skip
        if val is not None and self._on_evaluation is not None and parallel.is_main_process():
            self._on_evaluation(step, known)
        return state, place

    def _validate(self, step: int, state: TrainState) -> dict[str, Any]:
        assert self._val is not None  # `_is_evaluated` says so
        arguments = (self._experiment, self._eval_step, state.variables)
        if isinstance(self._val, DeviceData):
            batches = self._val.eval_batches(self._experiment.eval_batch_size)
            predicted = evaluate.predict_batches(*arguments, batches, len(self._val))
        else:
            predicted = evaluate.predict_split(*arguments, self._val)
        try:
            return evaluate.split_metrics(self._experiment, predicted)
        except NonFiniteLossError as error:
            raise NonFiniteLossError(f"at step {step}, {error}") from None
