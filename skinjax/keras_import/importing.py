"""From a Keras model's file to a work directory with a checkpoint."""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from skinjax import config as config_lib
from skinjax import experiment as experiment_lib
from skinjax import logs, models, phases
from skinjax import workdir as workdir_lib
from skinjax.checkpoint import Checkpointer, Description
from skinjax.data import staging
from skinjax.errors import InputError
from skinjax.experiment import Experiment
from skinjax.keras_import import base, graph, source
from skinjax.keras_import import head as head_lib
from skinjax.layer_paths import Layers
from skinjax.models.pretrained import keras_models, matching
from skinjax.models.pretrained.keras_file import open_keras
from skinjax.models.pretrained.tensors import Tensors

# Keras's names for the arrays of a head's layer.
_LEAVES = {
    "kernel": "kernel", "scale": "gamma", "mean": "moving_mean", "var": "moving_variance",
}  # fmt: skip


def import_keras(
    source_name: str, out: str | Path, *, classes: Sequence[str] = ("benign", "malignant")
) -> dict[str, Any]:
    """Makes a work directory of a whole model that Keras saved as HDF5.

    Args:
      source_name: a path, or "hf://owner/repo[@revision]/model.h5".
      out: the work directory; new or empty.
      classes: names in the order of the outputs; a sigmoid is the probability of the second.

    Returns:
      What `imported.json` says: where the model is from, what it is, and `parameters`, their number
      with batch statistics as Keras counts them.

    Raises:
      InputError: the file is missing, damaged, or no such model; a layer can't be imported; the
        classes don't fit; or `out` holds something.
    """
    out = Path(out)
    _check_out(out)
    classes = _check_classes(classes)
    path = source.find(source_name)
    with open_keras(path) as tensors, graph.understood(path):
        experiment, variables = _convert(tensors, classes)
    config = experiment.config
    about = {
        "source": source_name if "://" in source_name else path.name,
        "sha256": _sha256(path),
        "model": config.model.name,
        "head": config_lib.plain(config.model.head),
        "classes": list(classes),
        "image_size": config.data.image_size,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables)),
    }
    staging.build_folder(out, lambda folder: _write(folder, experiment, variables, about))
    return about


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"--out={out} is a file; give a folder, it is made if missing")
    if staging.is_built(out):
        raise InputError(f"--out={out} holds files already; give an empty or a new folder")


def _check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    if not all(classes) or len(set(classes)) != len(classes):
        raise InputError(f"--classes={','.join(classes)}; expected names that are all different")
    return tuple(classes)


def _convert(tensors: Tensors, classes: tuple[str, ...]) -> tuple[Experiment, dict[str, Any]]:
    """The model in an open file as a config, its network, and the network's variables."""
    path = tensors.path
    whole = graph.read(path)
    name = keras_models.architecture(tensors)
    layers, tail = base.split(whole, name, path)
    head = head_lib.describe(tail, path)
    if head.outputs != len(classes):
        raise InputError(
            f"{path} tells {head.outputs} classes apart, and {len(classes)} are named "
            f"({', '.join(classes)}); name each output in order with --classes=A,B,..."
        )
    normal = base.normalization(layers, name, tensors)
    config = config_lib.default_config()
    config.model.update(name=name, variant="keras", head=head.layers)
    config.model.fully_connected = not name.startswith("vgg")
    config.normalize.update(mean=normal.mean, std=normal.std)
    config.data.image_size = base.image_size(whole, models.image_size(name), path)
    experiment_lib.check(config)
    experiment = Experiment.create(config, classes, np.ones(len(classes), int))
    base.check(layers, name, experiment.model.backbone.settings.norm, path)
    head_lib.check_norms(tail, experiment.model.head.settings.norm, path)
    logging.info("%s is Keras's %s; normalization: %s", path, name, normal.origin)
    return experiment, _fill(experiment.variable_shapes(), name, head, tensors)


def _fill(
    shapes: Mapping[str, Any], name: str, head: head_lib.Head, tensors: Tensors
) -> dict[str, Any]:
    """The variables, read from the file: every one of them, and nothing is left in the file.

    Raises:
      InputError: a tensor is missing or over, isn't finite, or has another shape.
    """
    renumbered = keras_models.renumbered(tensors, name)
    arrays: dict[matching.Path, np.ndarray] = {}
    for leaf in matching.leaves(shapes, "keras", models.families()[name]):
        arrays[leaf.path] = _read(leaf, renumbered)
        if leaf.tensors[0] == keras_models.BLUE_FIRST.get(name):
            arrays[leaf.path] = np.ascontiguousarray(arrays[leaf.path][:, :, ::-1])
    for leaf in _head_leaves(shapes, head):
        arrays[leaf.path] = _read(leaf, tensors)
    preprocessing = [tensor for tensor in tensors.shapes if tensor.startswith("normalization")]
    if len(arrays) + len(preprocessing) != len(tensors.shapes):
        raise InputError(
            f"{tensors.path} has {len(tensors.shapes)} tensors, and {name} with its head "
            f"{len(arrays) + len(preprocessing)}; save the model anew with model.save('model.h5')"
        )
    return matching.replaced(shapes, lambda path, _: arrays[path])


def _head_leaves(shapes: Mapping[str, Any], head: head_lib.Head) -> list[matching.Leaf]:
    found = []
    for collection in ("params", "batch_stats"):
        for ours, leaves in shapes[collection].get("head", {}).items():
            for leaf, array in leaves.items():
                norm = ours.startswith("batch_norm")
                theirs = "beta" if norm and leaf == "bias" else _LEAVES.get(leaf, leaf)
                tensor = f"{head.keras_names[ours]}/{theirs}"
                path = (collection, "head", ours, leaf)
                found.append(matching.Leaf(path, tuple(array.shape), (tensor,)))
    return found


def _read(leaf: matching.Leaf, tensors: Tensors) -> np.ndarray:
    tensor = next((one for one in leaf.tensors if one in tensors.shapes), None)
    if tensor is None:
        raise InputError(
            f"{tensors.path} has no tensor {leaf.tensors[0]!r}, which its architecture needs; save "
            "the model anew with model.save('model.h5')"
        )
    array = matching.in_flax_order(tensors.float32(tensor), leaf, "keras")
    if array.shape != leaf.shape:
        raise InputError(
            f"{tensors.path}: tensor {tensor!r} has shape {tensors.shapes[tensor]}, which doesn't "
            f"fit the {leaf.shape} of {'/'.join(leaf.path[1:])}; save the model anew"
        )
    return array


def _write(
    folder: Path, experiment: Experiment, variables: dict[str, Any], about: dict[str, Any]
) -> None:
    """Fills the work directory as training does, with one checkpoint before the first step."""
    config = experiment.config
    layers = Layers.of(variables, experiment.model.stages)
    phase = phases.resolve(config, layers, steps_per_epoch=1)[-1]
    description = Description(
        step=0,
        epoch=0.0,
        phase=phase.index,
        metrics={},
        classes=experiment.classes,
        config=config_lib.to_json(config),
        fingerprint="",  # it has no data of its own
    )
    checkpoints = Checkpointer(workdir_lib.checkpoint_dir(folder), metric=config.checkpoint.metric)
    with contextlib.closing(checkpoints):
        checkpoints.save(experiment.init_state(phase, variables), None, description)
        checkpoints.wait()
    logs.describe_run(folder, config, devices=[])
    logs.write_json(folder / "imported.json", about)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
