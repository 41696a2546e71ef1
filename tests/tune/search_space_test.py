"""Tests of search spaces: what may be written, and the configs that come out."""

from typing import Any

import pytest

from skinjax import config as config_lib
from skinjax.config import default_config, phase
from skinjax.errors import InputError
from skinjax.tune import choice, integer, log_uniform, search_space, uniform


def test_a_grid_has_every_combination_once() -> None:
    space = {
        "optimizer.learning_rate": log_uniform(1e-4, 1e-1, points=4),
        "augment.mixup_alpha": uniform(0, 0.4, points=3),
        "batch_size": integer(8, 128, log=True, points=3),
        "epochs": integer(1, 3),
        "optimizer.name": choice("adamw", "sgd"),
    }
    points = search_space.grid(space)
    assert len(points) == len({tuple(point.values()) for point in points}) == 4 * 3 * 3 * 3 * 2
    rates = sorted({point["optimizer.learning_rate"] for point in points})
    assert rates == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1])
    assert rates[0] == 1e-4  # to the bit: Optuna refuses what lies outside
    assert rates[-1] == 1e-1
    assert {point["augment.mixup_alpha"] for point in points} == {0.0, 0.2, 0.4}
    assert {point["batch_size"] for point in points} == {8, 32, 128}
    assert {point["epochs"] for point in points} == {1, 2, 3}


def test_what_is_drawn_gets_into_a_copy_of_the_config() -> None:
    config = default_config()
    config.phases = (phase(("head",), epochs=2), phase(("*",), epochs=3))
    head = (("dense", 16), ("dropout", 0.5))
    other = (phase(("head",), epochs=1),)
    space = {
        "model.head": choice((), head),
        "phases[1].epochs": integer(1, 9),
        "optimizer.weight_decay": choice(0.0, 0.1),
    }
    before = config_lib.to_json(config)
    params = {"model.head": repr(head), "phases[1].epochs": 7, "optimizer.weight_decay": 0.1}
    drawn = search_space.with_params(config, space, params)
    assert drawn.model.head == head
    assert [one.epochs for one in drawn.phases] == [2, 7]
    assert drawn.optimizer.weight_decay == 0.1
    assert config_lib.to_json(config) == before
    whole = {"phases": choice(config.phases, other)}
    label = list(whole["phases"].labels())[1]
    assert isinstance(label, str)
    assert search_space.with_params(config, whole, {"phases": label}).phases == other


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "an empty one"),
        (None, "an empty one"),
        ([1], "gave list"),
        ({"optimizer.lerning_rate": uniform(0, 1)}, "did you mean optimizer.learning_rate?"),
        ({"optimizer": choice(1, 2)}, "optimizer is no field"),
        ({"epochs": uniform(1, 5)}, "epochs can't be 1.0: the field holds int, as 30"),
        ({"optimizer.nesterov": choice(0, 1)}, "nesterov can't be 0: the field holds bool"),
        ({"epochs": choice(True, False)}, "epochs can't be True"),
        ({"seed": choice(None, 1)}, "seed can't be None"),
        ({"model.name": choice("resnet18", 3)}, "model.name can't be 3"),
        ({"phases[0].epochs": integer(1, 2)}, "phases[0].epochs is no field"),
        ({"seed": (1, 2)}, "expected uniform, log_uniform, integer or choice"),
        ({"checkpoint.metric": choice("loss", "accuracy")}, "the same in all trials"),
        ({"parallel.num_devices": integer(1, 2)}, "the same in all trials"),
    ],
)
def test_a_wrong_space_is_one_clear_line(space: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        search_space.check(space, default_config())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_right_space_passes() -> None:
    config = default_config()
    config.phases = (phase(("head",), epochs=2),)
    space = {
        "optimizer.learning_rate": choice(1, 0.1),
        "optimizer.nesterov": choice(True, False),
        "model.head": choice((), (("dropout", 0.5),)),
        "phases[0].learning_rate_factor": uniform(0.1, 1),
    }
    search_space.check(space, config)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: uniform(1, 0), "must be below"),
        (lambda: uniform(0, float("inf")), "finite"),
        (lambda: uniform(False, 1), "finite"),
        (lambda: log_uniform(0, 1), "above 0"),
        (lambda: integer(1, 2.5), "integers"),
        (lambda: uniform(0, 1, points=1), "at least 2"),
        (choice, "no values"),
        (lambda: choice(1, 2, 1.0), "equal"),
    ],
)
def test_a_wrong_dimension_is_one_clear_line(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_grid_of_a_range_needs_points() -> None:
    with pytest.raises(InputError, match=r"seed: .* as uniform\(0.0, 1.0, points=5\)"):
        search_space.grid({"seed": uniform(0, 1)})
    with pytest.raises(InputError, match=r"as log_uniform\(0.1, 1.0, points=5\)"):
        search_space.grid({"seed": log_uniform(0.1, 1)})


def test_a_dimension_reads_as_it_was_written() -> None:
    space = {
        "a": uniform(0, 1),
        "b": log_uniform(0.1, 1, points=3),
        "c": integer(1, 9, log=True),
        "d": choice("x", (("dense", 1),)),
    }
    assert list(search_space.describe(space).values()) == [
        "uniform(0.0, 1.0)",
        "log_uniform(0.1, 1.0, points=3)",
        "integer(1, 9, log=True)",
        "choice('x', (('dense', 1),))",
    ]
