"""A search for hyper-parameters: trials one after another, each a training run of its own."""

import gc
import math
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import optuna
from absl import logging
from ml_collections import ConfigDict
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy import URL

from skinjax import config as config_lib
from skinjax import train as train_lib
from skinjax import workdir as workdir_lib
from skinjax.errors import InputError, NonFiniteLossError, StoppedError
from skinjax.tune import report, search_space
from skinjax.tune.search_space import SearchSpace
from skinjax.tune.study import PRUNERS, SAMPLERS, Study, clear_errors
from skinjax.tune.workers import Worker

_TRIALS = 20
_FAILURES = 3  # so many at the start, with nothing but them, end the search


def tune(
    config: ConfigDict,
    space: SearchSpace,
    workdir: str | Path,
    *,
    sampler: str = "tpe",
    pruner: str = "median",
    trials: int | None = None,
    seed: int = 0,
    keep: int = 1,
    storage: str = "",
    name: str = "",
) -> list[str]:
    """Searches for the values that are best on validation, or goes on with an earlier search.

    Several processes may run it at the same time with the same arguments; they share the trials.

    Args:
      config: into which what is drawn is put; `checkpoint.metric` is what is optimised.
      space: the fields that are searched.
      workdir: made if missing; seen by all workers.
      sampler: "grid", "random" or "tpe" (Bergstra et al., NeurIPS 2011, as Optuna has it).
      pruner: "none", "median" or "hyperband": which trials end early.
      trials: how many there are to be, over all workers and starts; None is all points of a grid,
        which are the most that it has, and 20 for the other samplers.
      seed: of the sampler.
      keep: so many of the best trials keep their checkpoints; all keep their logs.
      storage: an SQLAlchemy address; empty is a SQLite file in `workdir`.
      name: of the study in the storage; empty is the name of `workdir`, with a storage elsewhere.

    Returns:
      Lines that say what came out.

    Raises:
      InputError: arguments, config or space are not right, or every trial fails.
      StoppedError: SIGTERM or SIGINT came; the trial is saved, and waits to go on.
    """
    workdir = Path(workdir)
    _check(config, workdir, sampler=sampler, pruner=pruner, trials=trials, seed=seed, keep=keep)
    search_space.check(space, config)
    points = len(search_space.grid(space)) if sampler == "grid" else 0
    # A folder with a database of its own may be renamed.
    name = name or (workdir.resolve().name if storage else "search")
    if not storage:
        path = str(workdir.resolve() / "study.db")  # whatever signs it has
        storage = URL.create("sqlite", database=path).render_as_string()
    with clear_errors(storage), Worker(workdir / "workers") as worker:
        study = Study(
            worker,
            config,
            space,
            sampler=sampler,
            pruner=pruner,
            seed=seed,
            total=trials or points or _TRIALS,
            storage=storage,
            name=name,
        )
        try:
            while (trial := study.next_trial()) is not None:
                _run(study, trial, trial_dir(workdir, trial.number))
                with worker.alone():
                    _remove_checkpoints(study, workdir, keep)
                _check_failures(study)
            _check_outcome(study)
        except (StoppedError, InputError):
            report.write(study, workdir)
            raise
        return report.write(study, workdir)


def trial_dir(workdir: Path, number: int) -> Path:
    """The work directory of a trial."""
    return workdir / "trials" / f"{number:04d}"


def _check(config: ConfigDict, workdir: Path, **arguments: Any) -> None:
    for name, choices in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        if arguments[name] not in choices:
            raise InputError(
                f"--{name}={arguments[name]} is none of {', '.join(choices)}"
                f"{config_lib.nearest(arguments[name], choices)}"
            )
    for name, least in (("trials", 1), ("seed", 0), ("keep", 0)):
        if arguments[name] is not None and arguments[name] < least:
            raise InputError(f"--{name}={arguments[name]}; it must be at least {least}")
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir={workdir} is a file; give a folder, it is made if missing")
    if workdir_lib.config_path(workdir).exists():
        raise InputError(
            f"--workdir={workdir} is of a training run; a search needs a folder of its own"
        )
    config_lib.check(config)
    if config.data.train_on == "all":
        raise InputError("data.train_on is 'all', which leaves nothing to choose by: set 'train'")
    if config.data.folds > 1 and config.data.fold < 0:
        raise InputError("data.folds is set: choose the one to search on, --config.data.fold=0")
    if config.parallel.distributed:
        raise InputError(
            "parallel.distributed: a trial runs in one process; start the same command several "
            "times, and its workers share the trials"
        )


