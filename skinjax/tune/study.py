"""The study: an Optuna database that several workers share, and the trials in it.

A trial keeps its number, values and work directory for good. One whose worker was stopped or is
dead waits again, and the next free worker goes on with it.
"""

import contextlib
import itertools
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import numpy as np
import optuna
from absl import logging
from ml_collections import ConfigDict
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from skinjax import config as config_lib
from skinjax import metrics
from skinjax.errors import InputError
from skinjax.tune import search_space
from skinjax.tune.search_space import Choice, Dimension, SearchSpace
from skinjax.tune.workers import Worker, signs_of_life

SAMPLERS = ("grid", "random", "tpe")
PRUNERS = ("none", "median", "hyperband")
_DEATHS = 3  # so many workers may die with a trial between two of its evaluations
_BUSY = 120  # seconds that SQLite waits for another worker
# What may differ between workers and starts: paths, speed and logging.
_PER_WORKER = (
    "data.raw_dir", "data.prepared_dir", "data.directory", "data.cache", "data.num_",
    "data.on_device", "log.", "parallel.", "profile",
)  # fmt: skip


class Study:
    """A search as one of its workers sees it."""

    def __init__(
        self,
        worker: Worker,
        config: ConfigDict,
        space: SearchSpace,
        *,
        sampler: str,
        pruner: str,
        seed: int,
        total: int,
        storage: str,
        name: str,
    ) -> None:
        """Opens the study, or makes it.

        Args:
          worker: this process.
          config: into which what is drawn is put.
          space: checked against the config.
          sampler: one of `SAMPLERS`.
          pruner: one of `PRUNERS`.
          seed: of the sampler.
          total: number of trials, over all workers and starts; a grid may have fewer.
          storage: an address for SQLAlchemy.
          name: of the study in the database.

        Raises:
          InputError: the database has another search under this name.
        """
        self.config, self.space, self.metric = config, space, config.checkpoint.metric
        self.maximize = metrics.direction(self.metric) == "max"
        self.name, self.sampler, self.seed = name, sampler, seed
        points = search_space.grid(space) if sampler == "grid" else []
        # In an order that spreads a part of the grid over all of it.
        order = np.random.default_rng(seed).permutation(len(points))
        self._points = [points[index] for index in order]
        self.total = min(total, len(points)) if points else total
        self._distributions = {name: _distribution(one) for name, one in space.items()}
        self._worker = worker
        optuna.logging.disable_default_handler()  # `search` and the report tell it
        with worker.alone():
            self._storage = _open(storage)
            self.optuna = optuna.create_study(
                storage=self._storage,
                study_name=name,
                direction="maximize" if self.maximize else "minimize",
                pruner=_pruner(pruner),
                load_if_exists=True,
            )
            self._check_same()
        self._id = self._storage.get_study_id_from_name(name)

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials so far, by number: all, or those in a state."""
        return self.optuna.get_trials(states=states or None)

    def best_first(self) -> list[FrozenTrial]:
        """The completed trials, the best first; of two alike the earlier."""
        sign = -1 if self.maximize else 1
        completed = self.trials(TrialState.COMPLETE)
        return sorted(completed, key=lambda trial: (sign * (trial.value or 0.0), trial.number))

    def drawn(self, trial: FrozenTrial | optuna.Trial) -> ConfigDict:
        """The config of a trial."""
        return search_space.with_params(self.config, self.space, trial.params)

    def next_trial(self) -> optuna.Trial | None:
        """Takes up a trial that waits, or draws one; None where all are drawn and none waits."""
        with self._worker.alone():
            self._put_back_of_the_dead()
            if not self.trials(TrialState.WAITING):
                number = len(self.trials())
                if number >= self.total:
                    return None
                self._prepare_draw(number)
            trial = self.optuna.ask(self._distributions)
            self.note(trial.number, worker=self._worker.name, seen=time.time())
            return trial

    def put_back(self, number: int) -> None:
        """Lets a trial of this worker wait."""
        self._storage.set_trial_state_values(self._trial_id(number), TrialState.WAITING)

    @contextlib.contextmanager
    def alive(self, number: int) -> Iterator[None]:
        """Shows the other workers that this one is at work on a trial."""
        with signs_of_life(lambda: self.note(number, seen=time.time())):
            yield

    def _prepare_draw(self, number: int) -> None:
        """Lets a trial's values depend on seed and number, and not on which worker draws."""
        if self._points:
            self.optuna.enqueue_trial(self._points[number])
            return
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        samplers = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}
        self.optuna.sampler = samplers[self.sampler](seed=seed)

    def _put_back_of_the_dead(self) -> None:
        gone = set()
        for trial in self.trials(TrialState.RUNNING):
            attributes = trial.user_attrs
            began = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
            worker = attributes.get("worker", "")
            if not self._worker.is_gone(worker, attributes.get("seen", began)):
                continue
            gone.add(worker)
            evaluations = len(trial.intermediate_values)
            deaths = [*attributes.get("deaths", []), evaluations]
            self.note(trial.number, deaths=deaths)
            if deaths.count(evaluations) >= _DEATHS:
                error = f"{_DEATHS} workers died with it, as when memory is short"
                self.note(trial.number, error=error)
                self.optuna.tell(trial.number, state=TrialState.FAIL)
                logging.warning("trial %d failed: %s", trial.number, error)
            else:
                logging.info("trial %d was left by a worker that is gone", trial.number)
                self.put_back(trial.number)
        for worker in gone - {""}:
            self._worker.forget(worker)

    def note(self, number: int, **attributes: Any) -> None:
        """Keeps something about a trial in the database."""
        for name, value in attributes.items():
            self._storage.set_trial_user_attr(self._trial_id(number), name, value)

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)

    def _check_same(self) -> None:
        """Keeps what the search is of with a new study; compares it with that of an old one."""
        here: dict[str, Any] = {
            "config": config_lib.to_json(self.config),
            "search_space": search_space.describe(self.space),
            "sampler": self.sampler,
            "seed": self.seed,
        }
        there = self.optuna.user_attrs.get("search")
        if there is None:
            self.optuna.set_user_attr("search", here)
            return
        other = config_lib.from_json(there["config"], origin=f"study {self.name}")
        searched = tuple(self.space)
        changed = [
            line
            for line in config_lib.differences(self.config, other)
            if not line.startswith(_PER_WORKER) and line.partition(":")[0] not in searched
        ]
        changed += [
            f"{name}: {one} here, {two} there"
            for name, one, two in _pairs(here["search_space"], there["search_space"])
        ]
        changed += [
            f"--{name}: {here[name]} here, {there[name]} there"
            for name in ("sampler", "seed")
            if here[name] != there[name]
        ]
        if changed:
            raise InputError(
                f"study {self.name} is of another search ({'; '.join(changed[:3])}"
                f"{'; ...' if len(changed) > 3 else ''}); give another --workdir and --study, or "
                "the same search"
            )


