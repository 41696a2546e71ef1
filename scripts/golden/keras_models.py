"""Writes the golden files of Keras Applications: what Keras computes with seeded weights.

README.md in this folder says what PEER is. Command (5 minutes on 2 cores, 6 GB):

    KERAS_BACKEND=jax JAX_PLATFORMS=cpu JAX_ENABLE_X64=1 \
        PEER/bin/python scripts/golden/keras_models.py [file's name ...]

The weights file has the layout of the published one: Keras reads it with `weights="imagenet"`, so
that EfficientNet has its second Rescaling, and the pixels go through Keras's preprocessing. The
computation is in float64, as in timm_models.py.
"""

import contextlib
import pathlib
import re
import sys
import tempfile
from unittest import mock

import keras
import numpy as np
from keras.src.utils import file_utils

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"
sys.path.insert(0, str(GOLDEN))
import golden_file  # noqa: E402
import seeded_weights  # noqa: E402

SEED = 5
SMALL = (2, 72, 64, 3)
# The published files of EfficientNet have the standard deviation where Keras has the variance.
EFFICIENTNET_CONSTANTS = {
    "normalization normalization/mean:0": [0.485, 0.456, 0.406],
    "normalization normalization/variance:0": [0.229, 0.224, 0.225],
}
applications = keras.applications


def main(wanted: list[str]) -> None:
    """Writes the files named, or all."""
    for name in ("efficientnet_b0", "efficientnet_b3", "resnet50", "inception_v3", "vgg16"):
        if not wanted or f"{name}-keras" in wanted:
            write(name, include_top=True)
    if not wanted or "vgg16-keras-notop" in wanted:
        write("vgg16", include_top=False)


def write(name: str, include_top: bool) -> None:
    """Writes one file and prints what it measures."""
    golden = compute(name, include_top)
    path = GOLDEN / f"{name}-keras{'' if include_top else '-notop'}.npz"
    golden.write(path)
    size = path.stat().st_size / 1000
    print(f"{path.stem}: {size:.0f} kB, {golden.contrast} contrast, {golden.float32_error}")


def network(name: str) -> tuple:
    """Returns Keras's function, its preprocessing and the image's shape."""
    match name:
        case "efficientnet_b0":
            return applications.EfficientNetB0, lambda pixels: pixels, SMALL
        case "efficientnet_b3":
            return applications.EfficientNetB3, lambda pixels: pixels, SMALL
        case "resnet50":
            return applications.ResNet50, applications.resnet.preprocess_input, SMALL
        case "inception_v3":
            shape = (2, 139, 155, 3)
            return applications.InceptionV3, applications.inception_v3.preprocess_input, shape
        case "vgg16":
            return applications.VGG16, applications.vgg16.preprocess_input, (2, 224, 224, 3)
    raise ValueError(name)


def compute(name: str, include_top: bool) -> golden_file.Golden:
    """Returns what Keras computes."""
    application, preprocess, shape = network(name)
    if not include_top:
        shape = SMALL
    library = f"keras {keras.__version__}"
    golden = golden_file.Golden(library, application.__name__, SEED, shape, pixels=True)
    pixels = seeded_weights.images(shape, SEED)
    image = preprocess(pixels.astype(np.float64))

    model = build(application, shape, include_top, None)
    golden.layers, golden.tensors = file_layout(model, name)
    if name.startswith("efficientnet"):
        golden.constants = EFFICIENTNET_CONSTANTS
    with tempfile.TemporaryDirectory() as folder:
        weights = pathlib.Path(folder) / "weights.h5"
        golden.write_weights(weights)
        model = build(application, shape, include_top, weights)
        golden.tensors = calibrated(model, image, golden.tensors, name)
        golden.write_weights(weights)
        keras.config.set_floatx("float32")
        single = outputs(build(application, shape, include_top, weights), name, image)
        keras.config.set_floatx("float64")
        model = build(application, shape, include_top, weights)

    exact = outputs(model, name, image)
    golden.float32_error["eval"] = max(relative(single[key], exact[key]) for key in exact)
    golden.contrast = golden_file.contrast(exact["logits"])
    if not include_top:
        del exact["logits"]
    for key, values in exact.items():
        golden_file.check_spread(f"{name}: {key}", values)
        golden.add(f"eval/{key}", values)
    if norms(model):
        golden.share = norms(model)[0].momentum
        golden.add("train/logits", np.asarray(model(image, training=True)))
        after = statistics(model)
        found = dict(zip(golden.statistics_names, after, strict=True))
        golden.arrays["train/statistics"] = golden_file.sample_statistics(found)
    return golden


def build(application, shape: tuple, include_top: bool, weights: pathlib.Path | None):
    """Returns the network as its published weights make it, loaded from `weights`, or empty.

    An input tensor lets a network with its top take small images. Dropout is switched off.
    """
    keras.backend.clear_session()
    local = mock.patch.object(file_utils, "get_file", return_value=str(weights))
    empty = mock.patch.object(keras.Model, "load_weights", return_value=None)
    with local, empty if weights is None else contextlib.nullcontext():
        model = application(
            include_top=include_top,
            weights="imagenet",
            input_tensor=keras.Input(shape[1:]),
            **({"classifier_activation": None} if include_top else {"pooling": "avg"}),
        )
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return model


