"""The configuration: the checks that need no data, and configs as JSON.

A config file is a Python file whose `get_config()` starts from `default_config()` and changes
what its experiment changes. The library reads `config.x` and never falls back to a default of
its own, so the resolved config that is kept with a run says everything.
"""

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from skinjax.default_config import default_config, phase
from skinjax.errors import InputError

__all__ = [
    "check",
    "default_config",
    "differences",
    "field_names",
    "from_json",
    "load_config",
    "nearest",
    "phase",
    "plain",
    "read_field",
    "to_json",
    "with_fields",
]

# What no other module checks where it uses it.
_CHOICES = {
    "data.train_on": ("train", "all"),
    "data.on_device": ("auto", "off", "on"),
    "model.frozen_batch_norm": ("running", "batch", "all"),
    "optimizer.name": ("adamw", "adam", "sgd", "lamb", "lion"),
    "optimizer.schedule": ("cosine", "warm_restarts", "constant"),
    "parallel.mode": ("pmap", "shard_map"),
}
_AT_LEAST = {
    "seed": 0,
    "epochs": 1,
    "steps": 0,
    "batch_size": 1,
    "evaluate.batch_size": 0,
    "evaluate.every_epochs": 1,
    "evaluate.every_steps": 0,
    "checkpoint.keep_best": 1,
    "checkpoint.every_steps": 0,
    "log.every_steps": 1,
    "parallel.cpu_devices": 0,
    "optimizer.learning_rate": 0,
    "optimizer.start_factor": 0,
    "optimizer.end_factor": 0,
    "optimizer.eps": 0,
    "optimizer.weight_decay": 0,
    "optimizer.clip_norm": 0,
    "optimizer.clip_value": 0,
    "optimizer.clip_adaptive": 0,
    "optimizer.accumulate": 1,
    "optimizer.layer_decay": 0,
    "optimizer.restart_epochs": 1e-3,
    "optimizer.restart_factor": 1,
    "plateau.patience": 0,
    "plateau.min_delta": 0,
    "plateau.min_factor": 0,
    "early_stopping.patience": 0,
    "early_stopping.min_delta": 0,
    "metadata.width": 1,
}


def check(config: ConfigDict) -> None:
    """Checks what the config holds by itself; `experiment.check` adds what its users check.

    Raises:
      InputError: naming the field, its value and what is allowed.
    """
    for name, choices in _CHOICES.items():
        value = read_field(config, name)
        if value not in choices:
            raise InputError(f"config.{name} is {value!r}; it must be one of {', '.join(choices)}")
    for name, least in _AT_LEAST.items():
        value = read_field(config, name)
        if not least <= value < float("inf"):  # also refuses NaN
            raise InputError(f"config.{name} is {value}; it must be finite and at least {least}")
    for name in (
        "optimizer.warmup_fraction", "optimizer.b1", "optimizer.b2", "optimizer.momentum",
        "ema.decay", "metadata.dropout",
    ):  # fmt: skip
        value = read_field(config, name)
        if not 0 <= value < 1:
            raise InputError(f"config.{name} is {value}; it must be in [0, 1)")
    if config.data.on_device == "on" and config.data.num_workers:
        raise InputError(
            f"config.data.on_device is on, where nothing is left for processes to read, and "
            f"config.data.num_workers is {config.data.num_workers}: set that to 0"
        )
    mean, std = config.normalize.mean, config.normalize.std
    unset = len(mean) == len(std) == 0
    numbers = all(isinstance(value, int | float) for value in (*mean, *std))
    if not unset and not (
        numbers and len(mean) == len(std) == 3 and np.isfinite([*mean, *std]).all() and min(std) > 0
    ):
        raise InputError(
            f"config.normalize has mean {mean} and std {std}; each must be three finite numbers, "
            "one for each of red, green and blue, and std above zero, or both empty"
        )
    if not all(isinstance(entry, str) for entry in config.trainable):
        raise InputError(
            f"config.trainable is {config.trainable}; expected stages or paths of layers, as "
            "('head', 'block7')"
        )
    for i, one in enumerate(config.phases):
        if not isinstance(one, ConfigDict) or set(one) != set(phase(("*",), epochs=1)):
            raise InputError(
                f"config.phases[{i}] is {one!r}; phases are described in the config file, with "
                "skinjax.config.phase(...)"
            )
        lengths = (one.epochs, one.steps)
        if min(lengths) < 0 or (one.epochs > 0) == (one.steps > 0) or not one.trainable:
            raise InputError(
                f"config.phases[{i}] has epochs {one.epochs}, steps {one.steps} and trains "
                f"{one.trainable}; it needs either epochs or steps, and a trainable stage"
            )


def read_field(config: ConfigDict, name: str) -> Any:
    """Returns the value of a dotted field name."""
    value: Any = config
    for part in name.split("."):
        value = value[part]
    return value


def to_json(config: ConfigDict) -> str:
    """Returns the config as JSON; tuples become lists."""
    return json.dumps(plain(config), indent=2)


def from_json(text: str, *, origin: str) -> ConfigDict:
    """Reads back what `to_json` wrote, onto the defaults.

    Raises:
      InputError: the text is not JSON, or has a field this version does not know.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{origin} is not JSON ({error}); restore it or start anew") from None
    config = default_config()
    _fill(config, values, origin)
    return config


def with_fields(config: ConfigDict, section: str, values: Mapping[str, Any]) -> ConfigDict:
    """Returns a copy in which these fields of a section have other values, as JSON wrote them.

    Raises:
      InputError: a field that this version does not know.
    """
    changed = plain(config)
    changed[section].update(values)
    return from_json(json.dumps(changed), origin=section)


def load_config(path: str | Path) -> ConfigDict:
    """Reads a config file written by `to_json`."""
    return from_json(Path(path).read_text(), origin=str(path))


def differences(one: ConfigDict, other: ConfigDict) -> list[str]:
    """Names the fields in which two configs differ, each as `name: value here, value there`."""
    flat_one, flat_other = dict(_flatten(plain(one))), dict(_flatten(plain(other)))
    names = sorted(flat_one.keys() | flat_other.keys())
    missing = dataclasses.MISSING
    return [
        f"{name}: {flat_one.get(name)!r} here, {flat_other.get(name)!r} there"
        for name in names
        if flat_one.get(name, missing) != flat_other.get(name, missing)
    ]


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean X?` for the nearest known name, or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""


def field_names(config: ConfigDict) -> list[str]:
    """Lists the dotted names of all fields."""
    return [name for name, _ in _flatten(plain(config))]


def plain(value: Any) -> Any:
    """A config as dicts and lists, which JSON can write."""
    if isinstance(value, ConfigDict):
        return {key: plain(value[key]) for key in value}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return (
        ConfigDict({k: _tuples(v) for k, v in value.items()}) if isinstance(value, dict) else value
    )


def _flatten(value: dict, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flatten(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _fill(config: ConfigDict, values: Any, origin: str, prefix: str = "") -> None:
    if not isinstance(values, dict):
        raise InputError(f"{origin} has {values!r} where {prefix or 'the config'} holds fields")
    for key, value in values.items():
        if key not in config:
            hint = nearest(prefix + key, field_names(default_config()))
            raise InputError(f"{origin} has an unknown field {prefix}{key}{hint}")
        if isinstance(config[key], ConfigDict):
            _fill(config[key], value, origin, f"{prefix}{key}.")
        else:
            try:
                config[key] = _tuples(value)
            except TypeError as error:
                raise InputError(f"{origin}, field {prefix}{key}: {error}") from None
