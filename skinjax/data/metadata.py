"""Patient metadata as numbers: an encoder fitted on the training records, and feature dropout.

A dense branch beside the network, a missing value as an input of its own, and features that go
missing at random in training are the design of the ISIC 2019 challenge's winner (Gessert et al.
2019, arXiv:1910.03910; ngessert/isic2019, cfgs/2019/test_effb0_ss_meta.py).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from skinjax.config import nearest
from skinjax.data.sources import fields
from skinjax.errors import InputError

FEATURES = ("age", "sex", "site")

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Number:
    """A number, standardised, and a flag for a missing one.

    Attributes:
      name: of the feature.
      mean, std: of the known values among the training records.
    """

    name: str
    mean: float
    std: float

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, the flag last."""
        return self.name, f"{self.name} missing"

    def encode(self, values: Sequence[float | None]) -> np.ndarray:
        """Float64 (N, 2): the value, 0 where it is missing, and the flag."""
        number_N = np.array([math.nan if value is None else value for value in values], float)
        known_N = np.isfinite(number_N)
        value_N = np.where(known_N, (number_N - self.mean) / self.std, 0.0)
        return np.stack([value_N, ~known_N], axis=1)


@dataclass(frozen=True)
class Category:
    """A column for each value that training has, and a flag for any other and none.

    Attributes:
      name: of the feature.
      values: of the training records, in lower case and sorted.
    """

    name: str
    values: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, the flag last."""
        return *(f"{self.name} {value}" for value in self.values), f"{self.name} missing"

    def encode(self, values: Sequence[str]) -> np.ndarray:
        """Float64 (N, C + 1): one-hot; the last column is 1 for an unseen value and for none."""
        place = {value: number for number, value in enumerate(self.values)}
        place_N = [place.get(_text(value), len(place)) for value in values]
        return np.eye(len(place) + 1)[place_N]


@dataclass(frozen=True)
class Encoder:
    """Turns what is known of a patient into numbers; fitted on training records, and kept.

    Attributes:
      features: in the order of the config.
    """

    features: tuple[Number | Category, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each of the M columns."""
        return tuple(name for feature in self.features for name in feature.columns)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Columns of each feature, its missing flag last; they add up to M."""
        return tuple(len(feature.columns) for feature in self.features)

    def encode(self, rows: Rows) -> np.ndarray:
        """Rows with age (years or None), sex and site, as `PreparedDataset.table`'s, to float32.

        Returns:
          (N, M): a missing value is 0 in its feature's columns and 1 in its flag; so is a sex or
          site that training didn't have.
        """
        parts = [feature.encode([row[feature.name] for row in rows]) for feature in self.features]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def to_json(self) -> str:
        """The encoder as text, which `from_json` reads back."""
        return json.dumps([asdict(feature) for feature in self.features])

    @classmethod
    def from_json(cls, text: str) -> "Encoder":
        """Reads what `to_json` wrote.

        Raises:
          InputError: it is anything else.
        """
        try:
            return cls(tuple(map(_feature, json.loads(text))))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"the checkpoint's encoder of patient metadata can't be read ({error}); "
                "choose another checkpoint, or train anew"
            ) from None


def check(settings: ConfigDict) -> None:
    """Checks `config.metadata`.

    Raises:
      InputError: a feature is unknown, named twice or gives the label away; a width or a
        probability is out of range.
    """
    if isinstance(settings.features, str):
        raise InputError(f"metadata.features is {settings.features!r}; write ('age', 'sex')")
    for name in settings.features:
        if name == "dx_type":
            raise InputError(
                "metadata.features has 'dx_type', which gives the label away: how a diagnosis was "
                "made follows from it (in HAM10000 follow_up is always nv); leave it out"
            )
        if name not in FEATURES:
            raise InputError(
                f"metadata.features has {name!r}; expected some of {', '.join(FEATURES)}"
                f"{nearest(str(name), FEATURES)}"
            )
    if len(set(settings.features)) != len(settings.features):
        raise InputError(f"metadata.features is {tuple(settings.features)}; name each once")
    if settings.width < 1:
        raise InputError(f"metadata.width is {settings.width}; expected at least 1 (64 by default)")
    if not 0 <= settings.dropout < 1:
        raise InputError(
            f"metadata.dropout is {settings.dropout}; expected a probability of 0 or more, below 1"
        )


def fit(settings: ConfigDict, rows: Rows) -> Encoder | None:
    """The encoder of `config.metadata`, or None where it names no feature.

    Args:
      settings: `config.metadata`.
      rows: of the training records, and of no others: with age, sex and site.

    Raises:
      InputError: as `check`, or a feature is missing in every row.
    """
    check(settings)
    if not settings.features:
        return None
    return Encoder(tuple(_fit(name, [row[name] for row in rows]) for name in settings.features))


def drop_features(
    metadata_BM: jax.Array, key_B: jax.Array, *, sizes: Sequence[int], rate: float
) -> jax.Array:
    """Makes each feature of each example missing with probability `rate`, as `Encoder.encode` does.

    Args:
      metadata_BM: float32 (B, M).
      key_B: (B,) keys; an example's result depends on its own row and key alone.
      sizes: columns of each feature, `Encoder.sizes`.
      rate: in [0, 1).

    Returns:
      (B, M): all columns of a dropped feature are 0 but its flag, the last, which is 1.
    """
    feature_M = np.repeat(np.arange(len(sizes)), sizes)
    missing_M = np.zeros(len(feature_M), np.float32)
    missing_M[np.cumsum(sizes) - 1] = 1
    draw_BF = jax.vmap(lambda key: jax.random.uniform(key, (len(sizes),)))(key_B)
    return jnp.where((draw_BF < rate)[:, feature_M], missing_M, metadata_BM)


def _fit(name: str, values: Sequence[Any]) -> Number | Category:
    if name == "age":
        known = [value for value in values if value is not None and math.isfinite(value)]
        if known:
            # One age only has no spread to divide by.
            return Number(name, float(np.mean(known)), float(np.std(known)) or 1.0)
    else:
        texts = sorted({text for value in values if (text := _text(value))})
        if texts:
            return Category(name, tuple(texts))
    raise InputError(
        f"all values of {name} are missing in the {len(values)} training records, so that nothing "
        f"can be learned from it; leave {name!r} out of metadata.features"
    )


def _text(value: str) -> str:
    """The value as it is compared, '' where it is missing."""
    return fields.known(value.strip().lower())


def _feature(values: Mapping[str, Any]) -> Number | Category:
    if "values" in values:
        return Category(values["name"], tuple(values["values"]))
    return Number(**values)
