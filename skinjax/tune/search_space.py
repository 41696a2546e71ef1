"""The values that a search may draw for the fields of a config.

A config file describes them beside its `get_config`:

    def get_search_space():
        return {
            "optimizer.learning_rate": log_uniform(1e-4, 1e-1, points=4),
            "augment.mixup_alpha": uniform(0.0, 0.4, points=3),
            "model.width": integer(16, 64),
            "model.head": choice((), (("dropout", 0.5),)),
        }
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from skinjax import config as config_lib
from skinjax.errors import InputError

# What stays the same in all trials: it decides what is compared, or belongs to the process.
_FIXED = ("checkpoint.metric", "data.fold", "data.folds", "data.train_on")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; `points` of them make a grid."""

    low: float
    high: float
    log: bool
    is_integer: bool
    points: int

    def __str__(self) -> str:
        """As it is written in a config file."""
        name = "integer" if self.is_integer else "log_uniform" if self.log else "uniform"
        log = ", log=True" if self.is_integer and self.log else ""
        points = f", points={self.points}" if self.points else ""
        return f"{name}({self.low!r}, {self.high!r}{log}{points})"

    def grid(self, name: str) -> tuple[Any, ...]:
        """Returns the values of a grid, ascending.

        Raises:
          InputError: it has no number of points, or more than there are integers.
        """
        count = self.points
        if self.is_integer and (not count or count > self.high - self.low):
            return tuple(range(int(self.low), int(self.high) + 1))
        if not count:
            raise InputError(
                f"search space, {name}: a grid needs a number of points of a range of numbers, as "
                f"{str(self)[:-1]}, points=5), or choice(...); or take --sampler=random or tpe"
            )
        space = np.geomspace if self.log else np.linspace
        inner = space(self.low, self.high, count)[1:-1].tolist()
        if self.is_integer:
            inner = [round(value) for value in inner]
        # Rounding must not move the ends out of the range; integers may round to one another.
        return tuple(dict.fromkeys([self.low, *inner, self.high]))


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        """As it is written in a config file."""
        return f"choice({', '.join(repr(shown(value)) for value in self.values)})"

    def labels(self) -> dict[Any, Any]:
        """Maps what Optuna stores for each value, a plain value or a text, to the value."""
        if all(isinstance(value, bool | int | float | str) for value in self.values):
            return {value: value for value in self.values}
        return {repr(shown(value)): value for value in self.values}


Dimension = Range | Choice
SearchSpace = Mapping[str, Dimension]


def uniform(low: float, high: float, *, points: int = 0) -> Range:
    """Any number in [low, high]; in a grid, `points` evenly spaced ones."""
    return _range("uniform", low, high, points, log=False, is_integer=False)


def log_uniform(low: float, high: float, *, points: int = 0) -> Range:
    """Any number in [low, high], each factor of ten as likely as another; low above 0."""
    return _range("log_uniform", low, high, points, log=True, is_integer=False)


def integer(low: int, high: int, *, log: bool = False, points: int = 0) -> Range:
    """A whole number from low to high; a grid has them all, or `points` of them."""
    return _range("integer", low, high, points, log=log, is_integer=True)


def choice(*values: Any) -> Choice:
    """One of the values: numbers, texts, booleans, or tuples such as a `model.head`."""
    if not values:
        raise InputError("search space: choice() has no values; give at least one")
    for one, other in itertools.combinations(values, 2):
        if one == other:
            raise InputError(
                f"search space: choice(...) has {one!r} and {other!r}, which are equal"
            )
    return Choice(values)


def _range(
    name: str, low: float, high: float, points: int, *, log: bool, is_integer: bool
) -> Range:
    kinds = int if is_integer else (int, float)
    written = f"search space: {name}({low!r}, {high!r})"
    for value in (low, high):
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
            raise InputError(
                f"{written}: expected {'integers' if is_integer else 'finite numbers'}"
            )
    if not low < high:
        raise InputError(f"{written}: the first must be below the second")
    if log and low <= 0:
        raise InputError(f"{written}: on a logarithmic scale the first must be above 0")
    if isinstance(points, bool) or not isinstance(points, int) or points < 0 or points == 1:
        raise InputError(f"{written}: points is {points!r}; a grid has at least 2")
    number = int if is_integer else float
    return Range(number(low), number(high), log=log, is_integer=is_integer, points=points)


