"""Each backbone against what timm, or Keras, computes with the same weights: tests/golden."""

import re
from pathlib import Path
from typing import Any

import golden_file
import jax
import numpy as np
import pytest
import seeded_weights
from ml_collections import ConfigDict

from skinjax import models
from skinjax.config import default_config
from skinjax.models import pretrained
from skinjax.models.pretrained import matching

GOLDEN = Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-4
NAMES = sorted(
    path.stem for path in GOLDEN.glob("*.npz") if path.stem.split("-")[0] in models.families()
)

# What is computed is the same at all levels; this one compiles in half the time.
QUICK_COMPILE: dict[str, Any] = {"xla_backend_optimization_level": 0}


class Network:
    """A network loaded from a weights file that is written here and removed again."""

    def __init__(self, name: str, folder: Path, lowering: str) -> None:
        self.golden = golden_file.read(GOLDEN / f"{name}.npz")
        path = folder / ("weights.h5" if self.golden.layers else "weights.safetensors")
        self.golden.write_weights(path)
        try:
            config = self._config(name, path, lowering)
            self.published = pretrained.find(config)
            self.model = models.create(config, num_classes=1000, axis_name=None)
            shapes = jax.eval_shape(
                lambda image: self.model.init(jax.random.key(0), image, train=False), self.image
            )
            loaded, self.report = pretrained.load(self.published, shapes, with_head=True)
        finally:
            path.unlink()  # pytest would keep it, all of them several gigabytes
        # A file without a classifier leaves the head's shapes; nothing is compared behind it.
        self.variables = jax.tree.map(
            lambda leaf: leaf if isinstance(leaf, np.ndarray) else np.zeros(leaf.shape), loaded
        )

    @staticmethod
    def _config(name: str, path: Path, lowering: str) -> ConfigDict:
        config: ConfigDict = default_config().model
        architecture, *variant = name.split("-")
        config.name, config.pretrained, config.lowering = architecture, str(path), lowering
        config.variant = variant[0] if variant else "timm"
        config.fully_connected = "notop" not in variant
        config.head = ()
        config.dtype = "float32"
        return config

    @property
    def image(self) -> np.ndarray:
        """The golden's image; Keras's golden were given pixels, which are normalised here."""
        if not self.golden.pixels:
            return self.golden.image
        normalization = self.published.normalization
        mean, std = np.asarray(normalization.mean), np.asarray(normalization.std)
        return ((self.golden.image / 255 - mean) / std).astype(np.float32)

    def evaluate(self) -> dict[str, np.ndarray]:
        """Returns the logits and the stages' feature maps."""
        stages = {("backbone", stage) for stage in self.model.backbone.stages}

        def forward(variables: Any, image: jax.Array) -> Any:
            logits, state = self.model.apply(
                variables,
                image,
                train=False,
                mutable=["intermediates"],
                capture_intermediates=lambda module, method: module.path in stages,
            )
            return logits, state["intermediates"]["backbone"]

        logits, found = compiled(forward, self.variables, self.image)
        maps = {stage: np.asarray(found[stage]["__call__"][0]) for stage in found}
        return {**maps, "logits": np.asarray(logits)}

    def train_step(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns one step's logits, and samples of the running statistics after it."""

        def forward(variables: Any, image: jax.Array) -> Any:
            return self.model.apply(variables, image, train=True, mutable=["batch_stats"])

        logits, state = compiled(forward, self.variables, self.image)
        found = self.statistics(state)
        return np.asarray(logits), golden_file.sample_statistics(found)

    def statistics(self, variables: Any) -> dict[str, np.ndarray]:
        """Returns the running means and variances by their names in the golden file, in order."""
        family = models.families()[self.published.name]
        arrays = {}
        for leaf in matching.leaves(variables, self.published.layout, family):
            if leaf.path[0] == "batch_stats":
                array = variables
                for part in leaf.path:
                    array = array[part]
                arrays[leaf.tensors[0]] = np.asarray(array)
        names = self.golden.statistics_names
        return {name: arrays[self._loader_name(name)] for name in names}

    def _loader_name(self, name: str) -> str:
        """The loader's name of a tensor: "bn/moving_mean" for Keras's "bn bn/moving_mean:0"."""
        loader_name = name.split(" ")[-1].removesuffix(":0")
        if self.published.name == "inception_v3" and self.golden.layers:
            number = int(re.findall(r"\d+", loader_name)[0])  # the published file counts from 1
            loader_name = loader_name.replace(
                f"_{number}/", f"_{number - 1}/" if number > 1 else "/"
            )
        return loader_name


def compiled(forward: Any, variables: Any, image: np.ndarray) -> Any:
    """Compiles a function and calls it."""
    lowered = jax.jit(forward).lower(variables, image)
    return lowered.compile(compiler_options=QUICK_COMPILE)(variables, image)


def relative(found: np.ndarray, reference: np.ndarray) -> float:
    """Returns the largest difference over the largest reference."""
    return float(np.abs(found - reference).max() / np.abs(reference).max())


def test_every_network_has_a_golden_file() -> None:
    goldens = {name.split("-")[0] for name in NAMES}
    assert goldens == {name for name in models.families() if not name.startswith("simple_cnn")}


def test_seeded_values_are_those_the_goldens_were_made_with() -> None:
    # If NumPy's raw stream changed, all the comparisons below would fail without saying why.
    weight = seeded_weights.values(seeded_weights.Tensor("conv.weight", (1, 4, 1, 1)), seed=1)
    np.testing.assert_allclose(
        weight.ravel(), [-0.4826675, 0.6953197, 0.6840695, -0.8967216], rtol=1e-6
    )
    image = seeded_weights.images((2, 3, 2, 3), seed=1)
    assert image[:, -1, -1].tolist() == [[170, 27, 205], [232, 232, 135]]


@pytest.mark.parametrize("name", NAMES)
def test_parity(name: str, tmp_path: Path) -> None:
    check(Network(name, tmp_path, lowering="xla"))


@pytest.mark.parametrize(
    "name", ["efficientnet_b0-tf", "resnet50", "convnext_tiny", "densenet121", "inception_v3-keras"]
)
def test_parity_of_the_lowering_for_the_cpu(name: str, tmp_path: Path) -> None:
    check(Network(name, tmp_path, lowering="cpu"))


def check(network: Network) -> None:
    """Compares everything that the golden file has."""
    golden = network.golden
    assert not network.report.unexpected
    assert network.report.head == ("eval/logits" in golden.map_shapes)
    found = network.evaluate()
    assert tuple(golden.stages) == network.model.backbone.stages
    errors = {}
    for key in golden.map_shapes:
        if key.startswith("eval/"):
            values = found[key.removeprefix("eval/")].reshape(golden.map_shapes[key])
            errors[key] = relative(golden_file.sample(values, key), golden.arrays[key])
    if golden.share:
        logits, after = network.train_step()
        key = "train/logits"
        errors[key] = relative(golden_file.sample(logits, key), golden.arrays[key])
        # A step moves the running statistics little: what the batch gave is compared.
        before = golden_file.sample_statistics(network.statistics(network.variables))
        reference = golden.arrays["train/statistics"]
        of_batch = [
            (now - golden.share * before) / (1 - golden.share) for now in (after, reference)
        ]
        for row, statistic in enumerate(golden.statistics_names):
            errors[f"train/{statistic}"] = relative(of_batch[0][row], of_batch[1][row])
    wrong = {key: f"{error:.1e}" for key, error in errors.items() if not error < TOLERANCE}
    assert not wrong, (
        f"{len(wrong)} of {len(errors)}, from the stem on: {dict(list(wrong.items())[:6])}"
    )
