"""Tests of what a run says of itself."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from skinjax.errors import NonFiniteLossError
from skinjax.run_log import RunLog


@pytest.fixture
def log(config: ConfigDict, tmp_path: Path) -> Any:
    config.log.every_steps = 2
    opened = RunLog(
        tmp_path, config, ("a", "b"), start_step=0, total_steps=8, steps_per_epoch=4, writes=True
    )
    yield opened
    opened.close()


def outputs(loss: float = 1.0, **changed: Any) -> dict[str, Any]:
    return {
        "loss": np.float32(loss),
        "grad_norm": np.float32(2.0),
        "finite": np.bool_(True),
        "loss_scale": np.float32(1.0),
        "skipped": np.int32(1),
        "probability_BC": np.array([[0.75, 0.25], [0.25, 0.75]], np.float32),
        "label_B": np.array([0, 0], np.int32),
        **changed,
    }


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_steps_at_intervals_and_epochs_with_their_metrics(log: RunLog, tmp_path: Path) -> None:
    for step in range(1, 5):
        log.step(step, 0, 0.1, outputs(loss=step))
    log.epoch(4, 0, 0.1, None)
    assert [row["step"] for row in rows(tmp_path / "steps.csv")] == ["2", "4"]
    (epoch,) = rows(tmp_path / "history.csv")
    assert float(epoch["train_loss"]) == 2.5
    assert float(epoch["train_accuracy"]) == 0.5
    assert (epoch["epoch"], epoch["train_num_examples"], epoch["val_loss"]) == ("1", "8", "")


@pytest.mark.parametrize("changed", [{"loss": np.nan}, {"grad_norm": np.float32(np.inf)}])
def test_a_loss_or_gradient_that_is_not_finite_stops(log: RunLog, changed: dict[str, Any]) -> None:
    log.step(1, 0, 0.1, outputs())
    with pytest.raises(NonFiniteLossError, match="the loss at step 2 is not finite"):
        log.step(2, 0, 0.1, outputs(**changed))


def test_an_overflow_is_counted_until_the_scale_is_used_up(log: RunLog, tmp_path: Path) -> None:
    nan = np.full((2, 2), np.nan, np.float32)
    overflow = {"finite": np.bool_(False), "grad_norm": np.float32(np.inf), "probability_BC": nan}
    log.step(1, 0, 0.1, outputs(loss=np.inf, loss_scale=np.float32(2.0), **overflow))
    log.step(2, 0, 0.1, outputs(loss=3.0))
    log.epoch(4, 0, 0.1, None)
    (row,) = rows(tmp_path / "steps.csv")
    assert row["skipped"] == "1"
    (epoch,) = rows(tmp_path / "history.csv")
    assert (float(epoch["train_loss"]), epoch["train_num_examples"]) == (3.0, "2")
    with pytest.raises(NonFiniteLossError):
        log.step(5, 0, 0.1, outputs(loss_scale=np.float32(0.5), **overflow))
