"""Tests of the search: samplers, pruning, failures, workers that share it or are killed."""

import csv
import gc
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from ml_collections import ConfigDict
from sqlalchemy.exc import SQLAlchemyError

from skinjax import checkpoint, config_file
from skinjax import config as config_lib
from skinjax import train as train_lib
from skinjax.config import default_config
from skinjax.errors import InputError, StoppedError
from skinjax.explore import drawing
from skinjax.main import main
from skinjax.tune import choice, integer, log_uniform, search, uniform
from skinjax.tune.study import clear_errors

SPACE = {
    "optimizer.learning_rate": log_uniform(1e-4, 1e-1, points=3),
    "augment.mixup_alpha": uniform(0, 0.4, points=2),
    "model.head": choice((), (("dropout", 0.5),)),
}
# Trains in no time: the value is a formula of the config, evaluated five times. A file in the work
# directory holds what a checkpoint would, so that the next start goes on from there.
FAKE = """
import math, os, time
from pathlib import Path
from skinjax import config as config_lib
from skinjax.errors import NonFiniteLossError

def train(config, workdir, on_evaluation):
    (Path(workdir) / "checkpoints").mkdir(parents=True, exist_ok=True)
    with (Path(workdir) / "starts").open("a") as starts:
        starts.write(f"{os.getpid()}\\n")
    config_lib.check(config)
    done = Path(workdir) / "checkpoints" / "done"
    if config.optimizer.momentum == 0.5:
        raise FloatingPointError("the momentum is 0.5")
    if config.optimizer.momentum == 0.4:
        raise NonFiniteLossError("the loss is not finite")
    top = 1 - abs(math.log10(config.optimizer.learning_rate) + 2) / 4
    for evaluation in range(int(done.read_text()) if done.exists() else 0, 5):
        time.sleep(PAUSE)
        on_evaluation(10 * (evaluation + 1), {"balanced_accuracy": top * (evaluation + 1) / 5})
        done.write_text(str(evaluation + 1))
    return {"step": 50, "epoch": 5.0, "metrics": {"balanced_accuracy": top}}
"""
# The real training is not even imported, which takes long.
PROGRAM = """
import sys, types
fake = types.ModuleType("skinjax.train")
exec(sys.argv.pop(1), fake.__dict__)
sys.modules["skinjax.train"] = fake
from skinjax.main import main
sys.exit(main())
"""
CONFIG = """
from skinjax.config import default_config
from skinjax.tune import choice, log_uniform

def get_config():
    return default_config()

def get_search_space():
    return {"optimizer.learning_rate": log_uniform(1e-4, 1e-1, points=6)}
"""


