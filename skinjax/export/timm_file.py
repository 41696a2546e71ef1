"""safetensors: the weights under timm's names and in PyTorch's order of axes, with a description.

What timm has no name for (SimpleCNN, heads of several layers) keeps this project's, "conv1.conv",
"head.dense_0", and says so in the description. The file has weights only: the description says
what is done to an image before them, and to the logits behind them.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from skinjax import calibration, logs, models
from skinjax.errors import InputError
from skinjax.export import description
from skinjax.export.description import Description
from skinjax.export.network import Network, rebuild, run
from skinjax.models import (
    convnext,
    densenet,
    efficientnet,
    efficientnet_v2,
    inception,
    pretrained,
    resnet,
    vgg,
    vit,
)
from skinjax.models.pretrained import hub, matching
from skinjax.models.pretrained.safetensors_file import open_safetensors
from skinjax.trained import TrainedModel

# timm's name of the last dense layer.
_CLASSIFIERS: dict[ModuleType, str] = {
    efficientnet: "classifier", efficientnet_v2: "classifier", densenet: "classifier",
    resnet: "fc", inception: "fc", convnext: "head.fc", vgg: "head.fc", vit: "head",
}  # fmt: skip
_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


@dataclass(frozen=True)
class Weights:
    """A file of weights, read back into the network that it is of.

    Attributes:
      description: see `description.describe`.
      variables: of the network, float32.
      call: resized images, uint8 (B, S, S, 3), and encoded metadata (B, M) where the model takes
        it, to `probabilities` and `logits`, (B, num_classes), computed here.
    """

    description: Description
    variables: dict[str, Any]
    call: Callable[..., dict[str, Any]]


def names(model: TrainedModel) -> dict[matching.Path, str]:
    """The name in the file of each leaf of the model's variables."""
    family = models.families()[model.config.model.name]
    found = {}
    for path in _paths(model.variables):
        layers, leaf = path[2:-1], _LEAVES.get(path[-1], path[-1])
        if path[1] == "head":
            scope = _classifier(model) or ".".join(["head", *layers])
        elif hasattr(family, "timm_name"):
            scope = family.timm_name("/".join(layers))
        else:
            scope = ".".join(layers)
        found[path] = f"{scope}.{leaf}" if scope else leaf
    return found


def write(path: Path, network: Network, described: Description) -> None:
    """Writes the weights to `path`, in the dtypes that the network's variables have."""
    from safetensors.numpy import save

    tensors = {
        name: np.ascontiguousarray(_in_torch_order(_leaf(network.variables, leaf_path), leaf_path))
        for leaf_path, name in names(network.model).items()
    }
    metadata = {"format": "pt", description.KEY: description.to_text(described)}
    path.write_bytes(save(tensors, metadata))


def describe(described: Description, model: TrainedModel) -> Description:
    """The description with what is true of a file of weights."""
    family = models.families()[model.config.model.name]
    classifier = _classifier(model)
    return {
        **described,
        "image": (
            "weights only. First uint8 RGB as `preprocess` says (skinjax.data.preprocess), / 255,"
            " (image - mean) / std; behind the network softmax(scale * log_softmax(logits) + bias)"
            " of `calibration`"
        ),
        "tensors": {
            "backbone": "timm's names" if hasattr(family, "timm_name") else "skinjax's names",
            "head": f"timm's name, {classifier}" if classifier else "skinjax's names, head.LAYER",
            "axes": "PyTorch's: (out, in, rows, columns), (out, in)",
            "timm": _architecture(model) or None,
        },
        "model": json.loads(model.config.model.to_json()),
    }


def timm_config(described: Description, model: TrainedModel) -> dict[str, Any]:
    """timm's config.json; without "architecture" where timm has no such network."""
    mean, std = described["normalize"]["mean"], described["normalize"]["std"]
    size, classes = described["image_size"], described["classes"]
    config = {
        "num_classes": len(classes),
        "label_names": classes,
        "label_descriptions": dict(zip(classes, described["descriptions"], strict=True)),
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash" if model.preprocess.resize == "squash" else "center",
            "mean": mean,
            "std": std,
            "num_classes": len(classes),
        },
        description.KEY: described,
    }
    if architecture := _architecture(model):
        arguments = {"img_size": size} if architecture.startswith("vit_") else {}
        config = {"architecture": architecture, **config, "model_args": arguments}
    return config


