"""What a run says of itself while it trains: step and epoch rows, TensorBoard, the progress bar."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from skinjax import logs, metrics
from skinjax.errors import NonFiniteLossError

_SHOWN = (
    "loss", "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1",
    "macro_roc_auc", "num_examples",
)  # fmt: skip
EPOCH_COLUMNS = (
    "epoch", "step", "phase", "learning_rate", "seconds", "waiting",
    *(f"{split}_{name}" for split in ("train", "val") for name in _SHOWN),
)  # fmt: skip
STEP_COLUMNS = (
    "step", "epoch", "phase", "learning_rate", "loss", "grad_norm", "loss_scale", "skipped",
    "images_per_second", "waiting",
)  # fmt: skip


class RunLog:
    """Takes the outputs of every step, checks the loss, and writes rows at intervals and epochs.

    The training metrics of an epoch are those of its steps, each on the batch it was trained on,
    with augmentation and dropout; after a restart within an epoch, of the steps since then.

    The column `waiting` is the share of the training's time in which the loop waited for the next
    batch. Where the devices had work left meanwhile, it is more than what they have lost.
    """

    def __init__(
        self,
        workdir: Path,
        config: ConfigDict,
        classes: tuple[str, ...],
        *,
        start_step: int,
        total_steps: int,
        steps_per_epoch: int,
        writes: bool,
    ) -> None:
        """Opens the logs, dropping what an interrupted run wrote after `start_step`.

        `writes` False, on every process but the first, checks and computes but writes nothing.
        """
        self._config, self._classes = config, classes
        self._steps_per_epoch, self._total_steps = steps_per_epoch, total_steps
        self._writes = writes
        self._steps = self._epochs = None
        if writes:
            self._steps = logs.CsvLog(workdir / "steps.csv", STEP_COLUMNS)
            self._epochs = logs.CsvLog(workdir / "history.csv", EPOCH_COLUMNS)
            self._steps.truncate_after(start_step)
            self._epochs.truncate_after(start_step)
        self._board = logs.TensorBoardLog(
            workdir / "tensorboard",
            enabled=writes and config.log.tensorboard,
            resumed_step=start_step or None,
        )
        self.progress = logs.Progress(
            total_steps, start=start_step, enabled=writes and config.log.progress
        )
        self._waited = self._epoch_waited = 0.0  # seconds, in an interval of steps and in an epoch
        self._start_epoch()
        self._interval = (time.monotonic(), start_step)

    def step(
        self,
        step: int,
        phase: int,
        learning_rate: float,
        outputs: dict[str, Any],
        waited: float = 0.0,
    ) -> None:
        """Takes the outputs of one step, on the host.

        Args:
          step: its number, from 1.
          phase: its index.
          learning_rate: of it.
          outputs: of it.
          waited: the seconds waited for batches since the step before was taken.

        Raises:
          NonFiniteLossError: the loss is not finite, and not for an overflow that a smaller loss
            scale mends.
        """
        loss, finite = float(outputs["loss"]), bool(outputs["finite"])
        overflow = not finite and outputs["loss_scale"] >= 1  # the next, smaller scale mends it
        if not overflow and not (math.isfinite(loss) and math.isfinite(outputs["grad_norm"])):
            raise NonFiniteLossError(
                f"the loss at step {step} is not finite (loss {loss}, gradient norm "
                f"{float(outputs['grad_norm'])}): training stopped, and nothing of it is "
                "saved; try a smaller config.optimizer.learning_rate, in a new --workdir if this "
                "one has checkpoints"
            )
        if math.isfinite(loss):
            self._losses.append(loss)
        self._probabilities.append(outputs["probability_BC"])
        self._labels.append(outputs["label_B"])
        self._waited += waited
        self._epoch_waited += waited
        self._trained_until = time.monotonic()
        self.progress.update(step, images=len(outputs["label_B"]), loss=loss)
        if step % self._config.log.every_steps == 0:
            self._log_step(step, phase, learning_rate, outputs)

    def epoch(
        self, step: int, phase: int, learning_rate: float, val: dict[str, Any] | None
    ) -> None:
        """Writes a row: what was trained since the last one, and validation if there was one."""
        row: dict[str, Any] = {
            "epoch": _epoch(step, self._steps_per_epoch),
            "step": step,
            "phase": phase,
            "learning_rate": learning_rate,
            "seconds": round(time.monotonic() - self._epoch_began, 3),
            "waiting": _share(self._epoch_waited, self._trained_until - self._epoch_began),
        }
        train = self._train_metrics()
        for split, values in (("train", train), ("val", val or {})):
            row |= {f"{split}_{name}": values.get(name) for name in _SHOWN}
        if self._epochs is not None:
            self._epochs.append(row)
        self._board.scalars(step, {f"train/{k}": v for k, v in _numbers(train).items()})
        if val is not None:
            self._board.scalars(step, {f"val/{k}": v for k, v in _numbers(val).items()})
            text = f"loss {val['loss']:.4f}, {metrics.summary_line(val)}"
            self.progress.line(f"epoch {row['epoch']:g}: validation {text}")
        self._start_epoch()
        self._interval = (time.monotonic(), step)

    def close(self) -> None:
        """Writes what is left and closes the files."""
        self.progress.close()
        self._board.close()
        for log in (self._steps, self._epochs):
            if log is not None:
                log.close()

    def _start_epoch(self) -> None:
        self._epoch_began = self._trained_until = time.monotonic()
        self._epoch_waited = self._waited = 0.0
        self._losses: list[float] = []
        self._probabilities: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []

    def _train_metrics(self) -> dict[str, Any]:
        if not self._labels:
            return {}
        probability_NC = np.concatenate(self._probabilities)
        whole_N = np.isfinite(probability_NC).all(axis=1)  # an overflowing float16 step has none
        label_N = np.concatenate(self._labels)[whole_N]
        computed = metrics.compute(probability_NC[whole_N], label_N, self._classes)
        return {"loss": float(np.mean(self._losses)) if self._losses else None, **computed}

    def _log_step(
        self, step: int, phase: int, learning_rate: float, outputs: dict[str, Any]
    ) -> None:
        now = time.monotonic()
        began, first = self._interval
        self._interval = (now, step)
        row = {
            "step": step,
            "epoch": _epoch(step, self._steps_per_epoch),
            "phase": phase,
            "learning_rate": learning_rate,
            "loss": float(outputs["loss"]),
            "grad_norm": float(outputs["grad_norm"]),
            "loss_scale": float(outputs["loss_scale"]),
            "skipped": int(outputs["skipped"]),
            "images_per_second": round(
                (step - first) * len(outputs["label_B"]) / max(now - began, 1e-9), 2
            ),
            "waiting": _share(self._waited, now - began),
        }
        self._waited = 0.0
        if self._steps is not None:
            self._steps.append(row)
        self._board.scalars(
            step, {f"step/{k}": row[k] for k in ("loss", "grad_norm", "learning_rate")}
        )


def _share(part: float, whole: float) -> float:
    return round(min(1.0, part / max(whole, 1e-9)), 4)


def _epoch(step: int, steps_per_epoch: int) -> float:
    """Finished epochs; a whole number as such."""
    epoch = round(step / steps_per_epoch, 4)
    return int(epoch) if epoch.is_integer() else epoch


def _numbers(values: dict[str, Any]) -> dict[str, float | None]:
    """The loss and the other metrics that are one number."""
    return {"loss": values.get("loss"), **metrics.scalars(values)}
