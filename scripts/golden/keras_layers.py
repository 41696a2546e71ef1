"""Records the order of Keras's layers, where the reference projects cut it, and Keras's own counts.

Writes tests/golden/keras_layers.json. README.md in this folder says what PEER is. Command:

    KERAS_BACKEND=jax JAX_PLATFORMS=cpu PEER/bin/python scripts/golden/keras_layers.py
"""

import json
import pathlib
from unittest import mock

import keras
import numpy as np
from keras.src.models import Functional
from keras.src.utils import file_utils

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "keras_layers.json"


def main() -> None:
    """Writes the file."""
    efficientnet = base_model(keras.applications.EfficientNetB0)
    resnet = base_model(keras.applications.ResNet50)
    found = {
        "keras": keras.__version__,
        "efficientnet_b0": {
            "parameters": counts(efficientnet),
            "first_150": names(efficientnet.layers[:150]),
            "last_50": names(efficientnet.layers[-50:]),
            "layers": layer_rows(efficientnet),
        },
        "resnet50": {
            "parameters": counts(resnet),
            "last_30": names(resnet.layers[-30:]),
            "layers": layer_rows(resnet),
        },
        "resnet50_head_c": head_c_counts(resnet),
    }
    OUT.write_text(as_text(found))


def base_model(application) -> keras.Model:
    """Returns a Keras application without its top, with the layers that weights="imagenet" gives.

    The published EfficientNet weights bring a layer more, a second Rescaling after Normalization;
    the layer numbers of the reference projects count it. Nothing is downloaded: no weights are
    loaded.
    """
    keras.backend.clear_session()
    no_file = mock.patch.object(file_utils, "get_file", return_value=None)
    no_weights = mock.patch.object(Functional, "load_weights", return_value=None)
    with no_file, no_weights:
        return application(include_top=False, weights="imagenet", input_shape=(224, 224, 3))


def names(layers: list) -> list[str]:
    """Returns the names of layers."""
    return [layer.name for layer in layers]


def layer_rows(model: keras.Model) -> list[list]:
    """Returns `[name, class, number of weight tensors]` for every layer, in Keras's order."""
    return [[layer.name, type(layer).__name__, len(layer.weights)] for layer in model.layers]


def counts(model: keras.Model) -> dict[str, int]:
    """Returns the numbers of values that Keras's summary prints."""
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    total = model.count_params()
    return {"total": total, "trainable": trainable, "non_trainable": total - trainable}


def head_c_counts(base: keras.Model) -> dict[str, int]:
    """Returns the counts of ResNet50 with head (c), all but its last 30 layers frozen."""
    base.trainable = True
    for layer in base.layers[:-30]:
        layer.trainable = False
    head = [
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(512, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(256, activation="relu"),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
    return counts(keras.Sequential([base, *head]))


def as_text(found: dict) -> str:
    """Returns JSON with one layer row a line."""
    text = json.dumps(found, indent=1)
    for row in [
        row for net in found.values() if isinstance(net, dict) for row in net.get("layers", [])
    ]:
        text = text.replace(json.dumps(row, indent=1).replace("\n", "\n   "), json.dumps(row))
    return text + "\n"


if __name__ == "__main__":
    main()
