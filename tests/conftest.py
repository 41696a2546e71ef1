"""Eight fake devices and a compile cache for all tests, and the small things that they share."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_cpu_prefer_vector_width=512"
)
# One for each of xdist's workers: JAX's writes to it are not atomic.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    os.path.abspath(os.path.join(".jax_cache", os.environ.get("PYTEST_XDIST_WORKER", ""))),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import contextlib
import shutil
from collections.abc import Callable, Iterator
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
from skinjax.models import Classifier
from skinjax.models.backbone import Backbone
from skinjax.models.heads import Head
from skinjax.models.layers import BatchNorm, Conv, Mode, Settings
from skinjax.train import train

_MANY_MAPS = 30_000  # Linux lets a process have 65,530; past them JAX crashes
# Whose tests take longest, and so come first: at the end one worker would wait for the other.
_SLOW = ("configs_test.py", "cross_validation_test.py", "processes_test.py", "survival_test.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has the slow files first; the order within a file and among the others stays."""
    items.sort(key=lambda item: item.path.name not in _SLOW)


@pytest.fixture(scope="module", autouse=True)
def free_what_was_compiled() -> Iterator[None]:
    """Forgets compiled functions between modules: each stays mapped into memory in pieces."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > _MANY_MAPS:
        jax.clear_caches()


@contextlib.contextmanager
def _without_most_optimizations() -> Iterator[None]:
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name.upper(), "1")
        jax.config.update(name, True)
        try:
            yield
        finally:
            jax.config.update(name, before)


@pytest.fixture(scope="module")
def fast_compilation() -> Iterator[None]:
    """Compiles in less than half the time, to code that is slower; in child processes, too.

    For tests of steps and of what is around them: loops, files, processes, the command line. What
    is computed is the same but for its rounding.
    """
    with _without_most_optimizations():
        yield


class TinyStage(nn.Module):
    """Convolution, batch norm, ReLU.

    The convolution has no bias: before batch norm its gradient is rounding noise, which Adam
    would enlarge to whole steps.
    """

    settings: Settings

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, mode: Mode) -> jax.Array:
        x_BHWC = Conv(4, 3, 2, settings=self.settings, name="conv")(x_BHWC)
        return nn.relu(BatchNorm(self.settings, name="bn")(x_BHWC, mode))


def make_tiny_classifier(num_classes: int, dtype: Any = jnp.float32) -> Classifier:
    """The smallest network with what the real ones have: stages, batch norm, a head."""
    settings = Settings(dtype=dtype, axis_name=parallel.AXIS)
    stages = tuple(TinyStage(settings, name=name) for name in ("stem", "block1"))
    return Classifier(Backbone(stages, settings=settings), Head(num_classes, (), Settings()))


@pytest.fixture(scope="session")
def tiny_classifier() -> Callable[..., Classifier]:
    """Makes a network with batch norm that compiles in a second."""
    return make_tiny_classifier


@pytest.fixture(scope="session")
def synthetic_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic lesions on disk in HAM10000's layout, drawn once."""
    directory = tmp_path_factory.mktemp("synthetic")
    synthetic.write(directory, num_lesions=100, image_size=32, seed=0)
    return directory


def _tiny_config(synthetic_dir: Path) -> ConfigDict:
    config = default_config()
    config.data.raw_dir = str(synthetic_dir)
    config.data.prepared_dir = str(synthetic_dir.parent / "prepared")
    config.data.image_size = 16
    config.epochs = 2
    config.batch_size = 32
    config.normalize.update(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    config.model.name = "simple_cnn"
    config.model.head = (("dense", 8), ("relu",), ("dropout", 0.5))
    config.parallel.num_devices = 1
    config.parallel.keep_freed_memory = False  # it would last for all tests
    config.log.tensorboard = False
    config.log.progress = False
    return config


@pytest.fixture
def config(synthetic_dir: Path, fast_compilation: None) -> ConfigDict:
    """A run of seconds: SimpleCNN at 16 px on one device, data prepared once per session."""
    return _tiny_config(synthetic_dir)


@pytest.fixture(scope="session")
def trained_once(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One epoch of `config`, not evaluated; only to be read or copied."""
    config = _tiny_config(synthetic_dir)
    config.epochs = 1
    run = tmp_path_factory.mktemp("trained") / "run"
    with _without_most_optimizations():
        train(config, run)
    return run


@pytest.fixture
def trained_run(trained_once: Path, tmp_path: Path) -> Path:
    """A copy of `trained_once`, which a test may evaluate and change."""
    return Path(shutil.copytree(trained_once, tmp_path / "run"))