def load(path: Path, model: TrainedModel) -> Weights:
    """Reads what `write` wrote into the network of `model`, whose own weights aren't used.

    The backbone, and a head that timm knows, come by way of `skinjax.models.pretrained`.

    Raises:
      InputError: the file is damaged, has no description, or is of another network.
    """
    with open_safetensors(path):
        pass  # checks the header, before its description is read
    import safetensors

    with safetensors.safe_open(path, framework="np") as file:
        metadata = file.metadata() or {}
    described = description.parse(metadata.get(description.KEY), path)
    if described["classes"] != list(model.classes):
        raise InputError(
            f"{path} has the classes {', '.join(described['classes'])}, expected"
            f" {', '.join(model.classes)}; pass the export of this model"
        )
    read = calibration.from_json(described.get("calibration", {}), model.classes)
    variables = _read(path, model)
    module = rebuild(model, lowering="auto")
    forward = jax.jit(lambda variables, *inputs: run(model, module, variables, *inputs))

    def call(image_BSSC: np.ndarray, *metadata_BM: np.ndarray) -> dict[str, Any]:
        logits_BC = forward(variables, jnp.asarray(image_BSSC, jnp.float32), *metadata_BM)
        probability_BC = read.apply(np.asarray(jax.nn.softmax(logits_BC)))
        return {"probabilities": probability_BC, "logits": np.asarray(logits_BC)}

    return Weights(described, variables, call)


def _read(path: Path, model: TrainedModel) -> dict[str, Any]:
    shapes = jax.eval_shape(lambda: model.variables)
    wanted = names(model)
    family = models.families()[model.config.model.name]
    done: set[matching.Path] = set()
    variables: Mapping[str, Any] = shapes
    if hasattr(family, "timm_name"):
        config: ConfigDict = model.config.model.copy_and_resolve_references()
        config.pretrained = str(path)
        variables, report = pretrained.load(pretrained.find(config), shapes, with_head=True)
        done = {leaf for leaf in wanted if leaf[1] == "backbone" or report.head}
    with open_safetensors(path) as tensors:
        own: dict[matching.Path, np.ndarray] = {}
        for leaf_path in wanted.keys() - done:
            shape = tuple(_leaf(shapes, leaf_path).shape)
            name = wanted[leaf_path]
            if name not in tensors.shapes:
                raise InputError(f"{path} has no tensor {name!r}; export the model again")
            leaf = matching.Leaf(leaf_path, shape, (name,))
            own[leaf_path] = matching.in_flax_order(tensors.float32(name), leaf, "timm")
            if own[leaf_path].shape != shape:
                raise InputError(
                    f"{path}: tensor {name!r} becomes {own[leaf_path].shape}, expected {shape};"
                    " export the model again"
                )
    return matching.replaced(variables, lambda leaf_path, leaf: own.get(leaf_path, leaf))


def write_config(path: Path, described: Description, model: TrainedModel) -> None:
    """Writes `timm_config` beside the weights at `path`."""
    logs.write_json(path.with_name(hub.CONFIG), timm_config(described, model))


def check_config(path: Path) -> None:
    """Refuses a folder whose config.json `write_config` didn't write, such as that of a run.

    Args:
      path: the weights, of which the folder is to become.

    Raises:
      InputError: such a file is there.
    """
    config = path.with_name(hub.CONFIG)
    try:
        if config.stat().st_size > 2 * description.MAX_BYTES:
            raise ValueError
        found = json.loads(config.read_bytes())
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get(description.KEY), dict):
        raise InputError(
            f"{config} is not of an export, and would be written over; give another --output, or a"
            " file: --output=NAME.safetensors"
        )


def _classifier(model: TrainedModel) -> str:
    """timm's name of the head; "" where it is more than one dense layer, or timm has none."""
    family = models.families()[model.config.model.name]
    if set(model.variables["params"]["head"]) != {"logits"}:
        return ""
    return _CLASSIFIERS.get(family, "")


def _architecture(model: TrainedModel) -> str:
    """timm's architecture of the same network; "" for none."""
    config = model.config.model
    if not _classifier(model) or config.width != 64 or not config.fully_connected:
        return ""
    if config.head:  # a sigmoid has one output for two classes
        return ""
    wanted = (config.name, config.variant or "timm")
    family: Any = models.families()[config.name]
    candidates = (config.name, f"tf_{config.name}", f"{config.name}_224")
    return next((one for one in candidates if family.timm_architecture(one) == wanted), "")


def _paths(tree: Mapping[str, Any], path: matching.Path = ()) -> list[matching.Path]:
    found = []
    for key, value in tree.items():
        found += _paths(value, (*path, key)) if isinstance(value, Mapping) else [(*path, key)]
    return found


def _leaf(tree: Mapping[str, Any], path: matching.Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _in_torch_order(array: np.ndarray, path: matching.Path) -> np.ndarray:
    """What `matching.in_flax_order` undoes."""
    if path[-1] != "kernel":
        return array
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
