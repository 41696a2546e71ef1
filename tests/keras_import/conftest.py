"""What Keras wrote and computed (scripts/golden/keras_import.py), as files and as a run."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from skinjax import keras_import
from skinjax.keras_import import graph

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
import seeded_weights  # noqa: E402


class Golden:
    """What Keras wrote and computed."""

    def __init__(self) -> None:
        with np.load(GOLDEN / "keras_import.npz") as file:
            about = json.loads(file["about"].tobytes())
            self.probability = {form: file[f"probability/{form}"] for form in about["forms"]}
        self.forms: dict[str, Any] = about["forms"]
        self.seed, self.parameters = about["seed"], about["parameters"]
        self.images = seeded_weights.images(tuple(about["image_shape"]), self.seed)
        self.tensors = {
            name: seeded_weights.Tensor(name, tuple(shape), dtype, scale)
            for name, shape, dtype, scale in about["tensors"]
        }

    def config(self, form: str) -> dict[str, Any]:
        return json.loads(self.forms[form]["model_config"])

    def write(self, path: Path, form: str, *, filled: bool = False, keras_2: bool = False) -> Path:
        """The file that Keras saved; without values unless `filled`, so that it takes no space."""
        config = as_keras_2(self.config(form)) if keras_2 else self.config(form)
        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = json.dumps(config)
            layers = self.forms[form]["weights"]
            group = file.create_group("model_weights")
            group.attrs["layer_names"] = np.array(list(layers), "S")
            for layer, weights in layers.items():
                weights = [f"{weight}:0" if keras_2 else weight for weight in weights]
                group.create_group(layer).attrs["weight_names"] = np.array(weights, "S")
                for weight in weights:
                    tensor = self.tensors["/".join(weight.removesuffix(":0").split("/")[-2:])]
                    dataset = group[layer].create_dataset(weight, tensor.shape, "f4")
                    if filled:
                        dataset[...] = seeded_weights.values(tensor, self.seed)
        return path


def as_keras_2(model: dict[str, Any]) -> dict[str, Any]:
    """A model's config as Keras 2.15 writes it."""
    model = copy.deepcopy(model)
    config = model["config"]
    for key in ("input_layers", "output_layers"):
        if key in config:
            config[key] = [config[key]]
    for number, layer in enumerate(config["layers"]):
        if layer["class_name"] == "Functional":
            config["layers"][number] = {
                **as_keras_2(layer),
                "inbound_nodes": layer.get("inbound_nodes"),
            }
            layer = config["layers"][number]
        if "batch_shape" in layer["config"]:
            layer["config"]["batch_input_shape"] = layer["config"].pop("batch_shape")
        if layer["class_name"] == "BatchNormalization":
            layer["config"]["axis"] = [layer["config"]["axis"]]
        if model["class_name"] == "Functional":
            layer["inbound_nodes"] = [
                [[name, 0, 0, {"training": False}] for name in graph.references(call)]
                for call in layer["inbound_nodes"]
            ]
    return model


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden()


@pytest.fixture(scope="session")
def run(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory that the reference project's model becomes."""
    folder = tmp_path_factory.mktemp("keras")
    path = golden.write(folder / "resnet50_best.h5", "nested", filled=True)
    about = keras_import.import_keras(str(path), folder / "imported")
    assert about["parameters"] == golden.parameters == 24_778_625
    assert json.loads((folder / "imported" / "imported.json").read_text()) == about
    assert about["source"] == "resnet50_best.h5"
    assert len(about["sha256"]) == 64
    path.unlink()
    return folder / "imported"
