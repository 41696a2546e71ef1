"""The optax transformation of a phase, its learning rate, and moments that outlive a phase."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util
from ml_collections import ConfigDict

from skinjax.layer_paths import Params, layer_of
from skinjax.phases import Phase


def schedule(settings: ConfigDict, phase: Phase) -> optax.Schedule:
    """Returns the learning rate by step within the phase: linear warm-up, then cosine decay.

    Args:
      settings: `config.optimizer`.
      phase: gives the peak and the length; start and end are factors of the peak.
    """
    warmup_steps = round(settings.warmup_fraction * phase.num_steps)
    peak = phase.learning_rate
    decay = optax.cosine_decay_schedule(
        peak, decay_steps=max(1, phase.num_steps - warmup_steps), alpha=settings.end_factor
    )
    if warmup_steps == 0:
        return decay
    warmup = optax.linear_schedule(settings.start_factor * peak, peak, warmup_steps)
    return optax.join_schedules([warmup, decay], [warmup_steps])


def learning_rates(settings: ConfigDict, phase: Phase) -> np.ndarray:
    """Returns the schedule as float32 `(phase.num_steps,)` on the host, for logs.

    A float16 step that was skipped does not count for the schedule, so the log is ahead by those.
    """
    return np.asarray(jax.vmap(schedule(settings, phase))(jnp.arange(phase.num_steps)))


def create(settings: ConfigDict, phase: Phase) -> optax.GradientTransformation:
    """Builds the phase's AdamW over the trainable parameters (`phases.split_params`).

    Adam's state is kept apart for each group of layers that were unfrozen together, since its
    bias correction counts steps: layers that join later start with a count of their own, and
    those that were trained before go on with theirs.
    """
    since = dict(zip(phase.trainable, phase.since, strict=True))

    def groups(params: Params) -> Params:
        flat = traverse_util.flatten_dict(params)
        return traverse_util.unflatten_dict({p: f"phase_{since[layer_of(p)]}" for p in flat})

    def adam() -> optax.GradientTransformation:
        return optax.scale_by_adam(b1=settings.b1, b2=settings.b2, eps=settings.eps)

    clip = optax.clip_by_global_norm(settings.clip_norm) if settings.clip_norm else optax.identity()
    return optax.chain(
        clip,
        optax.partition({f"phase_{index}": adam() for index in set(phase.since)}, groups),
        optax.add_decayed_weights(settings.weight_decay, mask=is_decayed),
        optax.scale_by_learning_rate(schedule(settings, phase)),
    )


def is_decayed(params: Params) -> Params:
    """Marks what weight decay applies to: kernels, not biases, norms, tokens or positions."""
    flat = traverse_util.flatten_dict(params)
    return traverse_util.unflatten_dict({path: path[-1] == "kernel" for path in flat})


def carry_moments(old_state: Any, new_state: Any) -> Any:
    """Copies Adam's counts and moments into a new phase's state, wherever both have them.

    Args:
      old_state: the state at the end of the phase before.
      new_state: `create(...).init(trainable)` of the new phase.

    Returns:
      The new state; what has just been unfrozen, and the schedule's count, stay as they are.
    """
    old_adam = {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(old_state[1])
    }
    adam = jax.tree_util.tree_map_with_path(
        lambda path, leaf: old_adam.get(jax.tree_util.keystr(path), leaf), new_state[1]
    )
    return (new_state[0], adam, *new_state[2:])