def _pairs(here: dict[str, str], there: dict[str, str]) -> list[tuple[str, str, str]]:
    names = sorted(here.keys() | there.keys())
    pairs = [(name, here.get(name, "nothing"), there.get(name, "nothing")) for name in names]
    return [pair for pair in pairs if pair[1] != pair[2]]


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution(tuple(dimension.labels()))
    if dimension.is_integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _pruner(name: str) -> optuna.pruners.BasePruner:
    """The pruner of a name; its steps are a trial's evaluations, counted from 1."""
    if name == "none":
        return optuna.pruners.NopPruner()
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner()
    # Not at the first evaluation, which says little; nor before there are trials to compare with.
    return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2)


def _open(address: str) -> optuna.storages.RDBStorage:
    is_sqlite = address.startswith("sqlite")
    engine: dict[str, Any] = {"pool_pre_ping": True}  # trials outlast idle connections
    if is_sqlite:
        engine["connect_args"] = {"timeout": _BUSY}
    try:
        return optuna.storages.RDBStorage(address, engine_kwargs=engine)
    except ImportError as error:
        raise InputError(
            f"--storage: this address needs a driver ({_masked(str(error), address)})"
        ) from None
    except Exception as error:  # a driver's own, of a part of the address that it can't read
        raise _refused(address, error) from None


@contextlib.contextmanager
def clear_errors(address: str) -> Iterator[None]:
    """Turns what a database says into one line, without the address's password."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        raise _refused(address, error) from None


def _refused(address: str, error: Exception) -> InputError:
    url = _parsed(address)
    if url is None:  # a part of what it says might be a part of a password
        return InputError(
            "--storage: the address can't be used or read, and isn't shown, as it may hold a"
            " password; give dialect://user:password@host:port/database (in its parts %40 for @,"
            " %3A for :, %2F for /), or nothing for WORKDIR/study.db"
        )
    shown = url.set(query={}).render_as_string(hide_password=True)
    return InputError(f"--storage: {shown} can't be used ({_masked(str(error), address)})")


def _parsed(address: str) -> URL | None:
    """None where it isn't certain which part is the password."""
    try:
        url = make_url(address)
    except (SQLAlchemyError, ValueError):
        return None
    before, _, behind = address.partition("@")
    return None if url.password is not None and ("?" in before or "@" in behind) else url


def _masked(text: str, address: str) -> str:
    """The beginning of a text, in one line, without the address and its secrets."""
    secrets = [address]
    if url := _parsed(address):
        values = [[one] if isinstance(one, str) else one for one in url.query.values()]
        for secret in filter(None, itertools.chain([url.password], *values)):
            secrets += [secret, quote(secret), quote_plus(secret), repr(secret)[1:-1]]
    for secret in sorted(secrets, key=len, reverse=True):  # one may be a part of another
        text = text.replace(secret, "***")
    return " ".join(text.split())[:200]
