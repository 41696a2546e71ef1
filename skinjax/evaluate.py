"""Predictions of a split, each example exactly once, and what is written about them."""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from skinjax import checkpoint, logs, metrics, out_of_memory, parallel, predictions, report
from skinjax import workdir as workdir_lib
from skinjax.data import builder, pipeline, splits
from skinjax.data.metadata import Encoder
from skinjax.data.prepared import open_prepared
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
    probability_NC = np.full((len(source), len(experiment.classes)), np.nan, np.float32)
    label_N = np.zeros(len(source), np.int32)
    numerator = denominator = 0.0
    pending = None
    advice = functools.partial(
        out_of_memory.advice_for_evaluation,
        experiment.eval_batch_size,
        experiment.mapper.num_devices,
    )
    # One batch behind, so that the host reads a result while the devices compute the next.
    with out_of_memory.explained(advice):
        for batch in itertools.chain(dataset, [None]):
            outputs = None if batch is None else step(variables, experiment.mapper.shard(batch))
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
    whole_N = np.isfinite(predicted.probability_NC).all(axis=1)
    if not whole_N.all():
        raise NonFiniteLossError(
            f"{np.sum(~whole_N)} of {len(whole_N)} predictions are not finite; try "
            "config.model.dtype=float32, or a smaller config.optimizer.learning_rate in training"
        )
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
) -> dict[str, Any]:
    """Evaluates a checkpoint of a work directory on one of its splits and writes the report.

    Writes `evaluation/<split>/` with `predictions_<split>.csv`, `metrics.json`, the text of a
    classification report and plots.

    Args:
      workdir: a work directory that `train` made.
      which: "best", "latest" or a step.
      split: "train", "val" or "test".
      raw_dir, prepared_dir: in place of those of the config, where the data has moved.
      data: the prepared data set itself, so that the raw files aren't needed. An imported model
        has no other.

    Returns:
      The metrics, as in `metrics.json`.

    Raises:
      InputError: there is no such run, checkpoint or split, or the data is not what it was.
    """
    workdir = Path(workdir)
    if split not in SPLITS:
        raise InputError(f"--split={split} is none of {', '.join(SPLITS)}")
    checkpointer, config = checkpoint.open_run(workdir)
    if config.data.train_on == "all":
        raise InputError(
            f"{workdir} was trained on every split (data.train_on=all): no split is left that "
            "could tell how good it is; train with data.train_on=train to evaluate"
        )
    if raw_dir or prepared_dir:
        config.data.directory = ""
    config.data.directory = data or config.data.directory
    config.data.raw_dir = raw_dir or config.data.raw_dir
    config.data.prepared_dir = prepared_dir or config.data.prepared_dir
    # Evaluating is one process on whatever devices there are, however the run was trained.
    config.parallel.update(distributed=False, num_devices=0)
    parallel.initialize(config.parallel)
    step = checkpointer.choose(which)
    about = checkpointer.describe(step)
    if not about.fingerprint:
        config = _with_data(config)
    prepared = _prepared_data(config, about)
    encoder = Encoder.from_json(about.metadata) if about.metadata else None
    counts_C = np.array(prepared.counts["train"])
    experiment = Experiment.create(config, about.classes, counts_C, encoder)
    variables = experiment.mapper.replicate(checkpointer.restore_variables(step))
    predicted = predict_split(
        experiment,
        experiment.eval_step(),
        variables,
        prepared.source((split,), cached=config.data.cache, encoder=encoder),
    )
    computed = {
        "split": split,
        "checkpoint": f"{which}: step {step}, epoch {about.epoch:g}",
        "split_counts": {name: list(counts) for name, counts in prepared.counts.items()},
        **split_metrics(experiment, predicted),
    }
    if parallel.is_main_process():
        directory = workdir_lib.evaluation_dir(workdir, split)
        directory.mkdir(parents=True, exist_ok=True)
        title = f"{config.model.name} on {config.data.dataset}"
        _write(directory, prepared, predicted, computed, title)
    return computed


def _with_data(config: Any) -> Any:
    """The config of an imported model, which has no data of its own, with those of `--data`."""
    if not config.data.directory:
        raise InputError(
            "the model was imported, so it has no data of its own: give --data, the folder of a "
            "prepared data set of its classes"
        )
    size = open_prepared(Path(config.data.directory)).image_size
    if size != config.data.image_size:
        raise InputError(
            f"--data={config.data.directory} has images of {size} pixels, and the model takes "
            f"{config.data.image_size}: prepare with --config.data.image_size="
            f"{config.data.image_size}"
        )
    return builder.settled(config)


def _prepared_data(config: Any, about: checkpoint.Description) -> builder.PreparedDataset:
    prepared = builder.prepare(config)
    if about.fingerprint and prepared.fingerprint != about.fingerprint:
        raise InputError(
            f"the data in {config.data.raw_dir or config.data.dataset} is not what the checkpoint "
            f"was trained on (fingerprint {prepared.fingerprint[:12]}, then "
            f"{about.fingerprint[:12]}); restore the files"
        )
    if prepared.classes != about.classes:
        raise InputError(
            f"the checkpoint's classes are {', '.join(about.classes)}, the data's "
            f"{', '.join(prepared.classes)}; evaluate it on data of its own classes"
        )
    return prepared


def _write(
    directory: Path,
    prepared: builder.PreparedDataset,
    predicted: SplitPredictions,
    computed: dict[str, Any],
    title: str,
) -> None:
    split = computed["split"]
    predictions.write_predictions(
        directory / f"predictions_{split}.csv",
        prepared.table(split),
        predicted.probability_NC,
        prepared.classes,
    )
    logs.write_json(directory / "metrics.json", computed)
    report.write_evaluation(directory, title=title)
