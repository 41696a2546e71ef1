"""The fields of a config that are left to the checkpoint, filled."""

import functools
import math

from absl import logging
from ml_collections import ConfigDict

from skinjax import config as config_lib
from skinjax import models
from skinjax.models.pretrained import normalization
from skinjax.models.pretrained.published import Published, find


def resolve(config: ConfigDict) -> ConfigDict:
    """A copy whose open fields have their values; a config with none comes back as it is.

    Open are an empty `model.variant`, empty `normalize.mean` and `normalize.std`, and a
    `data.image_size` of 0. They follow the checkpoint of `model.pretrained`; without one they are
    "timm", ImageNet's, and the network's own size. An explicit value wins, with a warning where it
    isn't the checkpoint's.

    Raises:
      InputError: the checkpoint can't be had, or is of another network than `model.name`.
    """
    if not _open_fields(config):
        return config
    if config.model.pretrained:
        published = find(config.model)
        if published.assumed:
            logging.warning("%s", published.assumed)
        warn_of_differences(config, published)
        variant, size = published.variant, published.image_size
        normal = published.normalization
    else:
        variant, size = "timm", models.image_size(config.model.name)
        normal = normalization.IMAGENET
    values: dict[str, dict[str, object]] = {
        "model": {"variant": variant},
        "normalize": {"mean": list(normal.mean), "std": list(normal.std)},
        "data": {"image_size": size},
    }
    for section in _open_fields(config):
        config = config_lib.with_fields(config, section, values[section])
    return config


def follow(config: ConfigDict, resolved: ConfigDict) -> ConfigDict:
    """A copy whose open fields have the values that they got in an earlier run of the same weights.

    So a run is resumed without asking the hub. Where `resolved` is of another network or other
    weights, the config comes back as it is.
    """
    same = ("name", "pretrained")
    if any(config.model[field] != resolved.model[field] for field in same):
        return config
    for section, fields in _open_fields(config).items():
        values = {field: resolved[section][field] for field in fields}
        config = config_lib.with_fields(config, section, values)
    return config


def warn_of_differences(config: ConfigDict, published: Published) -> None:
    """Warns where explicit fields of the config aren't those of the checkpoint."""
    if config.model.variant and config.model.variant != published.variant:
        logging.warning(
            "config.model.variant is %r, but %s has %r: the config's is used",
            config.model.variant, published.origin, published.variant,
        )  # fmt: skip
    given = tuple(config.normalize.mean), tuple(config.normalize.std)
    trained = published.normalization
    if any(given) and not _close(given, (trained.mean, trained.std)):
        logging.warning(
            "config.normalize has mean %s and std %s, but %s was trained with %s and %s (%s): the "
            "config's are used",
            *given, published.origin, trained.mean, trained.std, trained.origin,
        )  # fmt: skip
    if config.data.image_size not in (0, published.image_size):
        logging.info(
            "images of %d pixels (config.data.image_size), where %s was trained on %d",
            config.data.image_size, published.origin, published.image_size,
        )  # fmt: skip


def _close(one: tuple, other: tuple) -> bool:
    return all(
        len(values) == len(others)
        and all(map(functools.partial(math.isclose, rel_tol=1e-3, abs_tol=1e-6), values, others))
        for values, others in zip(one, other, strict=True)
    )


def _open_fields(config: ConfigDict) -> dict[str, tuple[str, ...]]:
    """The fields that are left open, by section."""
    found: dict[str, tuple[str, ...]] = {}
    if not config.model.variant:
        found["model"] = ("variant",)
    if not config.normalize.mean and not config.normalize.std:
        found["normalize"] = ("mean", "std")
    if not config.data.image_size:
        found["data"] = ("image_size",)
    return found
