"""Predictions of a split, each example exactly once, and what is written about them."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from skinjax import (
    calibration,
    checkpoint,
    evaluation_files,
    fitted,
    metrics,
    out_of_memory,
    parallel,
    run_data,
    test_time,
)
from skinjax import workdir as workdir_lib
from skinjax.calibration import Calibration
from skinjax.data import builder, pipeline, splits
from skinjax.data.metadata import Encoder
from skinjax.data.prepared import MANIFEST, open_prepared
from skinjax.errors import InputError, NonFiniteLossError
from skinjax.experiment import Experiment

SPLITS = splits.SPLITS


@dataclass(frozen=True)
class SplitPredictions:
    """Predictions in the order of the split's records.

    Attributes:
      probability_NC: float32.
      label_N: int32.
      loss: the config's loss over the split.
    """

    probability_NC: np.ndarray
    label_N: np.ndarray
    loss: float


def predict_split(
    experiment: Experiment,
    step: Callable[..., Any],
    variables: Any,
    source: pipeline.Source,
) -> SplitPredictions:
    """Runs the evaluation step over a source, whatever its size and the number of devices.

    Args:
      experiment: gives batch size and devices.
      step: `experiment.eval_step()`.
      variables: `params` and `batch_stats`, replicated.
      source: the split's records.
    """
    dataset = pipeline.eval_dataset(
        source,
        batch_size=experiment.eval_batch_size,
        num_threads=experiment.config.data.num_threads,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    batches = map(experiment.mapper.shard, dataset)
    return predict_batches(experiment, step, variables, batches, len(source))


def predict_batches(
    experiment: Experiment,
    step: Callable[..., Any],
    variables: Any,
    batches: Iterable[Any],
    num_examples: int,
) -> SplitPredictions:
    """As `predict_split`, over batches on the devices: those of `eval_dataset` of so many."""
    probability_NC = np.full((num_examples, len(experiment.classes)), np.nan, np.float32)
    label_N = np.zeros(num_examples, np.int32)
    numerator = denominator = 0.0
    pending = None
    advice = functools.partial(
        out_of_memory.advice_for_evaluation,
        experiment.eval_batch_size,
        experiment.mapper.num_devices,
    )
    # One batch behind, so that the host reads a result while the devices compute the next.
    with out_of_memory.explained(advice):
        for batch in itertools.chain(batches, [None]):
            outputs = None if batch is None else step(variables, batch)
            if pending is not None:
                host = jax.device_get(pending)
                mask_B = host["mask_B"]
                probability_NC[host["index_B"][mask_B]] = host["probability_BC"][mask_B]
                label_N[host["index_B"][mask_B]] = host["label_B"][mask_B]
                numerator += float(host["numerator"])
                denominator += float(host["denominator"])
            pending = outputs
    loss = numerator / denominator if denominator else 0.0
    return SplitPredictions(probability_NC, label_N, loss)


def split_metrics(experiment: Experiment, predicted: SplitPredictions) -> dict[str, Any]:
    """Every metric of a split's predictions, and the config's `loss` with them.

    Raises:
      NonFiniteLossError: a prediction is not finite.
    """
    _check_finite(predicted)
    computed = metrics.compute(predicted.probability_NC, predicted.label_N, experiment.classes)
    return {"loss": predicted.loss, **computed}


def evaluate(
    workdir: str | Path,
    *,
    which: str = "best",
    split: str = "test",
    raw_dir: str | None = None,
    prepared_dir: str | None = None,
    data: str | None = None,
    tta: str = "none",
    num_resamples: int = evaluation_files.NUM_RESAMPLES,
    batch_size: int = 0,
) -> dict[str, Any]:
    """Evaluates a checkpoint of a work directory on one of its splits and writes the report.

    Writes `evaluation/<split>/` with `predictions_<split>.csv`, `metrics.json`, the text of a
    classification report and plots. With test-time augmentation the split's name there is
    `<split>_<tta>`, as `test_flips`.

    The metrics of "test" also say what calibrating changes. If the checkpoint has no calibration
    yet, the validation split is predicted and written first, and a temperature fitted to it, which
    is kept with the checkpoint. With test-time augmentation, whose probabilities are less
    extreme, the temperature is always one of its own, from validation predicted in the same way;
    it is in `metrics.json` alone.

    Args:
      workdir: a work directory that `train` made.
      which: "best", "latest" or a step.
      split: "train", "val" or "test".
      raw_dir, prepared_dir: in place of those of the config, where the data has moved.
      data: the prepared data set itself, so that the raw files aren't needed. An imported model
        has no other.
      tta: the views of an image to take the mean over, one of `test_time.KINDS`.
      num_resamples: of the bootstrap that gives the intervals; 0 is none.
      batch_size: in place of the config's; changes nothing but memory and speed.

    Returns:
      The metrics, as in `metrics.json`.

    Raises:
      InputError: there is no such run, checkpoint or split, or the data is not what it was.
    """
    if split not in SPLITS:
        raise InputError(f"--split={split} is none of {', '.join(SPLITS)}")
    test_time.check(tta)
    for name, value in (("batch_size", batch_size), ("num_resamples", num_resamples)):
        if value < 0:
            raise InputError(f"--{name}={value} is negative; give 0 or more")
    moved = {"raw_dir": raw_dir, "prepared_dir": prepared_dir, "directory": data}
    run = _open(Path(workdir), which, moved, batch_size, tta, num_resamples)
    own = None
    if split != "val":  # to which it was fitted
        own = _calibration(run, fit=split == "test")
    return run.write(split, run.predict(split), own)


def is_own_data(workdir: str | Path, which: str, data: str | Path) -> bool:
    """Says whether a folder is the prepared data set that a checkpoint was trained on.

    An imported model has none; its own is every prepared data set of its classes.

    Raises:
      InputError: there is no such run or checkpoint, or the folder holds several data sets.
    """
    checkpointer, _ = checkpoint.open_run(Path(workdir))
    with contextlib.closing(checkpointer):
        about = checkpointer.describe(checkpointer.choose(which))
    # As `open_prepared` looks for it; published files have none.
    if not any(any(Path(data).glob("*/" * depth + MANIFEST)) for depth in range(4)):
        return False
    prepared = open_prepared(Path(data))
    if about.fingerprint:
        return prepared.fingerprint == about.fingerprint
    return prepared.classes == about.classes


@dataclass(frozen=True)
class _Run:
    """A checkpoint and its data, ready to predict."""

    workdir: Path
    step: int
    checkpoint: str
    experiment: Experiment
    prepared: builder.PreparedDataset
    variables: Any
    eval_step: Callable[..., Any]
    tta: str
    num_resamples: int

    def predict(self, split: str) -> SplitPredictions:
        """Predicts a split; raises NonFiniteLossError where a prediction is not finite."""
        source = self.prepared.source(
            (split,), cached=self.experiment.config.data.cache, encoder=self.experiment.encoder
        )
        predicted = predict_split(self.experiment, self.eval_step, self.variables, source)
        _check_finite(predicted)
        return predicted

    def write(
        self, split: str, predicted: SplitPredictions, own: Calibration | None
    ) -> dict[str, Any]:
        """Writes the folder of a split on the first process; returns the metrics on all."""
        if not parallel.is_main_process():
            return split_metrics(self.experiment, predicted)
        config = self.experiment.config
        name, note = split, ""
        if self.tta != "none":
            name = f"{split}_{self.tta}"
            note = f"mean over {test_time.num_views(self.tta)} views of each image ({self.tta})"
        return evaluation_files.write(
            workdir_lib.evaluation_dir(self.workdir, name),
            name,
            self.prepared.table(split),
            predicted.probability_NC,
            self.prepared.classes,
            title=f"{config.model.name} on {config.data.dataset}",
            checkpoint=self.checkpoint,
            split_counts=self.prepared.counts,
            calibration=own,
            loss=predicted.loss,
            num_resamples=self.num_resamples,
            extra={
                "step": self.step,
                "digest": fitted.digest(self.workdir, self.step),
                "test_time_augmentation": self.tta,
            },
            note=note,
        )


def _open(
    workdir: Path,
    which: str,
    moved: dict[str, str | None],
    batch_size: int,
    tta: str,
    num_resamples: int,
) -> _Run:
    """Reads the checkpoint and opens its data; `moved` has fields of `config.data` or None."""
    checkpointer, config = checkpoint.open_run(workdir)
    with contextlib.closing(checkpointer):
        # Evaluating is one process on whatever devices there are, however the run was trained.
        config.parallel.update(distributed=False, num_devices=0)
        step = checkpointer.choose(which)
        about = checkpointer.describe(step)
        config, prepared = run_data.open_data(
            config, about.classes, about.fingerprint, workdir, moved
        )
        config.evaluate.batch_size = batch_size or config.evaluate.batch_size
        encoder = Encoder.from_json(about.metadata) if about.metadata else None
        counts_C = np.array(prepared.counts["train"])
        experiment = Experiment.create(config, about.classes, counts_C, encoder)
        return _Run(
            workdir=workdir,
            step=step,
            checkpoint=f"{which}: step {step}, epoch {about.epoch:g}",
            experiment=experiment,
            prepared=prepared,
            variables=experiment.mapper.replicate(checkpointer.restore_variables(step)),
            eval_step=experiment.eval_step(tta),
            tta=tta,
            num_resamples=num_resamples,
        )


def _calibration(run: _Run, *, fit: bool) -> Calibration | None:
    """The calibration of what the run predicts; where there is none, `fit` makes it."""
    classes, kept = run.prepared.classes, run.tta == "none"
    found = calibration.load(run.workdir, run.step, classes) if kept else None
    if found is not None or not fit or not sum(run.prepared.counts["val"]):
        return found
    predicted = run.predict("val")
    run.write("val", predicted, None)
    found = calibration.fit(predicted.probability_NC, predicted.label_N)
    num_examples = len(predicted.label_N)
    logging.info("temperature %.4g, fitted to %d images", found.temperature, num_examples)
    if kept and parallel.is_main_process():
        calibration.save(run.workdir, run.step, found, classes, num_examples)
    return found


def _check_finite(predicted: SplitPredictions) -> None:
    whole_N = np.isfinite(predicted.probability_NC).all(axis=1)
    if not whole_N.all():
        raise NonFiniteLossError(
            f"{np.sum(~whole_N)} of {len(whole_N)} predictions are not finite; try "
            "config.model.dtype=float32, or a smaller config.optimizer.learning_rate in training"
        )
