"""A backbone: named stages from the image on, and a pooling at their end."""

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from skinjax.models.layers import Mode, Settings, Stage


def global_average(x_BHWC: jax.Array) -> jax.Array:
    """Mean over height and width in float32: (B, H, W, C) to (B, C)."""
    return jnp.mean(x_BHWC, axis=(1, 2), dtype=jnp.float32)


def first_token(x_BTC: jax.Array) -> jax.Array:
    """The class token: (B, T, C) to (B, C)."""
    return x_BTC[:, 0]


def identity(x_BC: jax.Array) -> jax.Array:
    """For a last stage that has pooled already."""
    return x_BC


class Backbone(nn.Module):
    """Normalised images (B, H, W, 3) to features (B, C).

    The output of each stage is its feature map; Flax's `capture_intermediates` gives it.

    Attributes:
      modules: the stages, each with a name, called as `stage(x, mode)`.
      pool: from the last feature map to (B, C).
      last_map: the last stage whose output shows where something is, for Grad-CAM: a map
        (B, H, W, C), or tokens (B, 1 + N, C) that all reach the logits. Empty is the last stage.
    """

    preserve_adopted_names = True  # the stages', when Flax takes them over

    modules: tuple[nn.Module, ...]
    pool: Callable[[jax.Array], jax.Array] = global_average
    settings: Settings = field(default_factory=Settings)
    last_map: str = ""

    @property
    def map_stage(self) -> str:
        """The stage whose feature map Grad-CAM looks at."""
        return self.last_map or self.stages[-1]

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, from the image on."""
        return tuple(str(module.name) for module in self.modules)

    def __call__(self, image_BHWC: jax.Array, mode: Mode) -> jax.Array:
        return self.pool(self._through(self.modules, image_BHWC, mode))

    @property
    def map_stages(self) -> tuple[str, ...]:
        """The stages that may be asked of `feature_map`: those up to `map_stage`."""
        return self.stages[: self._num_to("")]

    def feature_map(self, image_BHWC: jax.Array, mode: Mode, stage: str = "") -> jax.Array:
        """The output of a stage, "" for `map_stage`: (B, H, W, C), or tokens (B, 1 + N, C)."""
        return self._through(self.modules[: self._num_to(stage)], image_BHWC, mode)

    def from_map(self, feature_map: jax.Array, mode: Mode, stage: str = "") -> jax.Array:
        """The features (B, C) that a `feature_map` of the same stage leads to."""
        return self.pool(self._through(self.modules[self._num_to(stage) :], feature_map, mode))

    def _num_to(self, stage: str) -> int:
        return self.stages.index(stage or self.map_stage) + 1

    def _through(self, modules: Sequence[nn.Module], x: jax.Array, mode: Mode) -> jax.Array:
        def apply(module: Any, x: jax.Array) -> jax.Array:
            return module(x, mode)

        x = x.astype(self.settings.dtype)
        for module in modules:
            # A `Stage` does it for each of its blocks.
            is_block = self.settings.remat and not isinstance(module, Stage)
            x = nn.remat(apply)(module, x) if is_block else apply(module, x)
        return x
