"""Cross-validation: a model for each fold, and the predictions that each makes of its own fold."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from skinjax import config as config_lib
from skinjax import evaluate, fold_processes, logs, out_of_fold, parallel
from skinjax import experiment as experiment_lib
from skinjax import workdir as workdir_lib
from skinjax.data import folds
from skinjax.data.prepared import PreparedDataset
from skinjax.errors import InputError
from skinjax.models import pretrained
from skinjax.train import train


def cross_validate(config: ConfigDict, workdir: str | Path) -> dict[str, Any]:
    """Trains every fold in `fold_<i>/`, and writes what they predict of their own folds.

    Each fold is a run of its own with `data.fold` set, whose best checkpoint predicts its
    validation split; the predictions of all, each image once, and their metrics are in
    `out_of_fold/`. The same call goes on where an earlier one stopped: folds that are done stay as
    they are. With `parallel.fold_per_device` each fold is a process on a device of its own, and
    this one leaves the devices alone.

    Args:
      config: with `data.folds` > 1 and `data.fold` -1.
      workdir: made if missing.

    Returns:
      The metrics over all folds, as in `out_of_fold/metrics.json`.

    Raises:
      InputError: config, data or work directory are not right.
      SkinjaxError: a fold failed; with `parallel.fold_per_device` those that ran beside it are
        trained to their ends.
      StoppedError: SIGTERM or SIGINT came; everything is saved.
    """
    workdir = Path(workdir)
    _check(config)
    apart = config.parallel.fold_per_device
    if not apart:
        parallel.initialize(config.parallel)
    # Asking which process this is would start JAX, and so take the children's GPUs.
    first: Callable[..., Any] = _at_once if apart else parallel.main_process_first
    main: Callable[..., Any] = _at_once if apart else parallel.on_main_process
    config = first(lambda: _resolved(config, workdir))
    workdir_lib.check_config(workdir, config)
    if not apart:
        experiment_lib.check(config)
    prepared_K: list[PreparedDataset] = first(lambda: folds.prepare(config))
    with contextlib.ExitStack() as stack:
        main(lambda: stack.enter_context(workdir_lib.claim(workdir)))
        # Again, now that no other run can come in between.
        main(lambda: workdir_lib.check_config(workdir, config))
        text = config_lib.to_json(config) + "\n"
        main(lambda: logs.write_text(workdir_lib.config_path(workdir), text))
        try:
            (_train_apart if apart else _train_in_turn)(config, workdir)
        except BaseException:
            # Not with `main`: the other processes may be past their failure, or have none.
            if apart or parallel.is_main_process():
                _free_if_untouched(workdir, config.data.folds)
            raise
        title = f"{config.model.name} on {config.data.dataset}"
        main(lambda: out_of_fold.write(workdir, prepared_K, title))
    path = out_of_fold.directory(workdir) / "metrics.json"
    computed: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return computed


def first_fold(config: ConfigDict) -> ConfigDict:
    """The config of fold 0, to describe what each of them does."""
    _check(config)
    return folds.of_fold(config, 0)


def train_fold(config: ConfigDict, workdir: Path, fold: int) -> None:
    """Trains a fold and evaluates its best checkpoint on its validation split, unless it is done.

    Args:
      config: of the cross-validation.
      workdir: of the cross-validation.
      fold: from 0.
    """
    if parallel.any_process(parallel.is_main_process() and out_of_fold.is_done(workdir, fold)):
        logging.info("fold %d is done", fold)
        return
    own = folds.of_fold(config, fold)
    # This process has joined the others and set up its devices.
    own.parallel.update(distributed=False, cpu_devices=0, fold_per_device=False)
    directory = out_of_fold.fold_dir(workdir, fold)
    best = train(own, directory)
    computed = evaluate.evaluate(
        directory,
        split="val",
        raw_dir=own.data.raw_dir,
        prepared_dir=own.data.prepared_dir,
        data=own.data.directory or None,
    )
    parallel.on_main_process(lambda: out_of_fold.mark_done(workdir, fold, best, computed))


def _check(config: ConfigDict) -> None:
    if not folds.are_all_wanted(config.data):
        raise InputError(
            f"data.folds is {config.data.folds} and data.fold is {config.data.fold}: expected 2 or"
            " more folds, and -1 for all of them, to cross-validate"
        )
    if config.data.train_on != "train":
        raise InputError(
            f"data.train_on is {config.data.train_on!r}, which leaves nothing that a fold could be"
            " judged by: expected 'train' in a cross-validation"
        )
    if config.data.split_file:
        raise InputError(
            f"data.folds is {config.data.folds}, and data.split_file is {config.data.split_file}:"
            " expected one of the two, since the file says where every image is"
        )
    if config.parallel.fold_per_device and config.parallel.distributed:
        raise InputError(
            "parallel.fold_per_device and parallel.distributed are both set: expected one of the"
            " two; give each machine a fold of its own with data.fold, or train the folds in turn"
        )


def _resolved(config: ConfigDict, workdir: Path) -> ConfigDict:
    """The config with all settings of the data and the published weights, for every fold."""
    own = folds.of_fold(config, 0)
    config_lib.check(own)
    earlier = workdir_lib.config_path(workdir)
    if earlier.is_file():
        own = pretrained.follow(own, config_lib.load_config(earlier))
    of_all = {"fold": -1, "directory": config.data.directory}
    return config_lib.with_fields(pretrained.resolve(own), "data", of_all)


def _train_in_turn(config: ConfigDict, workdir: Path) -> None:
    for fold in range(config.data.folds):
        logging.info("fold %d of %d folds, the first is 0", fold, config.data.folds)
        train_fold(config, workdir, fold)


def _train_apart(config: ConfigDict, workdir: Path) -> None:
    left = [fold for fold in range(config.data.folds) if not out_of_fold.is_done(workdir, fold)]
    fold_processes.run(workdir, left, fold_processes.devices(config.parallel))


def _free_if_untouched(workdir: Path, num_folds: int) -> None:
    """Leaves the work directory free for another config, where no fold got as far as training.

    The folds' logs stay, since messages name them.
    """
    if not any(out_of_fold.fold_dir(workdir, fold).exists() for fold in range(num_folds)):
        workdir_lib.config_path(workdir).unlink(missing_ok=True)


def _at_once(work: Callable[[], Any]) -> Any:
    return work()
