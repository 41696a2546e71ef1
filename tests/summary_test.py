"""Tests of the table of parameters, against Keras's figures."""

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from skinjax import freezing, models, phases, summary
from skinjax.config import default_config
from skinjax.layer_paths import Layers


@pytest.fixture
def binary_reference() -> ConfigDict:
    config = default_config()
    config.model.update(name="resnet50", variant="keras", head=("bn_512_256_sigmoid",))
    config.phases_from_scratch = True
    return config


def resolve(config: ConfigDict) -> tuple[dict, phases.Phase, Layers]:
    model = models.create(config.model, num_classes=2, axis_name=None)
    images = jnp.zeros((1, 64, 64, 3))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    layers = Layers.of(shapes, model.stages)
    return shapes, phases.resolve(config, layers, steps_per_epoch=1)[0], layers


def test_the_binary_reference_project_counts_as_in_keras(binary_reference: ConfigDict) -> None:
    binary_reference.trainable = freezing.keras_last("resnet50", 30)
    text = summary.describe(*resolve(binary_reference))
    assert "total 24,778,625 " in text
    # What Keras says of it: batch statistics are parameters that are not trained.
    assert "  trainable 15,635,969\n" in text
    assert text.endswith("  not trainable 9,142,656")
    assert "layer4" in text


def test_counts_by_stage_add_up(binary_reference: ConfigDict) -> None:
    binary_reference.trainable = ("head", "layer4")
    shapes, phase, layers = resolve(binary_reference)
    counts = summary.counts(shapes, phase, layers)
    assert list(counts) == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    assert counts["stem"] == {
        "trainable": 0,
        "frozen": 64 * (7 * 7 * 3 + 1) + 128,
        "statistics": 128,
    }
    assert counts["head"]["frozen"] == 0
    assert counts["head"]["statistics"] == 2 * 2048 + 2 * 512
    total = sum(sum(count.values()) for count in counts.values())
    assert total == sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_the_table_says_what_is_trained(binary_reference: ConfigDict) -> None:
    binary_reference.trainable = ("head", "backbone/layer4/block2/conv3")
    rows = {
        line.split()[0]: line.split()[1:]
        for line in summary.describe(*resolve(binary_reference)).splitlines()
    }
    assert rows["stage"] == ["parameters", "statistics", "trained"]
    assert rows["layer3"][-1] == "frozen"
    assert rows["layer4"][-1] == f"{512 * 2048 + 2048:,}"
    assert rows["head"][-1] == "all"
