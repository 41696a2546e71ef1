"""Tests of the configuration."""

import pytest

from skinjax import config as config_lib
from skinjax.errors import InputError


def test_a_config_survives_json_with_its_types() -> None:
    config = config_lib.default_config()
    config.phases = (config_lib.phase(("head",), epochs=2, learning_rate_factor=0.5),)
    config.model.head = (("dense", 8), ("relu",), ("dropout", 0.5))
    back = config_lib.from_json(config_lib.to_json(config), origin="test")
    assert back == config
    assert back.phases[0].trainable == ("head",)
    assert back.model.head == (("dense", 8), ("relu",), ("dropout", 0.5))
    assert config_lib.differences(config, back) == []


def test_an_unknown_field_is_an_error_in_code_and_in_a_file() -> None:
    config = config_lib.default_config()
    with pytest.raises(AttributeError):
        config.learning_rate = 1.0
    with pytest.raises(InputError, match=r"optimizer.learning_rat; did you mean optimizer.learni"):
        config_lib.from_json('{"optimizer": {"learning_rat": 1}}', origin="config.json")
    with pytest.raises(InputError, match=r"config.json is not JSON"):
        config_lib.from_json("{", origin="config.json")


def test_differences_name_fields_and_both_values() -> None:
    one, other = config_lib.default_config(), config_lib.default_config()
    other.optimizer.learning_rate = 0.5
    assert config_lib.differences(one, other) == ["optimizer.learning_rate: 0.001 here, 0.5 there"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data.train_on", "test", "one of train, all"),
        ("parallel.mode", "xmap", "one of pmap, shard_map"),
        ("batch_size", 0, "finite and at least 1"),
        ("optimizer.learning_rate", float("nan"), "finite and at least 0"),
        ("optimizer.warmup_fraction", 1.0, r"in \[0, 1\)"),
        ("optimizer.weight_decay", -0.1, "at least 0"),
    ],
)
def test_a_value_out_of_range_is_an_error_that_names_it(
    field: str, value: object, message: str
) -> None:
    config = config_lib.default_config()
    section, _, name = field.rpartition(".")
    setattr(config_lib.read_field(config, section) if section else config, name, value)
    with pytest.raises(InputError, match=f"config.{field} is .*{message}"):
        config_lib.check(config)


def test_a_phase_without_epochs_is_an_error() -> None:
    config = config_lib.default_config()
    config.phases = (config_lib.phase(("head",), epochs=0),)
    with pytest.raises(InputError, match=r"phases\[0\] has epochs 0, steps 0"):
        config_lib.check(config)


def test_what_is_trained_is_a_tuple_of_names() -> None:
    with pytest.raises(InputError, match=r"phase\('head', \.\.\.\): expected a tuple"):
        config_lib.phase("head", epochs=1)
    config = config_lib.default_config()
    config.trainable = (5,)
    with pytest.raises(InputError, match=r"config\.trainable is"):
        config_lib.check(config)
