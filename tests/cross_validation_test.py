"""Tests of cross-validation: every image predicted once, resuming, and a process for each fold."""

import contextlib
import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from skinjax import config as config_lib
from skinjax import cross_validation, out_of_fold, parallel, predictions, workdir
from skinjax.data import builder, folds
from skinjax.errors import InputError, SkinjaxError, StoppedError
from skinjax.main import main

CROSS_VALIDATE = """
import sys
from jax._src import xla_bridge
from skinjax.config import load_config
from skinjax.cross_validation import cross_validate
from skinjax.errors import StoppedError
try:
    cross_validate(load_config(sys.argv[1]), sys.argv[2])
except StoppedError as error:
    print(error, file=sys.stderr)
    sys.exit(128 + error.signum)
finally:
    assert not xla_bridge._backends, "the parent has started JAX"
"""


@pytest.fixture
def config(config: ConfigDict) -> ConfigDict:
    """One epoch of each of two folds."""
    config.data.folds = 2
    config.epochs = 1
    config.model.head = ()
    return config


def config_file(config: ConfigDict, folder: Path) -> Path:
    """The config as a user would have it."""
    (folder / "tiny.json").write_text(config_lib.to_json(config))
    file = folder / "tiny.py"
    file.write_text(
        "from skinjax.config import load_config\n"
        f"def get_config():\n    return load_config({str(folder / 'tiny.json')!r})\n"
    )
    return file


def ids_outside_test(config: ConfigDict) -> set[str]:
    prepared = folds.prepare(config)[0]
    return {row["image_id"] for split in ("train", "val") for row in prepared.table(split)}


def rows_of(directory: Path) -> list[dict[str, Any]]:
    return predictions.read_predictions(directory / "predictions_out_of_fold.csv")[0]


def test_every_image_outside_the_test_split_is_predicted_once_by_a_model_that_never_saw_it(
    config: ConfigDict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    command = ["train", f"--config={config_file(config, tmp_path)}", f"--workdir={run}"]
    assert main(command) == 0
    assert "out_of_fold/report.md" in capsys.readouterr().out
    written = rows_of(run / "out_of_fold")
    assert len(written) == len({row["image_id"] for row in written})
    assert {row["image_id"] for row in written} == ids_outside_test(config)
    for fold in range(2):
        of_fold, probability_NC, _, _ = predictions.read_predictions(
            run / f"fold_{fold}" / "evaluation" / "val" / "predictions_val.csv"
        )
        one = config_lib.load_config(run / f"fold_{fold}" / "config.json")
        assert one.data.fold == fold
        prepared = builder.prepare(one)
        assert [row["image_id"] for row in of_fold] == [
            row["image_id"] for row in prepared.table("val")
        ]
        _, all_NC, _, _ = predictions.read_predictions(
            run / "out_of_fold" / "predictions_out_of_fold.csv"
        )
        own_N = np.array([row["split"] == f"fold_{fold}" for row in written])
        np.testing.assert_array_equal(all_NC[own_N], probability_NC)

    metrics = json.loads((run / "out_of_fold" / "metrics.json").read_text())
    assert metrics["num_examples"] == len(written)
    assert "| standard deviation |" in (run / "out_of_fold" / "report.md").read_text()
    with (run / "out_of_fold" / "folds.csv").open(newline="") as file:
        table = {row["fold"]: row for row in csv.DictReader(file)}
    of_folds = [float(table[str(fold)]["accuracy"]) for fold in range(2)]
    assert float(table["mean"]["accuracy"]) == pytest.approx(np.mean(of_folds))
    assert float(table["standard_deviation"]["accuracy"]) == pytest.approx(np.std(of_folds, ddof=1))
    weighted = np.average(of_folds, weights=[int(table[str(k)]["num_examples"]) for k in range(2)])
    assert metrics["accuracy"] == pytest.approx(weighted)

    config.parallel.update(fold_per_device=True, cpu_devices=2, num_devices=0)
    apart = cross_validation.cross_validate(config, tmp_path / "apart")
    assert apart["log_loss"] == pytest.approx(metrics["log_loss"], abs=1e-5)
    assert main(["evaluate", f"--workdir={tmp_path / 'apart' / 'fold_1'}"]) == 0  # a usual run
    capsys.readouterr()
    assert main([*command, "--config.seed=1"]) == 1
    assert "is of another config (seed: 1 here, 0 there)" in capsys.readouterr().err
    with workdir.claim(run):
        assert main(command) == 1
    assert "in use by another run" in capsys.readouterr().err


def test_a_stopped_cross_validation_goes_on_with_what_is_not_done(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, trained = cross_validation.train, []

    def stop_at_second(own: ConfigDict, directory: Path) -> Any:
        trained.append(own.data.fold)
        if trained == [0, 1]:
            raise StoppedError("stopped by SIGTERM", signal.SIGTERM)
        return real(own, directory)

    monkeypatch.setattr(cross_validation, "train", stop_at_second)
    with pytest.raises(StoppedError):
        cross_validation.cross_validate(config, tmp_path / "run")
    assert not (tmp_path / "run" / "out_of_fold").exists()
    cross_validation.cross_validate(config, tmp_path / "run")
    assert trained == [0, 1, 1]
    # Another evaluation in a fold's folder is not taken for that of its best checkpoint.
    path = tmp_path / "run" / "fold_1" / "evaluation" / "val" / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "checkpoint": "latest"}))
    cross_validation.cross_validate(config, tmp_path / "run")
    assert trained == [0, 1, 1, 1]
    assert "best" in json.loads(path.read_text())["checkpoint"]


