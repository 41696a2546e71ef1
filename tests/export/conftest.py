"""Tiny trained models, made in memory: an export needs nothing of a run but these."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from skinjax import models
from skinjax.calibration import Calibration
from skinjax.config import default_config
from skinjax.data import metadata
from skinjax.data.preprocess import Preprocess
from skinjax.export import description, network, onnx_file, stablehlo, timm_file
from skinjax.trained import TrainedModel

CLASSES = ("bkl", "mel", "nv")


def make_model(name: str, image_size: int = 16, **changes: Any) -> TrainedModel:
    """A network with random weights; `changes` are "section.field" with "__" for the dot."""
    config = default_config()
    config.data.image_size = image_size
    config.normalize.update(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    config.model.update(name=name, head=(), variant="timm")
    for field, value in changes.items():
        section, key = field.split("__")
        if isinstance(value, dict):
            config[section][key].update(value)
        else:
            config[section][key] = value
    rows = [
        {"age": 30.0, "sex": "male", "site": "back"},
        {"age": 60.0, "sex": "female", "site": "face"},
    ]
    encoder = metadata.fit(config.metadata, rows)
    width = config.metadata.width if encoder else 0
    module = models.create(
        config.model, num_classes=len(CLASSES), axis_name=None, metadata_width=width
    )
    encoded = encoder.encode(rows[:1]) if encoder else None
    image = np.zeros((1, image_size, image_size, 3), np.float32)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), image, encoded, train=False))
    rng = np.random.default_rng(0)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        scale = 1.4 / np.sqrt(max(1, np.prod(leaf.shape[:-1]))) if len(leaf.shape) > 1 else 0.1
        return (scale * rng.standard_normal(leaf.shape)).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    preprocess = Preprocess.from_config(config.data)
    return TrainedModel(
        Path("run"), 12, 1.5, "", config, CLASSES, module, variables, preprocess, encoder
    )


@pytest.fixture(scope="session")
def model() -> Callable[..., TrainedModel]:
    """Makes a tiny model by the name of its network."""
    return make_model


@pytest.fixture(scope="session")
def calibration() -> Calibration:
    """One that changes every class in another way."""
    return Calibration("vector", (0.8, 1.2, 1.5), (0.3, -0.2, 0.0))


def draw_images(*shape: int) -> np.ndarray:
    """Random uint8 images (..., H, W, 3) with structure in them."""
    rng = np.random.default_rng(shape)
    *lead, height, width = shape
    coarse = rng.uniform(0, 255, (*lead, -(-height // 4), -(-width // 4), 3))
    image = coarse.repeat(4, axis=-3).repeat(4, axis=-2)[..., :height, :width, :]
    return np.clip(image + rng.normal(0, 20, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def images() -> Callable[..., np.ndarray]:
    """Draws images of a shape."""
    return draw_images


def expected(
    model: TrainedModel, calibration: Calibration, image_BHWC: np.ndarray, *inputs: Any
) -> np.ndarray:
    """Calibrated probabilities by the trained model and OpenCV."""
    resized_BSSC = np.stack([model.preprocess(image_HWC) for image_HWC in image_BHWC])
    logits_BC = jax.jit(model.forward())(model.variables, resized_BSSC, *inputs)["logits_BC"]
    return calibration.apply(np.asarray(jax.nn.softmax(logits_BC)))


@pytest.fixture(scope="session")
def reference() -> Callable[..., np.ndarray]:
    """The probabilities that an export should give."""
    return expected


def write_format(
    format: Any, path: Path, model: TrainedModel, calibration: Calibration, dtype: str = "float32"
) -> network.Network:
    exported = network.create(model, calibration, dtype)
    described = description.describe(model, calibration, (("mel",), 0.4), dtype)
    if format is timm_file:
        described = timm_file.describe(described, model)
    format.write(path, exported, described)
    return exported


@pytest.fixture(scope="session")
def write() -> Callable[..., network.Network]:
    """Writes a model in a format."""
    return write_format


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, calibration: Calibration) -> dict[str, Path]:
    """One model in each format."""
    folder = tmp_path_factory.mktemp("exports")
    formats = {"stablehlo": stablehlo, "onnx": onnx_file, "safetensors": timm_file}
    for name, format in formats.items():
        write_format(format, folder / name, make_model("simple_cnn"), calibration)
    return {name: folder / name for name in formats}