@pytest.fixture
def fake_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process too; without what takes longer than all else: plots, collecting garbage."""
    names: dict[str, Any] = {"PAUSE": 0.0}
    exec(compile(FAKE, "fake", "exec"), names)
    monkeypatch.setattr(train_lib, "train", names["train"])
    monkeypatch.setattr(drawing, "draw", lambda *_: None)
    monkeypatch.setattr(gc, "collect", lambda: 0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.py"
    path.write_text(CONFIG)
    return path


def start(workdir: Path, file: Path, *flags: str, pause: float) -> subprocess.Popen[str]:
    """Starts a worker, with the fake training, as a process of its own."""
    fake = f"PAUSE = {pause}\n{FAKE}"
    arguments = ["tune", f"--config={file}", f"--workdir={workdir}", *flags]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, fake, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def rows(workdir: Path) -> list[dict[str, str]]:
    with (workdir / "trials.csv").open(newline="") as table:
        return list(csv.DictReader(table))


def drawn(workdir: Path) -> list[tuple[str, ...]]:
    return [tuple(row[name] for name in SPACE) for row in rows(workdir)]


def starts(workdir: Path) -> dict[str, list[str]]:
    """The processes that worked on each trial, a name for each start."""
    found = sorted((workdir / "trials").iterdir())
    return {path.name: (path / "starts").read_text().split() for path in found}


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.usefixtures("fake_train")
def test_a_grid_is_searched_once_whatever_is_asked_for(tmp_path: Path) -> None:
    lines = search.tune(
        default_config(), SPACE, tmp_path / "a", sampler="grid", pruner="none", trials=5
    )
    assert "5 of 5 trials (5 completed)" in lines[0]
    search.tune(default_config(), SPACE, tmp_path / "a", sampler="grid", pruner="none")
    search.tune(default_config(), SPACE, tmp_path / "a", sampler="grid", pruner="none", trials=100)
    found = drawn(tmp_path / "a")
    assert len(found) == len(set(found)) == 3 * 2 * 2
    assert {one[2] for one in found} == {"()", "(('dropout', 0.5),)"}
    assert all(len(pids) == 1 for pids in starts(tmp_path / "a").values())


@pytest.mark.usefixtures("fake_train")
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_seed_repeats_a_search_also_in_parts(tmp_path: Path, sampler: str) -> None:
    def run(name: str, *trials: int, seed: int = 0) -> list[tuple[str, ...]]:
        for total in trials:
            search.tune(
                default_config(), SPACE, tmp_path / name, sampler=sampler, trials=total, seed=seed
            )
        return drawn(tmp_path / name)

    # TPE draws at random at first, and then by what came out: from the tenth on.
    total = 11 if sampler == "tpe" else 3
    once = run("once", total)
    assert len(set(once)) == total
    assert run("parts", 2, total) == once
    assert not set(run("other", 1, seed=1)) & set(once)


@pytest.mark.usefixtures("fake_train")
def test_trials_that_are_worse_than_the_median_end_early(tmp_path: Path) -> None:
    space = {"optimizer.learning_rate": choice(1e-2, 2e-2, 3e-2, 4e-2, 5e-2, 6e-2, 7e-2, 1e-4)}

    def run(pruner: str) -> list[dict[str, str]]:
        search.tune(default_config(), space, tmp_path / pruner, sampler="grid", pruner=pruner)
        return rows(tmp_path / pruner)

    median = run("median")
    # There is nothing to compare with before.
    assert [row["state"] for row in median[:5]] == ["completed"] * 5
    assert {row["evaluations"] for row in median[5:] if row["state"] == "pruned"} == {"2"}
    assert {row["state"] for row in run("none")} == {"completed"}
    assert {row["state"] for row in run("hyperband")} == {"completed", "pruned"}


@pytest.mark.usefixtures("fake_train")
def test_only_the_best_keep_their_checkpoints(tmp_path: Path) -> None:
    search.tune(default_config(), SPACE, tmp_path, sampler="random", trials=6, keep=2)
    completed = [row for row in rows(tmp_path) if row["state"] == "completed"]
    best = sorted(completed, key=lambda row: -float(row["balanced_accuracy"]))[:2]
    kept = [path.parent.name for path in tmp_path.glob("trials/*/checkpoints")]
    assert sorted(kept) == sorted(f"{int(row['trial']):04d}" for row in best)
    assert len(list(tmp_path.glob("trials/*/starts"))) == 6


@pytest.mark.usefixtures("fake_train")
def test_a_trial_that_fails_is_told_and_the_search_goes_on(tmp_path: Path) -> None:
    space = {"optimizer.momentum": choice(0.4, 0.5, 0.6)}
    search.tune(default_config(), space, tmp_path, sampler="grid")
    by_state = [(row["state"], row["error"]) for row in rows(tmp_path)]
    failed = ("failed", "FloatingPointError: the momentum is 0.5")
    diverged = ("pruned", "the loss is not finite")
    assert sorted(by_state) == [("completed", ""), failed, diverged]
    assert failed[1] in (tmp_path / "report.md").read_text()


@pytest.mark.usefixtures("fake_train")
def test_a_config_that_is_refused_is_a_failed_trial(tmp_path: Path) -> None:
    search.tune(default_config(), {"batch_size": choice(0, 32)}, tmp_path, sampler="grid")
    failed = {row["batch_size"]: row["error"] for row in rows(tmp_path)}
    assert failed["0"].startswith("config.batch_size is 0")
    assert failed["32"] == ""


@pytest.mark.usefixtures("fake_train")
def test_nothing_but_failures_end_the_search(tmp_path: Path) -> None:
    config = default_config()
    config.optimizer.momentum = 0.5
    with pytest.raises(InputError, match=r"all 3 trials so far failed, .* is 0\.5"):
        search.tune(config, SPACE, tmp_path, sampler="random")
    assert [row["state"] for row in rows(tmp_path)] == ["failed"] * 3


@pytest.mark.usefixtures("fake_train")
@pytest.mark.parametrize(
    ("momentum", "message"),
    [
        (0.5, r"none of the 2 trials is completed, the last that failed with: Fl.* is 0\.5; mend"),
        (0.4, r"none of the 2 trials is completed, .*the loss is not finite"),
    ],
)
def test_a_search_without_a_completed_trial_is_no_success(
    tmp_path: Path, momentum: float, message: str
) -> None:
    config = default_config()
    config.optimizer.momentum = momentum
    for _ in range(2):  # also where nothing is left to do
        with pytest.raises(InputError, match=message):
            search.tune(config, SPACE, tmp_path, trials=2)
    assert len(rows(tmp_path)) == 2


def test_a_search_whose_trials_were_all_pruned_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pruned(*_: object, **__: object) -> None:
        raise optuna.TrialPruned

    monkeypatch.setattr(train_lib, "train", pruned)
    with pytest.raises(InputError, match="all were pruned; choose another --pruner"):
        search.tune(default_config(), SPACE, tmp_path, trials=1)


@pytest.mark.usefixtures("fake_train")
def test_trials_that_another_worker_has_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise SystemExit(137)

    fake = train_lib.train
    monkeypatch.setattr(train_lib, "train", killed)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(socket, "gethostname", lambda: "node-17")
        with pytest.raises(SystemExit):
            search.tune(default_config(), SPACE, tmp_path, trials=2)
    monkeypatch.setattr(train_lib, "train", fake)
    lines = search.tune(default_config(), SPACE, tmp_path, trials=2)
    assert "2 of 2 trials (1 completed, 1 running)" in lines[0]
    assert re.match(
        r"trial 0 is running in worker node-17-\d+-\w+ since 20.* \(10 minutes\)$", lines[-1]
    )
    only = search.tune(default_config(), SPACE, tmp_path / "b", trials=1)
    assert "is running" not in "\n".join(only)


@pytest.mark.usefixtures("fake_train")
def test_another_search_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    config = default_config()

    def run(space: Any = SPACE, **arguments: Any) -> None:
        search.tune(config, space, tmp_path, **{"sampler": "random", "trials": 1, **arguments})

    run()
    with pytest.raises(InputError, match="--sampler: tpe here, random there"):
        run(sampler="tpe")
    with pytest.raises(InputError, match="--seed: 1 here, 0 there"):
        run(seed=1)
    with pytest.raises(InputError, match=r"augment.mixup_alpha: uniform\(0.0, 0.3\) here"):
        run({**SPACE, "augment.mixup_alpha": uniform(0, 0.3)})
    config.data.raw_dir = "elsewhere"  # another machine's
    config.optimizer.learning_rate = 0.5  # searched, so it means nothing
    run()
    config.epochs = 9
    with pytest.raises(InputError, match="epochs: 9 here, 30 there"):
        run()


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"sampler": "gird"}, "--sampler=gird is none of grid, random, tpe; did you mean grid"),
        ({}, {"pruner": "mean"}, "--pruner=mean is none of none, median, hyperband"),
        ({}, {"trials": 0}, "--trials=0; it must be at least 1"),
        ({}, {"seed": -1}, "--seed=-1"),
        ({}, {"sampler": "grid"}, "needs a number of points"),
        ({}, {"storage": "study.db"}, "--storage: the address can't be used or read"),
        ({}, {"storage": "x://me:secret@host/db"}, "--storage: x://me:***@host/db can't be used"),
        ({}, {"storage": "x://host/db?password=secret"}, "--storage: x://host/db can't be used"),
        (
            {},
            {"storage": "x://me:a@secret@host/db"},
            "--storage: the address can't be used or read",
        ),
        (
            {},
            {"storage": "x://me:a@2/secret@host/db"},
            "--storage: the address can't be used or read",
        ),
        (
            {},
            {"storage": "x://me:secret@host:abc/db"},
            "--storage: the address can't be used or read",
        ),
        ({}, {"storage": "sqlite:///x.db?timeout=secret"}, "--storage: sqlite:///x.db can't be us"),
        ({}, {"storage": "sqlite:///{x}.db?key=secret"}, "sqlite:///%7Bx%7D.db can't be used"),
        ({"data.train_on": "all"}, {}, "data.train_on is 'all'"),
        ({"data.folds": 5}, {}, "--config.data.fold=0"),
        ({"parallel.distributed": True}, {}, "a trial runs in one process"),
        ({"epochs": 0}, {}, "config.epochs is 0"),
    ],
)
def test_wrong_arguments_are_one_clear_line(
    tmp_path: Path, change: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    config = default_config()
    config.update_from_flattened_dict(change)
    with pytest.raises(InputError) as caught:
        search.tune(config, {"augment.mixup_alpha": uniform(0, 0.4)}, tmp_path, **arguments)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("x://me:hunter2@host/db", f"{'a' * 190} hunter2"),  # cut off in its middle
        ("x://me:hunter%402@host/db", "hunter@2 or hunter%402"),
        ("x://me:b@host/db?password=hunter2&sslkey=hunter3", "hunter2 and hunter3"),
        ("x://me:hunter@2@host/db", 'no host "2@host", and hunter'),
        ("x://host:54/db?password=a@hunter2", 'no host "hunter2"'),
    ],
)
def test_what_a_database_says_is_shown_without_the_password(address: str, said: str) -> None:
    with pytest.raises(InputError) as caught, clear_errors(address):
        raise SQLAlchemyError(f"{address}: {said}")
    assert "hunt" not in str(caught.value)
    assert "2@host" not in str(caught.value)


@pytest.mark.usefixtures("fake_train")
def test_the_storage_may_be_in_the_environment(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKINJAX_STORAGE", f"sqlite:///{tmp_path / 'shared.db'}")
    command = ["tune", f"--config={file}", f"--workdir={tmp_path / 'search'}", "--trials=1"]
    assert main(command) == 0
    assert (tmp_path / "shared.db").is_file()
    assert main([*command, f"--storage=sqlite:///{tmp_path / 'other.db'}"]) == 0
    assert (tmp_path / "other.db").is_file()
    assert not (tmp_path / "search" / "study.db").exists()


def test_the_database_of_a_folder_with_signs_in_its_name_is_in_it(
    tmp_path: Path, fake_train: None
) -> None:
    workdir = tmp_path / "which? {one} 50%25#@a"
    search.tune(default_config(), SPACE, workdir, trials=1)
    assert (workdir / "study.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [workdir.name]


def test_a_training_run_is_no_place_for_a_search(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="is of a training run"):
        search.tune(default_config(), SPACE, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        search.tune(default_config(), SPACE, tmp_path / "file")


@pytest.mark.usefixtures("fake_train")
def test_two_workers_share_the_trials(tmp_path: Path, file: Path) -> None:
    workdir = tmp_path / "shared"
    with start(workdir, file, "--sampler=grid", "--pruner=none", pause=0.1) as other:
        wait_for(lambda: (workdir / "trials" / "0000" / "starts").exists())
        config, space = default_config(), config_file.load_search_space(str(file), [])
        search.tune(config, space, workdir, sampler="grid", pruner="none")
        output, errors = other.communicate(timeout=60)
        assert other.returncode == 0, errors
    by_trial = starts(workdir)
    assert len(by_trial) == 6
    assert all(len(pids) == 1 for pids in by_trial.values())
    assert {pids[0] for pids in by_trial.values()} == {str(os.getpid()), str(other.pid)}
    assert "6 of 6 trials (6 completed)" in output
    assert len({row["optimizer.learning_rate"] for row in rows(workdir)}) == 6


@pytest.mark.usefixtures("fake_train")
def test_the_trial_of_a_killed_worker_goes_on(tmp_path: Path, file: Path) -> None:
    workdir = tmp_path / "killed"
    done = workdir / "trials" / "0001" / "checkpoints" / "done"
    with start(workdir, file, "--trials=3", pause=0.2) as other:
        wait_for(lambda: done.exists() and done.read_text() == "2")
        other.kill()
    space = config_file.load_search_space(str(file), [])
    lines = search.tune(default_config(), space, workdir, trials=3)
    assert "3 of 3 trials (3 completed)" in lines[0]
    me, it = str(os.getpid()), str(other.pid)
    assert list(starts(workdir).values()) == [[it], [it, me], [me]]
    # It went on behind what was saved, and nothing was counted twice.
    assert [row["evaluations"] for row in rows(workdir)] == ["5"] * 3
    assert [path.name for path in (workdir / "workers").iterdir()] == [".lock"]


@pytest.mark.usefixtures("fake_train")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError])
def test_a_trial_that_is_not_to_blame_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise kind("the disk is full, or somebody in a hurry")

    fake = train_lib.train
    monkeypatch.setattr(train_lib, "train", interrupted)
    with pytest.raises(kind):
        search.tune(default_config(), SPACE, tmp_path, trials=2)
    monkeypatch.setattr(train_lib, "train", fake)
    search.tune(default_config(), SPACE, tmp_path, trials=2)
    assert [row["state"] for row in rows(tmp_path)] == ["completed"] * 2


@pytest.mark.usefixtures("fake_train")
def test_a_trial_that_kills_every_worker_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise SystemExit(137)  # nothing catches it, as nothing would a kill

    fake = train_lib.train
    monkeypatch.setattr(train_lib, "train", killed)
    for _ in range(3):
        with pytest.raises(SystemExit):
            search.tune(default_config(), SPACE, tmp_path, trials=2)
    monkeypatch.setattr(train_lib, "train", fake)
    search.tune(default_config(), SPACE, tmp_path, trials=2)
    assert [row["state"] for row in rows(tmp_path)] == ["failed", "completed"]
    assert "3 workers died with it" in rows(tmp_path)[0]["error"]


def test_a_stopped_trial_goes_on_and_the_best_config_is_its_own(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real training, SIGTERM at its first evaluation."""
    space = {
        "optimizer.learning_rate": log_uniform(1e-4, 1e-2, points=2),
        "model.head": choice((("dense", 8), ("relu",))),
    }
    real = train_lib.train
    calls = []

    def stopped(config: ConfigDict, workdir: Path, on_evaluation: Any) -> Any:
        def and_stop(step: int, metrics: dict[str, float]) -> None:
            on_evaluation(step, metrics)
            calls.append((workdir.name, step))
            if len(calls) == 1:
                os.kill(os.getpid(), signal.SIGTERM)

        return real(config, workdir, on_evaluation=and_stop)

    monkeypatch.setattr(train_lib, "train", stopped)
    workdir = tmp_path / "search"
    with pytest.raises(StoppedError, match="the same command goes on"):
        search.tune(config, space, workdir, sampler="grid")
    assert [row["state"] for row in rows(workdir)] == ["waiting"]
    lines = search.tune(config, space, workdir, sampler="grid")
    assert "2 of 2 trials (2 completed)" in lines[0]
    # Two epochs each: the first trial's first evaluation was not repeated.
    assert [name for name, _ in calls] == ["0000", "0000", "0001", "0001"]
    for row in rows(workdir):
        history = workdir / "trials" / f"{int(row['trial']):04d}" / "history.csv"
        with history.open(newline="") as table:
            values = [float(line["val_balanced_accuracy"]) for line in csv.DictReader(table)]
        assert float(row["balanced_accuracy"]) == pytest.approx(max(values), abs=1e-6)
    best = max(rows(workdir), key=lambda row: float(row["balanced_accuracy"]))
    loaded = config_file.load(str(workdir / "best_config.py"), [])
    config.optimizer.learning_rate = float(best["optimizer.learning_rate"])
    config.model.head = (("dense", 8), ("relu",))
    assert config_lib.differences(loaded, config) == []
    assert loaded.is_locked
    kept, _ = checkpoint.open_run(workdir / "trials" / f"{int(best['trial']):04d}")
    assert len(kept.steps()) > 0


@pytest.mark.usefixtures("fake_train")
def test_a_metric_that_is_better_when_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(config: ConfigDict, workdir: Path, on_evaluation: Any) -> dict[str, Any]:
        value = abs(math.log10(config.optimizer.learning_rate) + 2)
        on_evaluation(10, {"loss": value})
        return {"step": 10, "epoch": 1.0, "metrics": {"loss": value}}

    monkeypatch.setattr(train_lib, "train", train)
    config = default_config()
    config.checkpoint.metric = "loss"
    space = {"optimizer.learning_rate": log_uniform(1e-4, 1e-1, points=4), "epochs": integer(1, 2)}
    search.tune(config, space, tmp_path, sampler="grid")
    loaded = config_file.load(str(tmp_path / "best_config.py"), [])
    assert loaded.optimizer.learning_rate == pytest.approx(1e-2)
    assert "lower is better" in (tmp_path / "report.md").read_text()
    best = optuna.load_study(
        study_name="search", storage=f"sqlite:///{tmp_path / 'study.db'}"
    ).best_value
    assert best == pytest.approx(0, abs=1e-9)
