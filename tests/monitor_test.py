"""Tests of plateau and early stopping, evaluation by evaluation."""

import json
from dataclasses import asdict

import pytest
from ml_collections import ConfigDict

from skinjax import monitor
from skinjax.errors import InputError
from skinjax.monitor import Monitor


def follow(config: ConfigDict, name: str, values: list[float | None]) -> list[Monitor]:
    """The monitor after each evaluation, passed through JSON as a checkpoint does."""
    now, after = Monitor(), []
    for value in values:
        now = monitor.update(now, config, {"balanced_accuracy": None, "loss": None, name: value})
        now = Monitor(**json.loads(json.dumps(asdict(now))))
        after.append(now)
    return after


@pytest.mark.parametrize(
    ("metric", "values"),
    [("balanced_accuracy", [0.5, 0.6, 0.6, 0.55, 0.7, 0.7]), ("loss", [3, 2, 2, 2.5, 1, 1])],
)
def test_early_stopping_counts_evaluations_without_a_gain(
    config: ConfigDict, metric: str, values: list[float | None]
) -> None:
    config.early_stopping.update(patience=2, metric=metric)
    after = follow(config, metric, values)
    assert [one.waited for one in after] == [0, 0, 1, 2, 0, 1]
    stopped = [one.is_exhausted(config) for one in after]
    assert stopped == [False, False, False, True, False, False]


def test_without_patience_nothing_stops_or_slows(config: ConfigDict) -> None:
    after = follow(config, "balanced_accuracy", [0.5] * 20)
    assert not any(one.is_exhausted(config) for one in after)
    assert {one.learning_rate_scale for one in after} == {1.0}


def test_a_gain_below_min_delta_is_none(config: ConfigDict) -> None:
    config.early_stopping.update(patience=2, min_delta=0.1)
    after = follow(config, "balanced_accuracy", [0.5, 0.55, 0.58, 0.61])
    assert [one.waited for one in after] == [0, 1, 2, 0]


@pytest.mark.parametrize("metric", ["balanced_accuracy", "loss"])
def test_the_learning_rate_falls_on_a_plateau_down_to_its_least(
    config: ConfigDict, metric: str
) -> None:
    config.plateau.update(patience=2, metric=metric, factor=0.5, min_factor=0.2)
    after = follow(config, metric, [1.0] * 8)
    scales = [one.learning_rate_scale for one in after]
    assert scales == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2])


def test_a_metric_that_is_not_defined_decides_nothing(config: ConfigDict) -> None:
    config.plateau.patience = config.early_stopping.patience = 1
    after = follow(config, "balanced_accuracy", [None, 0.5, None, None])
    assert [one.waited for one in after] == [0, 0, 0, 0]
    assert after[-1].learning_rate_scale == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("plateau.metric", "acuracy"), ("early_stopping.metric", "f1"), ("plateau.factor", 1.0),
     ("plateau.factor", 0.0), ("plateau.min_factor", 1.0)],
)  # fmt: skip
def test_wrong_settings_are_errors(config: ConfigDict, field: str, value: float | str) -> None:
    section, name = field.split(".")
    config[section][name] = value
    with pytest.raises(InputError):
        monitor.check(config)


def test_the_best_to_restore_is_by_one_metric_only(config: ConfigDict) -> None:
    config.early_stopping.update(restore_best=True, metric="loss")
    with pytest.raises(InputError, match=r"balanced_accuracy, and early_stopping\.metric is loss"):
        monitor.check(config)
    config.checkpoint.metric = "loss"
    monitor.check(config)
