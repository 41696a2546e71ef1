"""Tests of what config files train, as stages or as Keras's layers."""

import pytest

from skinjax import freezing
from skinjax.config import default_config
from skinjax.errors import InputError


def test_last_stages() -> None:
    model = default_config().model
    model.name = "resnet18"
    assert freezing.last_stages(model, 0) == ("head",)
    assert freezing.last_stages(model, 2) == ("layer3", "layer4", "head")
    with pytest.raises(InputError, match=r"the last 6 stages of resnet18 .* it has 5: stem"):
        freezing.last_stages(model, 6)


def test_the_cuts_of_the_reference_projects() -> None:
    tail = freezing.keras_after("efficientnet_b0", 150)
    assert tail[0] == "head"
    assert "backbone/block5/block2/bn_expand" not in tail
    assert "backbone/block5/block2/conv_depthwise" in tail
    last_50 = set(freezing.keras_last("efficientnet_b0", 50))
    assert "backbone/block6/block1/conv_project" in last_50
    assert "backbone/block6/block1/se/conv_expand" not in last_50
    last_30 = set(freezing.keras_last("resnet50", 30))
    assert "backbone/layer4/block0/bn2" in last_30
    assert "backbone/layer4/block0/bn1" not in last_30
