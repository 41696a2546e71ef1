"""Networks with untrained weights as trained models, and a work directory that holds one."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skinjax.checkpoint import Checkpointer, Description
from skinjax.config import default_config, to_json
from skinjax.data import builder, synthetic
from skinjax.data.metadata import Encoder, Number
from skinjax.data.preprocess import Preprocess
from skinjax.experiment import Experiment
from skinjax.explain import missing_metadata
from skinjax.models import Classifier
from skinjax.models.backbone import Backbone
from skinjax.models.heads import Head, Layer
from skinjax.models.layers import Settings
from skinjax.train_step import TrainState
from skinjax.trained import TrainedModel


@pytest.fixture(scope="session")
def make_model() -> Callable[..., TrainedModel]:
    """Makes a model of a backbone, with weights from a seed."""

    def make(
        backbone: Backbone,
        *,
        image_size: int,
        classes: tuple[str, ...] = ("a", "b", "c"),
        head: tuple[Layer, ...] = (),
        with_age: bool = False,
        seed: int = 0,
    ) -> TrainedModel:
        config = default_config()
        config.normalize.update(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
        module = Classifier(
            backbone, Head(len(classes), head, Settings(), metadata_width=4 * with_age)
        )
        model = TrainedModel(
            workdir=Path("nowhere"),
            step=0,
            epoch=0.0,
            fingerprint="",
            config=config,
            classes=classes,
            module=module,
            variables={},
            preprocess=Preprocess(image_size=image_size),
            encoder=Encoder((Number("age", 50.0, 10.0),)) if with_age else None,
        )
        image = jnp.zeros((1, image_size, image_size, 3))

        shapes = jax.eval_shape(
            lambda key: module.init(key, image, missing_metadata(model, 1), train=False),
            jax.random.key(0),
        )
        # Drawn by NumPy, since compiling what draws them takes longer than all else.
        rng = np.random.default_rng(seed)

        def draw(path: Any, leaf: Any) -> np.ndarray:
            width = 0.1 if len(leaf.shape) == 1 else (leaf.size / leaf.shape[-1]) ** -0.5
            drawn = rng.normal(0, width, leaf.shape).astype(np.float32)
            return 1 + drawn if path[-1].key in ("scale", "var") else drawn

        drawn = jax.tree_util.tree_map_with_path(draw, shapes)
        model.variables.update(params=drawn["params"], batch_stats=drawn.get("batch_stats", {}))
        return model

    return make


@pytest.fixture(scope="session")
def images() -> Callable[[int, int], np.ndarray]:
    """Makes uint8 images (count, size, size, 3) of random blobs, the same at every call."""

    def make(count: int, size: int) -> np.ndarray:
        small = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3))
        return np.kron(small, np.ones((1, size // 4, size // 4, 1))).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory: an untrained simple CNN of 16 px, whose data are prepared in `prepared`."""
    workdir = tmp_path_factory.mktemp("explained")
    synthetic.write(workdir / "raw", num_lesions=60, image_size=32, seed=0)
    config = default_config()
    config.data.update(raw_dir=str(workdir / "raw"), prepared_dir=str(workdir / "prepared"))
    config.data.image_size = 16
    config.normalize.update(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    config.model.update(name="simple_cnn", head=(("dense", 8), ("relu",)))
    config.parallel.num_devices = 1
    prepared = builder.prepare(config)
    counts_C = np.array(prepared.counts["train"])
    experiment = Experiment.create(config, prepared.classes, counts_C)
    state = TrainState(
        step=jnp.int32(7),
        **experiment.init_variables(),
        opt_state=(),
        loss_scale=None,
        skipped=jnp.int32(0),
        learning_rate_scale=jnp.float32(1),
        ema=None,
    )
    about = Description(
        step=7, epoch=1.0, phase=0, metrics={}, classes=prepared.classes,
        config=to_json(config), fingerprint=prepared.fingerprint,
    )  # fmt: skip
    with contextlib.closing(Checkpointer(workdir / "checkpoints", metric="loss")) as checkpointer:
        checkpointer.save(state, {}, about)
    return workdir