def file_layout(model, name: str) -> tuple[list[str], list[seeded_weights.Tensor]]:
    """Returns the layers and the tensors that the published file of this network has.

    VGG16's was written by Keras 1 ("block1_conv1_W_1:0"), InceptionV3's counts its layers from 1,
    and a depthwise kernel is called so.
    """
    layers, tensors = [], []
    for layer in model.layers:
        published = layer.name
        if name == "inception_v3" and (
            found := re.fullmatch(r"(conv2d|batch_normalization)(?:_(\d+))?", layer.name)
        ):
            published = f"{found[1]}_{int(found[2] or 0) + 1}"
        layers.append(published)
        for weight in layer.weights:
            leaf = weight.path.split("/")[-1]
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                leaf = "depthwise_kernel"
            path = f"{published}/{leaf}:0"
            if name == "vgg16":
                path = f"{published}_{ {'kernel': 'W', 'bias': 'b'}[leaf] }_1:0"
            dtype = "int64" if leaf == "count" else "float32"
            shape = tuple(weight.shape)
            tensors.append(seeded_weights.Tensor(f"{published} {path}", shape, dtype))
    return layers, tensors


def norms(model) -> list:
    """Returns the batch norm layers in the model's order."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def statistics(model) -> list[np.ndarray]:
    """Returns the moving means and variances in the file's order."""
    pairs = [(layer.moving_mean, layer.moving_variance) for layer in norms(model)]
    return [np.asarray(variable) for pair in pairs for variable in pair]


def calibrated(model, image: np.ndarray, tensors: list, name: str) -> list:
    """Returns the tensors with their scales, as in timm_models.py.

    ResNet50 and VGG16 take pixels, so their first kernels are made smaller.
    """
    first, *others = [tensor.name for tensor in tensors if not tensor.name.startswith("normal")]
    scales = {first: 2**-6}
    if norms(model):
        scales = {first: 2**-11 if name == "resnet50" else 2**-5}
    if name == "resnet50":
        scales[others[0]] = 2**-5
    for weight, tensor in zip(model.weights, tensors, strict=True):
        if tensor.name in scales:
            weight.assign(weight * scales[tensor.name])
    names = {layer.name for layer in model.layers}
    for layer in norms(model):
        block = layer.name.removesuffix("project_bn")
        if layer.name.endswith("_3_bn") or f"{block}add" in names:
            scales[f"{layer.name} {layer.name}/gamma:0"] = 0.3
            layer.gamma.assign(layer.gamma * 0.3)
    found: dict[str, float] = {}

    def calibrating(layer):
        call = layer.call

        def calibrate(x, **options):
            spread = np.asarray(x).var((0, 1, 2)) / np.asarray(layer.moving_variance)
            scale = found[layer.name] = float(f"{spread.mean():.3g}")
            layer.moving_variance.assign(layer.moving_variance * scale)
            layer.moving_mean.assign(layer.moving_mean * float(f"{scale**0.5:.3g}"))
            return call(x, **options)

        return mock.patch.object(layer, "call", calibrate)

    patches = [calibrating(layer) for layer in norms(model)]
    for patch in patches:
        patch.start()
    model(image)
    for patch in patches:
        patch.stop()
    published = [tensor for tensor in tensors if tensor.name.endswith("/moving_variance:0")]
    for layer, tensor in zip(norms(model), published, strict=True):
        scales[tensor.name] = found[layer.name]
        mean = tensor.name.replace("moving_variance", "moving_mean")
        scales[mean] = float(f"{found[layer.name] ** 0.5:.3g}")
    return [tensor._replace(scale=scales.get(tensor.name, 1.0)) for tensor in tensors]


def outputs(model, name: str, image: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the logits and the stages' feature maps."""
    stages = stage_layers(model, name)
    wanted = [model.get_layer(layer).output for layer in stages.values()]
    *maps, logits = keras.Model(model.inputs, [*wanted, model.output])(image)
    found = {stage: np.asarray(values) for stage, values in zip(stages, maps, strict=True)}
    return {**found, "logits": np.asarray(logits)}


def stage_layers(model, name: str) -> dict[str, str]:
    """Returns the layers whose outputs are the stages' feature maps."""
    names = [layer.name for layer in model.layers]
    if name.startswith("efficientnet"):
        last = {
            f"block{i}": [n for n in names if n.startswith(f"block{i}")][-1] for i in range(1, 8)
        }
        return {"stem": "stem_activation", **last, "top": "top_activation"}
    if name == "resnet50":
        last = {
            f"layer{i}": [n for n in names if n.startswith(f"conv{i + 1}_")][-1]
            for i in range(1, 5)
        }
        return {"stem": "pool1_pool", **last}
    if name == "inception_v3":
        mixed = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
        return {
            "stem": "max_pooling2d_1",
            **{f"mixed_{stage}": f"mixed{i}" for i, stage in enumerate(mixed)},
        }
    blocks = {f"block{i}": f"block{i}_pool" for i in range(1, 6)}
    return {**blocks, "fc": "fc2"} if "fc2" in names else blocks


def relative(found: np.ndarray, exact: np.ndarray) -> float:
    """Returns the largest difference over the largest value."""
    return float(f"{np.abs(found - exact).max() / np.abs(exact).max():.1e}")


if __name__ == "__main__":
    keras.config.set_floatx("float64")
    main(sys.argv[1:])
