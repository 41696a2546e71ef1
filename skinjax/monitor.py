"""What validation decides in a phase: when the learning rate falls, and when the phase ends."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from ml_collections import ConfigDict

from skinjax import metrics
from skinjax.errors import InputError


@dataclass(frozen=True)
class Monitor:
    """What a phase's evaluations have shown so far; JSON can hold its fields.

    Attributes:
      best: the best value of the metric of early stopping; None before the first evaluation.
      waited: evaluations since then.
      plateau: the state of optax's `reduce_on_plateau`; None before the first evaluation.
    """

    best: float | None = None
    waited: int = 0
    plateau: dict[str, float] | None = None

    @property
    def learning_rate_scale(self) -> float:
        """What the schedule's learning rate is multiplied by."""
        return self.plateau["scale"] if self.plateau else 1.0

    def is_exhausted(self, config: ConfigDict) -> bool:
        """Says whether early stopping ends the phase."""
        return 0 < config.early_stopping.patience <= self.waited


def check(config: ConfigDict) -> None:
    """Checks `config.plateau` and `config.early_stopping`.

    Raises:
      InputError: naming the field.
    """
    for section in ("plateau", "early_stopping"):
        if config[section].metric:
            metrics.direction(config[section].metric)
    if not 0 < config.plateau.factor < 1:
        raise InputError(
            f"config.plateau.factor is {config.plateau.factor}; expected 0 < factor < 1, by which "
            "the learning rate is multiplied"
        )
    stopping = config.early_stopping
    if stopping.restore_best and stopping.metric not in ("", config.checkpoint.metric):
        raise InputError(
            f"config.early_stopping.restore_best takes the best by checkpoint.metric, which is "
            f"{config.checkpoint.metric}, and early_stopping.metric is {stopping.metric}: set both "
            "to the same"
        )
    if config.plateau.min_factor >= 1:
        raise InputError(f"config.plateau.min_factor is {config.plateau.min_factor}; expected < 1")


def update(monitor: Monitor, config: ConfigDict, values: Mapping[str, float | None]) -> Monitor:
    """Takes the metrics of one evaluation.

    Args:
      monitor: before it.
      config: the whole config.
      values: validation metrics by the names of `metrics.DIRECTIONS`. A metric that is None (it is
        not defined on this validation split) decides nothing.
    """
    best, waited, plateau = monitor.best, monitor.waited, monitor.plateau
    loss = _as_loss(config.early_stopping, config, values)
    if loss is not None:
        if best is None or loss < best - config.early_stopping.min_delta:
            best, waited = loss, 0
        else:
            waited += 1
    loss = _as_loss(config.plateau, config, values)
    if loss is not None and config.plateau.patience:
        plateau = _reduce(config.plateau, plateau, loss)
        if plateau["scale"] < monitor.learning_rate_scale:
            logging.info(
                "no improvement in %d evaluations: the learning rate is now %g of its schedule",
                config.plateau.patience, plateau["scale"],
            )  # fmt: skip
    return Monitor(best, waited, plateau)


def _as_loss(
    settings: ConfigDict, config: ConfigDict, values: Mapping[str, float | None]
) -> float | None:
    """The value of the section's metric, with its sign changed where larger is better."""
    name = settings.metric or config.checkpoint.metric
    value = values[name]
    if value is None:
        logging.warning("%s is not defined on this validation split, so it decides nothing", name)
        return None
    return -value if metrics.direction(name) == "max" else value


def _reduce(settings: ConfigDict, fields: dict[str, float] | None, loss: float) -> dict[str, float]:
    initial, update = _reduction(
        settings.factor, settings.patience, settings.min_delta, settings.min_factor
    )
    state = initial
    if fields is not None:
        like = initial._asdict()
        state = type(initial)(**{k: np.asarray(v, like[k].dtype) for k, v in fields.items()})
    return {name: value.item() for name, value in update(state, np.float32(loss))._asdict().items()}


# optax makes functions of its own at each call, which JAX would compile anew at each evaluation.
@functools.lru_cache(maxsize=8)
def _reduction(
    factor: float, patience: int, min_delta: float, min_factor: float
) -> tuple[Any, Callable[..., Any]]:
    """The initial state of optax's `reduce_on_plateau`, and its compiled update."""
    transformation = optax.contrib.reduce_on_plateau(
        factor=factor,
        patience=patience,
        rtol=0.0,  # it is relative to the best value, whose sign may be either
        atol=max(min_delta, 1e-12),  # optax wants one that is not 0
        min_scale=min_factor,
    )

    def update(state: Any, loss: jax.Array) -> Any:
        return transformation.update(jnp.float32(0), state, value=loss)[1]

    return jax.device_get(transformation.init(jnp.float32(0))), jax.jit(update)