def test_folds_are_found_beside_the_prepared_fold_that_is_named(
    config: ConfigDict, tmp_path: Path
) -> None:
    prepared_K = folds.prepare(config)
    config.data.raw_dir = ""
    config.data.directory = str(prepared_K[1].directory)
    computed = cross_validation.cross_validate(config, tmp_path / "run")
    assert computed["num_examples"] == sum(sum(p.counts["val"]) for p in prepared_K)


@contextlib.contextmanager
def started(config: ConfigDict, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    (tmp_path / "cv.json").write_text(config_lib.to_json(config))
    arguments = [str(tmp_path / "cv.json"), str(tmp_path / "run")]
    with subprocess.Popen(
        [sys.executable, "-c", CROSS_VALIDATE, *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_folds_on_devices_of_their_own_save_and_stop_together(
    config: ConfigDict, tmp_path: Path
) -> None:
    config.parallel.update(fold_per_device=True, cpu_devices=2, num_devices=0)
    config.epochs = 400
    config.checkpoint.every_steps = 1
    folds.prepare(config)
    run = tmp_path / "run"
    with started(config, tmp_path) as process:
        deadline = time.monotonic() + 300
        while not all(workdir.has_checkpoints(run / f"fold_{fold}") for fold in range(2)):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "stopped by SIGINT" in errors
    for fold in range(2):
        assert "saving after this step" in (run / f"fold_{fold}.log").read_text()
        assert not out_of_fold.is_done(run, fold)


def test_the_log_of_a_fold_that_failed_early_stays_and_the_folder_is_free(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"

    def fail(config: ConfigDict, directory: Path) -> None:
        (directory / "fold_0.log").write_text("why\n")
        raise SkinjaxError("see the log")

    monkeypatch.setattr(cross_validation, "_train_in_turn", fail)
    for epochs in (1, 2):  # another config
        config.epochs = epochs
        with pytest.raises(SkinjaxError, match="see the log"):
            cross_validation.cross_validate(config, run)
        assert sorted(path.name for path in run.iterdir()) == [".lock", "fold_0.log"]

    def fail_elsewhere(config: ConfigDict, directory: Path) -> None:
        monkeypatch.setattr(parallel, "is_main_process", lambda: False)
        raise SkinjaxError("another process failed")

    monkeypatch.setattr(cross_validation, "_train_in_turn", fail_elsewhere)
    with pytest.raises(SkinjaxError):
        cross_validation.cross_validate(config, run)
    assert (run / "config.json").is_file()  # the main process may be at work on it


def test_a_config_that_no_fold_can_train_leaves_the_folder_free(
    config: ConfigDict, tmp_path: Path
) -> None:
    config.batch_size = 10_000
    with pytest.raises(InputError, match="a batch of 10000 is larger"):
        cross_validation.cross_validate(config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.folds": 1}, "expected 2 or more folds"),
        ({"data.folds": -3}, "expected 2 or more folds"),
        ({"data.fold": 1}, "-1 for all of them"),
        ({"data.folds": 10_000}, "expected no more folds than groups"),
        ({"data.train_on": "all"}, "expected 'train' in a cross-validation"),
        ({"data.split_file": "x.csv"}, "expected one of the two"),
        (
            {"parallel.fold_per_device": True, "parallel.distributed": True},
            "give each machine a fold of its own",
        ),
        ({"parallel.fold_per_device": True, "parallel.num_devices": 99}, "there are"),
        ({"model.name": "resnet19"}, "resnet18"),
    ],
)
def test_what_can_not_be_cross_validated_says_what_to_do(
    config: ConfigDict, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    config.update_from_flattened_dict(changes)
    with pytest.raises(InputError, match=message):
        cross_validation.cross_validate(config, tmp_path / "run")
    assert not [path for path in (tmp_path / "run").glob("*") if path.name != ".lock"]


def test_a_dry_run_describes_the_first_fold(
    config: ConfigDict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", f"--config={config_file(config, tmp_path)}", "--dry_run"]) == 0
    printed = capsys.readouterr().out
    assert "2 times a run like this one" in printed
    assert "--config.data.fold=0" in printed
