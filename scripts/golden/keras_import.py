"""Writes tests/golden/keras_import.npz: what Keras makes of whole models with seeded weights.

README.md in this folder says what PEER is. Command (a minute on 2 cores, 2 GB):

    KERAS_BACKEND=jax JAX_PLATFORMS=cpu PEER/bin/python scripts/golden/keras_import.py [FOLDER]

The model is the binary reference project's, ResNet50 with its head, in the forms in which such
models are built. Each is saved by Keras as HDF5, from which the layout is recorded; the weights are
drawn again from their names. With FOLDER the files are kept there.
"""

import json
import pathlib
import sys
import tempfile
from typing import Any

import h5py
import keras
import numpy as np
from keras import layers

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"
sys.path.insert(0, str(GOLDEN))
import seeded_weights  # noqa: E402

SEED = 7
SHAPE = (4, 64, 64, 3)


def main(folder: pathlib.Path) -> None:
    """Writes the file, and the models to `folder`."""
    images = seeded_weights.images(SHAPE, SEED)
    pixels = keras.applications.resnet50.preprocess_input(images.astype(np.float32))
    forms, probabilities, tensors = {}, {}, {}
    for form in ("nested", "flat", "sequential"):
        model = build(form)
        tensors = fill(model)
        probabilities[f"probability/{form}"] = np.asarray(model(pixels))[:, 0]
        path = folder / f"{form}.h5"
        model.compile("adam", "binary_crossentropy")
        model.save(path)
        forms[form] = layout(path)
        print(form, model.count_params(), probabilities[f"probability/{form}"])
    about = {
        "library": f"keras {keras.__version__}",
        "seed": SEED,
        "image_shape": SHAPE,
        "parameters": model.count_params(),
        "tensors": [list(tensor) for tensor in tensors.values()],
        "forms": forms,
    }
    text = json.dumps(about, separators=(",", ":")).encode()
    target = GOLDEN / "keras_import.npz"
    arrays: dict[str, Any] = {"about": np.frombuffer(text, np.uint8), **probabilities}
    np.savez_compressed(target, **arrays)
    print(f"{target.stat().st_size / 1000:.0f} kB")


def build(form: str) -> keras.Model:
    """Returns ResNet50 with the reference project's head; "nested" is its own form."""
    keras.backend.clear_session()
    base = keras.applications.ResNet50(include_top=False, weights=None, input_shape=SHAPE[1:])
    head = [
        layers.GlobalAveragePooling2D(),
        layers.BatchNormalization(),
        layers.Dropout(0.5),
        layers.Dense(512, activation="relu"),
        layers.BatchNormalization(),
        layers.Dropout(0.5),
        layers.Dense(256, activation="relu"),
        layers.Dropout(0.3),
        layers.Dense(1, activation="sigmoid"),
    ]
    if form == "sequential":
        return keras.Sequential([base, *head])
    inputs = base.input if form == "flat" else keras.Input(SHAPE[1:])
    x = base.output if form == "flat" else base(inputs, training=False)
    for layer in head:
        x = layer(x)
    return keras.Model(inputs, x)


def fill(model: keras.Model) -> dict[str, seeded_weights.Tensor]:
    """Gives every weight its value, drawn by the layer's name; returns the tensors by name."""
    found = {}
    for weight in model.weights:
        name = "/".join(weight.path.split("/")[-2:])
        found[name] = seeded_weights.Tensor(name, tuple(weight.shape), scale=scale(name))
        weight.assign(seeded_weights.values(found[name], SEED))
    return found


def scale(name: str) -> float:
    """Keeps the activations' size, and the probabilities away from 0 and 1.

    The head's first variance is small, as that of pooled features is, so that epsilon matters.
    """
    if name.endswith("_3_bn/gamma"):
        return 0.3
    found = {
        "conv1_conv/kernel": 1 / 64,
        "batch_normalization/moving_variance": 0.02,
        "dense_2/kernel": 0.1,
        "dense_2/bias": -2.9,
    }
    return found.get(name, 1.0)


def layout(path: pathlib.Path) -> dict:
    """Returns the architecture, and the weights' names by layer, as Keras wrote them."""
    with h5py.File(path) as file:
        weights = file["model_weights"]
        names = {
            str(layer): [str(name) for name in weights[layer].attrs["weight_names"]]
            for layer in weights.attrs["layer_names"]
        }
        return {"model_config": file.attrs["model_config"], "weights": names}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(pathlib.Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(pathlib.Path(scratch))
