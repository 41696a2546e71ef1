"""Which arrays of a training state a checkpoint holds, and how they are told to be whole."""

import hashlib
from typing import Any

import jax
import numpy as np

from skinjax.train_step import TrainState


def variables(state: TrainState) -> dict[str, Any]:
    """What evaluating and using the model needs."""
    return state.variables


def training(state: TrainState) -> dict[str, Any]:
    """What going on needs besides."""
    values = {
        "step": state.step,
        "opt_state": state.opt_state,
        "loss_scale": state.loss_scale,
        "skipped": state.skipped,
        "learning_rate_scale": state.learning_rate_scale,
    }
    if state.ema is not None:
        values["raw"] = {"params": state.params, "batch_stats": state.batch_stats}
    return values


def check_leaf(restored: Any, expected: Any) -> None:
    """Raises ValueError where an array is not of the shape and dtype that the model has."""
    if restored.shape != expected.shape or restored.dtype != expected.dtype:
        raise ValueError(
            f"it has an array of {restored.dtype}{restored.shape} where the model has "
            f"{expected.dtype}{expected.shape}"
        )


def digest(tree: Any) -> str:
    """SHA-256 of names, shapes, dtypes and bytes of a tree of arrays, in hexadecimal."""
    hashed = hashlib.sha256()
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    for path, leaf in sorted((jax.tree_util.keystr(path), leaf) for path, leaf in leaves):
        array = np.ascontiguousarray(leaf)
        hashed.update(f"{path} {array.dtype} {array.shape}\n".encode())
        hashed.update(array.reshape(-1).view(np.uint8).data)
    return hashed.hexdigest()
