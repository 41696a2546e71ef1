"""The optax transformation of a phase, its learning rate, and moments that outlive a phase."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util
from ml_collections import ConfigDict

from skinjax.layer_paths import Params, layer_of, stage_of
from skinjax.phases import Phase


def schedule(settings: ConfigDict, phase: Phase) -> optax.Schedule:
    """Returns the learning rate by step within the phase: linear warm-up, then the schedule.

    Args:
      settings: `config.optimizer`.
      phase: gives the peak and the length; start and end are factors of the peak.
    """
    warmup_steps = round(settings.warmup_fraction * phase.num_steps)
    peak, num_steps = phase.learning_rate, max(1, phase.num_steps - warmup_steps)
    main = {
        "cosine": lambda: optax.cosine_decay_schedule(peak, num_steps, settings.end_factor),
        "warm_restarts": lambda: _warm_restarts(settings, phase, num_steps),
        "constant": lambda: optax.constant_schedule(peak),
    }[settings.schedule]()
    if warmup_steps == 0:
        return main
    warmup = optax.linear_schedule(settings.start_factor * peak, peak, warmup_steps)
    return optax.join_schedules([warmup, main], [warmup_steps])


def _warm_restarts(settings: ConfigDict, phase: Phase, num_steps: int) -> optax.Schedule:
    """Cosine cycles (Loshchilov and Hutter 2017, arXiv:1608.03983) that fill `num_steps`."""
    cycles: list[dict[str, Any]] = []
    length = float(settings.restart_epochs * phase.steps_per_epoch)
    while sum(cycle["decay_steps"] for cycle in cycles) < num_steps:
        cycles.append(
            {
                "init_value": phase.learning_rate,
                "peak_value": phase.learning_rate,
                "warmup_steps": 0,
                "decay_steps": max(1, round(length)),
                "end_value": phase.learning_rate * settings.end_factor,
            }
        )
        length *= settings.restart_factor
    return optax.sgdr_schedule(cycles)


def learning_rates(settings: ConfigDict, phase: Phase) -> np.ndarray:
    """Returns the schedule as float32 `(phase.num_steps,)` on the host, for logs.

    What a plateau makes of it is not in it. A float16 step that was skipped does not count for the
    schedule, so the log is ahead by those.
    """
    of_steps = jax.jit(jax.vmap(schedule(settings, phase)))  # one program, not one per operation
    return np.asarray(of_steps(jnp.arange(phase.num_steps)))


def create(
    settings: ConfigDict, phase: Phase, stages: Sequence[str]
) -> optax.GradientTransformation:
    """Builds the phase's optimizer over the trainable parameters (`phases.split_params`).

    The moments are kept apart for each group of layers that were unfrozen together, since Adam's
    bias correction counts steps: layers that join later start with a count of their own, and
    those that were trained before go on with theirs.

    Args:
      settings: `config.optimizer`.
      phase: gives what is trained, and the schedule.
      stages: of the model, from the image to the head.
    """
    since = dict(zip(phase.trainable, phase.since, strict=True))

    def groups(params: Params) -> Params:
        flat = traverse_util.flatten_dict(params)
        return traverse_util.unflatten_dict({p: f"phase_{since[layer_of(p)]}" for p in flat})

    decay = optax.add_decayed_weights(settings.weight_decay, mask=is_decayed)
    is_l2 = settings.name in ("adam", "sgd")  # as in PyTorch
    # `carry_moments` looks for the moments in the second place.
    return optax.chain(
        optax.chain(optax.identity(), *_clips(settings), *([decay] if is_l2 else [])),
        optax.partition(
            {f"phase_{index}": _moments(settings) for index in set(phase.since)}, groups
        ),
        optax.chain(
            optax.identity(),
            *([] if is_l2 else [decay]),
            *([optax.scale_by_trust_ratio()] if settings.name == "lamb" else []),
            *([_scale_by_depth(settings.layer_decay, stages)] if settings.layer_decay != 1 else []),
        ),
        optax.scale_by_learning_rate(schedule(settings, phase)),
    )


def _clips(settings: ConfigDict) -> list[optax.GradientTransformation]:
    clips = {
        "clip_value": optax.clip,
        "clip_norm": optax.clip_by_global_norm,
        "clip_adaptive": optax.adaptive_grad_clip,  # Brock et al. 2021, arXiv:2102.06171
    }
    return [clip(settings[name]) for name, clip in clips.items() if settings[name]]


def _moments(settings: ConfigDict) -> optax.GradientTransformation:
    """What the named optimizer keeps of past gradients."""
    if settings.name == "sgd":
        return optax.trace(settings.momentum, nesterov=settings.nesterov)
    if settings.name == "lion":
        return optax.scale_by_lion(b1=settings.b1, b2=settings.b2)
    return optax.scale_by_adam(b1=settings.b1, b2=settings.b2, eps=settings.eps)


def _scale_by_depth(factor: float, stages: Sequence[str]) -> optax.GradientTransformation:
    """Layer-wise learning rates: the head's whole, each stage before times `factor` once more.

    As in BEiT (Bao et al. 2021, arXiv:2106.08254), by stages of the network.
    """
    scale = {stage: factor**distance for distance, stage in enumerate(reversed(stages))}

    def scaled(updates: Params, params: Any) -> Params:
        del params
        flat = traverse_util.flatten_dict(updates)
        return traverse_util.unflatten_dict(
            {path: update * scale[stage_of(layer_of(path))] for path, update in flat.items()}
        )

    return optax.stateless(scaled)


def is_decayed(params: Params) -> Params:
    """Marks what weight decay applies to: kernels, not biases, norms, tokens or positions."""
    flat = traverse_util.flatten_dict(params)
    return traverse_util.unflatten_dict({path: path[-1] == "kernel" for path in flat})


def carry_moments(old_state: Any, new_state: Any) -> Any:
    """Copies counts and moments into a new phase's state, wherever both have them.

    Args:
      old_state: the state at the end of the phase before.
      new_state: `create(...).init(trainable)` of the new phase.

    Returns:
      The new state; what has just been unfrozen, and the schedule's count, stay as they are.
    """
    old = {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(old_state[1])
    }
    moments = jax.tree_util.tree_map_with_path(
        lambda path, leaf: old.get(jax.tree_util.keystr(path), leaf), new_state[1]
    )
    return (new_state[0], moments, *new_state[2:])
