"""Eight fake devices and a compile cache for all tests, and the small things that they share."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_cpu_prefer_vector_width=512"
)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.abspath(".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from skinjax import parallel
from skinjax.config import default_config
from skinjax.data import synthetic


class TinyBackbone(nn.Module):
    """Two stages with batch norm, and pooling."""

    dtype: Any

    stages = ("stem", "block1")

    @nn.compact
    def __call__(self, image_BHWC: jax.Array, *, train: bool, frozen: tuple[str, ...]) -> jax.Array:
        for stage in self.stages:
            image_BHWC = TinyStage(self.dtype, name=stage)(
                image_BHWC, train=train and stage not in frozen
            )
        return image_BHWC.mean((1, 2))


class TinyStage(nn.Module):
    """Convolution, batch norm, ReLU.

    The convolution has no bias: before batch norm its gradient is rounding noise, which Adam
    would enlarge to whole steps.
    """

    dtype: Any

    @nn.compact
    def __call__(self, image_BHWC: jax.Array, *, train: bool) -> jax.Array:
        image_BHWC = nn.Conv(4, (3, 3), 2, use_bias=False, dtype=self.dtype)(image_BHWC)
        norm = nn.BatchNorm(not train, axis_name=parallel.AXIS if train else None)
        return nn.relu(norm(image_BHWC))


class TinyClassifier(nn.Module):
    """The smallest network with what the real ones have: stages, batch norm, a head."""

    num_classes: int
    dtype: Any = jnp.float32

    stages = ("stem", "block1", "head")

    def setup(self) -> None:
        self.backbone = TinyBackbone(self.dtype)
        self.head = nn.Dense(self.num_classes)

    def __call__(
        self, image_BHWC: jax.Array, *, train: bool, frozen: tuple[str, ...] = ()
    ) -> jax.Array:
        return self.head(self.backbone(image_BHWC, train=train, frozen=frozen))


@pytest.fixture(scope="session")
def tiny_classifier() -> type[nn.Module]:
    """The class, for tests that need a network with batch norm that compiles in a second."""
    return TinyClassifier


@pytest.fixture(scope="session")
def synthetic_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic lesions on disk in HAM10000's layout, drawn once."""
    directory = tmp_path_factory.mktemp("synthetic")
    synthetic.write(directory, num_lesions=100, image_size=32, seed=0)
    return directory


@pytest.fixture
def config(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> ConfigDict:
    """A run of seconds: SimpleCNN at 16 px on one device, data prepared once per session."""
    config = default_config()
    config.data.raw_dir = str(synthetic_dir)
    config.data.prepared_dir = str(synthetic_dir.parent / "prepared")
    config.data.image_size = 16
    config.epochs = 2
    config.batch_size = 32
    config.model.name = "simple_cnn"
    config.model.head = (("dense", 8), ("relu",), ("dropout", 0.5))
    config.parallel.num_devices = 1
    config.log.tensorboard = False
    config.log.progress = False
    return config