def _run(study: Study, trial: optuna.Trial, directory: Path) -> None:
    """Trains one trial and tells the study how it ended."""
    number = trial.number
    values = ", ".join(f"{name} {_short(value)}" for name, value in trial.params.items())
    logging.info("trial %d of %d: %s", number, study.total, values)
    before, began = trial.user_attrs.get("seconds", 0.0), time.monotonic()
    try:
        try:
            with study.alive(number):
                value = _train(study, trial, directory)
        finally:
            study.note(number, seconds=round(before + time.monotonic() - began, 1))
    except optuna.TrialPruned as reason:
        study.optuna.tell(trial, state=TrialState.PRUNED)
        logging.info("trial %d pruned: %s", number, reason)
    except (StoppedError, OSError, KeyboardInterrupt, StorageInternalError):
        study.put_back(number)  # its values are not to blame
        raise
    except NonFiniteLossError as error:  # told as pruned, for TPE to learn from
        study.note(number, error=str(error))
        study.optuna.tell(trial, state=TrialState.PRUNED)
        logging.warning("trial %d pruned: %s", number, error)
    except Exception as error:  # whatever a network makes of the values, or a GPU's memory
        line = " ".join(str(error).split())[:300] or type(error).__name__
        line = line if isinstance(error, InputError) else f"{type(error).__name__}: {line}"
        study.note(number, error=line)
        study.optuna.tell(trial, state=TrialState.FAIL)
        logging.warning("trial %d failed: %s", number, line)
    else:
        study.optuna.tell(trial, value)
        best = study.best_first()[0]
        logging.info(
            "trial %d: %s %.4f; best is %.4f of trial %d",
            number, study.metric, value, best.value, best.number,
        )  # fmt: skip
    finally:
        jax.clear_caches()  # the next trial compiles its own, and memory is not endless
        gc.collect()


def _train(study: Study, trial: optuna.Trial, directory: Path) -> float:
    """Returns the best validation value of a trial's evaluations."""
    steps: list[int] = list(trial.user_attrs.get("steps", []))

    def on_evaluation(step: int, values: dict[str, float]) -> None:
        value = values.get(study.metric)
        if value is None or step in steps:  # a resumed trial repeats what was not saved
            return
        steps.append(step)
        trial.set_user_attr("steps", steps)
        # Evaluations are compared by their count, since batches of other sizes make other steps.
        trial.report(value, len(steps))
        if trial.should_prune():
            raise optuna.TrialPruned(f"{study.metric} {value:.4f} at evaluation {len(steps)}")

    best = train_lib.train(study.drawn(trial), directory, on_evaluation=on_evaluation)
    value = best["metrics"].get(study.metric)
    if value is None or not math.isfinite(value):
        raise InputError(f"validation gave no {study.metric}; choose another checkpoint.metric")
    trial.set_user_attr("step", best["step"])
    trial.set_user_attr("epoch", best["epoch"])
    return float(value)


def _check_failures(study: Study) -> None:
    """Stops a search in which nothing but errors came out so far."""
    ended = study.trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    errors = [trial.user_attrs["error"] for trial in ended if "error" in trial.user_attrs]
    if _FAILURES <= len(errors) == len(ended):
        raise InputError(
            f"all {len(errors)} trials so far failed, the last with: {errors[-1]}; mend the config "
            "or the search space, and search in another --workdir"
        )


def _check_outcome(study: Study) -> None:
    """Raises if the search is over and not one trial is completed."""
    trials = study.trials()
    if any(trial.state not in (TrialState.PRUNED, TrialState.FAIL) for trial in trials):
        return
    errors = [trial.user_attrs["error"] for trial in trials if "error" in trial.user_attrs]
    said = "all were pruned; choose another --pruner"
    if errors:
        said = f"the last that failed with: {errors[-1]}; mend the config or the search space"
    raise InputError(
        f"none of the {len(trials)} trials is completed, {said}, and search in another --workdir"
    )


def _remove_checkpoints(study: Study, workdir: Path, keep: int) -> None:
    """Keeps the checkpoints of the best trials, and of those that are not at their end."""
    kept = {trial.number for trial in study.best_first()[:keep]}
    for trial in study.trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
        if trial.number not in kept:
            directory = workdir_lib.checkpoint_dir(trial_dir(workdir, trial.number))
            shutil.rmtree(directory, ignore_errors=True)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
