"""Training: from a config and a work directory to checkpoints and logs."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from skinjax import compile_cache, evaluate, parallel, stopping
from skinjax import config as config_lib
from skinjax import experiment as experiment_lib
from skinjax import workdir as workdir_lib
from skinjax.data import builder, metadata
from skinjax.errors import InputError
from skinjax.experiment import Experiment
from skinjax.loop import Loop, OnEvaluation
from skinjax.models import pretrained


def train(
    config: ConfigDict, workdir: str | Path, on_evaluation: OnEvaluation | None = None
) -> dict[str, Any]:
    """Trains a config in a work directory, or goes on where an earlier run of it stopped.

    Args:
      config: from `config.default_config()`.
      workdir: made if missing; holds the config, logs, checkpoints and plots.
      on_evaluation: called on the main process with the step and the validation metrics after each
        evaluation; what it raises ends the run.

    Returns:
      `step`, `epoch` and validation `metrics` of the best checkpoint (of the latest, without
      metrics, where `data.train_on` leaves nothing to validate on).

    Raises:
      InputError: config, data or work directory are not right.
      OutOfMemoryError: of a device, or of the machine.
      NonFiniteLossError: the loss is not finite; the last good checkpoint stays.
      StoppedError: SIGTERM or SIGINT came; everything is saved.
      OSError: the disk is full or can't be written.
    """
    _check_fold(config)
    workdir = Path(workdir)
    config = builder.settled(config)
    config_lib.check(config)
    earlier = workdir_lib.config_path(workdir)
    if earlier.is_file() and workdir_lib.has_checkpoints(workdir):
        config = pretrained.follow(config, config_lib.load_config(earlier))
    parallel.initialize(config.parallel)
    compile_cache.enable()
    resolved = parallel.main_process_first(lambda: pretrained.resolve(config))
    was_open, config = resolved is not config, resolved
    workdir_lib.check_config(workdir, config)
    experiment_lib.check(config)
    published = None
    if config.model.pretrained and not workdir_lib.has_checkpoints(workdir):
        published = parallel.main_process_first(lambda: pretrained.find(config.model))
        if not was_open:  # else they have been compared already
            pretrained.warn_of_differences(config, published)
    prepared = parallel.main_process_first(lambda: builder.prepare(config))
    trained_on = evaluate.SPLITS if config.data.train_on == "all" else ("train",)
    counts_C = np.sum([prepared.counts[split] for split in trained_on], axis=0)
    known: Sequence[dict[str, Any]] = ()
    if config.metadata.features:
        known = prepared.table(*trained_on, columns=metadata.FEATURES)
    encoder = metadata.fit(config.metadata, known)
    experiment = Experiment.create(config, prepared.classes, counts_C, encoder)
    loop = Loop(experiment, prepared, trained_on, published, on_evaluation)
    with contextlib.ExitStack() as stack:
        parallel.on_main_process(lambda: stack.enter_context(workdir_lib.claim(workdir)))
        # Again, now that no other run can come in between.
        parallel.on_main_process(lambda: workdir_lib.check_config(workdir, config))
        stop = stack.enter_context(stopping.on_signals())
        return loop.run(workdir, stop)


def _check_fold(config: ConfigDict) -> None:
    if config.data.folds > 1 and config.data.fold == -1:
        raise InputError(
            f"data.folds is {config.data.folds} and data.fold is -1, which is all of them: set "
            "--config.data.fold to train one, or call cross_validation.cross_validate for all"
        )
