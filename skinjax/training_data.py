"""What a run trains on and validates on, read by the host or kept on the devices."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from absl import logging

from skinjax import device_data, out_of_memory, phases
from skinjax.data import builder, pipeline
from skinjax.device_data import DeviceData
from skinjax.experiment import Experiment
from skinjax.feed import Feed


@dataclass(frozen=True)
class TrainingData:
    """The data of a run.

    Attributes:
      feed: batches of what is trained on, without end.
      val: what is validated on; None where there is none.
      phases: of the run, whose lengths depend on that of an epoch.
      steps_per_epoch: full batches in an epoch.
      on_devices: whether the decoded images stay on the devices.
    """

    feed: Feed
    val: pipeline.Source | DeviceData | None
    phases: tuple[phases.Phase, ...]
    steps_per_epoch: int
    on_devices: bool


def open_data(
    experiment: Experiment, prepared: builder.PreparedDataset, trained_on: Sequence[str]
) -> TrainingData:
    """Opens the data of a run.

    Args:
      experiment: of the run.
      prepared: its data set.
      trained_on: names of the splits that are trained on.

    Raises:
      InputError: there are too few images for a batch, or too many for the devices.
      OutOfMemoryError: while the images were copied to the devices.
    """
    config = experiment.config
    num_images = sum(sum(prepared.counts[name]) for name in {*trained_on, "val"})
    num_trained = sum(sum(prepared.counts[name]) for name in trained_on)
    steps_per_epoch = pipeline.steps_per_epoch(num_trained, config.batch_size)
    resolved = phases.resolve(config, experiment.layers, steps_per_epoch)
    on_devices = device_data.is_wanted(experiment, resolved, num_images)
    # What is decoded only once needs no cache.
    cached = config.data.cache and not on_devices
    source = prepared.source(trained_on, cached=cached, encoder=experiment.encoder)
    val: pipeline.Source | DeviceData | None = None
    if config.data.train_on == "train" and sum(prepared.counts["val"]):
        val = prepared.source(("val",), cached=cached, encoder=experiment.encoder)
        val = _on_devices(experiment, val) if on_devices else val
    elif config.data.train_on == "train":
        logging.warning("there are no validation images: nothing chooses the best checkpoint")
    if val is None and (config.plateau.patience or config.early_stopping.patience):
        logging.warning("nothing to validate on: plateau and early stopping never act")
    if on_devices:
        feed = _device_feed(experiment, _on_devices(experiment, source))
    else:
        feed = _host_feed(experiment, source, prepared.labels(trained_on))
    return TrainingData(feed, val, resolved, steps_per_epoch, on_devices)


def _on_devices(experiment: Experiment, source: pipeline.Source) -> DeviceData:
    with out_of_memory.explained(
        lambda: "the decoded images don't fit: set --config.data.on_device=off"
    ):
        return DeviceData(experiment.mapper, source, experiment.config.data.num_threads)


def _device_feed(experiment: Experiment, train: DeviceData) -> Feed:
    config = experiment.config
    batches = train.train_batches(
        batch_size=config.batch_size, seed=config.seed, balance=config.data.balance
    )
    return Feed(iter(batches), train.put)


def _host_feed(experiment: Experiment, source: pipeline.Source, label_N: np.ndarray) -> Feed:
    config = experiment.config
    dataset = pipeline.train_dataset(
        source,
        batch_size=config.batch_size,
        seed=config.seed,
        label_N=label_N,
        balance=config.data.balance,
        num_threads=config.data.num_threads,
        num_workers=config.data.num_workers,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    return Feed(iter(dataset), experiment.mapper.shard)
