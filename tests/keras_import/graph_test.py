"""Keras's ways to write one model."""

import copy
from pathlib import Path
from typing import Any

import pytest

from skinjax.errors import InputError
from skinjax.keras_import import base, graph, head
from skinjax.models.pretrained.keras_file import open_keras


@pytest.mark.parametrize("keras_2", [False, True])
@pytest.mark.parametrize("form", ["nested", "flat", "sequential"])
def test_every_form_is_the_same_model(
    golden: Any, tmp_path: Path, form: str, keras_2: bool
) -> None:
    path = golden.write(tmp_path / "model.h5", form, keras_2=keras_2)
    found = graph.read(path)
    assert base.image_size(found, 224, "x") == 64
    layers, tail = base.split(found, "resnet50", "x")
    nested, nested_tail = base.split(graph.parse(golden.config("nested")), "resnet50", "x")
    assert {node.name for node in layers} == {node.name for node in nested}
    assert head.describe(tail, "x") == head.describe(nested_tail, "x")
    with open_keras(path) as tensors:
        assert set(tensors.shapes) == set(golden.tensors)


def test_branches_are_refused(golden: Any) -> None:
    model = golden.config("flat")
    twice = model["config"]["layers"][-1]["inbound_nodes"]
    twice.append(twice[0])
    with pytest.raises(InputError, match=r"'dense_2' .* is used 2 times"):
        graph.parse(model)
    model = golden.config("flat")
    model["config"]["output_layers"] = [["dense_1", 0, 0], ["dense_2", 0, 0]]
    with pytest.raises(InputError, match="has 2 outputs"):
        graph.parse(model)


def test_a_head_that_joins_branches_is_refused(golden: Any) -> None:
    model = golden.config("flat")
    (call,) = model["config"]["layers"][-1]["inbound_nodes"]
    other = copy.deepcopy(call["args"][0])
    other["config"]["keras_history"][0] = "dense_1"
    call["args"].append(other)
    with pytest.raises(InputError, match=r"'dense_2' \(Dense\) takes 2 inputs; expected one layer"):
        base.split(graph.parse(model), "resnet50", "model.h5")