def shown(value: Any) -> Any:
    """A value in plain Python, whose repr is short."""
    if isinstance(value, ConfigDict):
        return {key: shown(value[key]) for key in value}
    return tuple(shown(item) for item in value) if isinstance(value, tuple | list) else value


def describe(space: SearchSpace) -> dict[str, str]:
    """Each field's dimension as it is written in a config file."""
    return {name: str(dimension) for name, dimension in space.items()}


def grid(space: SearchSpace) -> list[dict[str, Any]]:
    """Lists every combination of the values of a grid, as Optuna stores them.

    Raises:
      InputError: a range has no number of points.
    """
    values = [
        tuple(dimension.labels()) if isinstance(dimension, Choice) else dimension.grid(name)
        for name, dimension in space.items()
    ]
    return [dict(zip(space, point, strict=True)) for point in itertools.product(*values)]


def check(space: Any, config: ConfigDict) -> None:
    """Checks that each field of a search space exists and takes the values.

    Raises:
      InputError: naming the field and what is wrong with it.
    """
    if not isinstance(space, Mapping) or not space:
        raise InputError(
            "get_search_space() must give a dict with at least one field, as "
            '{"optimizer.learning_rate": log_uniform(1e-4, 1e-1)}; it gave '
            f"{type(space).__name__ if space else 'an empty one'}"
        )
    known = config_lib.field_names(config)
    for name, dimension in space.items():
        field = str(name).split("[")[0]
        if field not in known:
            hint = config_lib.nearest(str(name), known)
            raise InputError(f"search space: {name} is no field of the config{hint}")
        if field in _FIXED or field.startswith("parallel."):
            raise InputError(f"search space: {name} must be the same in all trials; leave it out")
        if not isinstance(dimension, Range | Choice):
            raise InputError(
                f"search space: {name} has {dimension!r}; expected uniform, log_uniform, integer "
                "or choice of skinjax.tune"
            )
        for value in _samples(dimension):
            with_value(config, name, value)


def _samples(dimension: Dimension) -> Iterator[Any]:
    if isinstance(dimension, Choice):
        yield from dimension.values
    else:
        yield from (dimension.low, dimension.high)


def with_params(config: ConfigDict, space: SearchSpace, params: Mapping[str, Any]) -> ConfigDict:
    """Returns a copy of a config with what was drawn, as Optuna stores it."""
    for name, param in params.items():
        dimension = space[name]
        value = dimension.labels()[param] if isinstance(dimension, Choice) else param
        config = with_value(config, name, value)
    return config


def with_value(config: ConfigDict, name: str, value: Any) -> ConfigDict:
    """Returns a copy of a config in which one field, as "phases[0].epochs", has another value.

    Raises:
      InputError: the field is missing, or of another type.
    """
    copy = config_lib.from_json(config_lib.to_json(config), origin="the config")
    *sections, last = name.split(".")
    holder: Any = copy
    try:
        for section in sections:
            key, _, index = section.removesuffix("]").partition("[")
            holder = holder[key][int(index)] if index else holder[key]
        before = holder[last]
    except (IndexError, KeyError, TypeError, ValueError):
        raise InputError(
            f"search space: {name} is no field of the config (phases are counted from 0)"
        ) from None
    try:
        if value is None or isinstance(value, bool) != isinstance(before, bool):
            raise TypeError
        holder[last] = value
    except TypeError:
        raise InputError(
            f"search space: {name} can't be {shown(value)!r}: the field holds "
            f"{type(before).__name__}, as {shown(before)!r}"
        ) from None
    return copy
