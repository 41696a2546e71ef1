"""The benchmark of a network's step runs, and its JSON is whole."""

import json
import sys

import numpy as np
import pytest

_FLAGS = ("--models=simple_cnn", "--kinds=train,infer", "--batch=8", "--size=32", "--rounds=2")


@pytest.fixture
def results(monkeypatch, tmp_path, capsys):
    """What the script writes; JAX runs as the tests have started it."""
    import network_step
    import train

    monkeypatch.setattr(network_step, "start", lambda devices, cached: None)
    monkeypatch.setattr(train, "_measured_apart", train.measure)
    path = tmp_path / "train.json"
    monkeypatch.setattr(sys, "argv", ["train.py", *_FLAGS, "--seconds=0.01", f"--json={path}"])
    train.main()
    assert capsys.readouterr().out.count("| simple_cnn |") == 2
    return json.loads(path.read_text())["results"]


def test_every_figure_is_there(results):
    assert [one["kind"] for one in results] == ["train", "infer"]
    for one in results:
        assert one["dtype"] == "float32"
        assert one["images_per_second"] == np.median(one["rounds"])
        assert one["peak_memory"] > 2**20
        assert one["peak_memory_of"] == "process"
        operations = one["images_per_second"] * one["flops_per_image"]
        assert one["utilisation"] == pytest.approx(operations / one["ceiling_flops_per_second"])
    train, infer = (one["flops_per_image"] for one in results)
    assert train == 3 * infer


def test_operations_of_a_published_network():
    import network_step

    # 1.81 G multiply-adds, as torchvision says, of which XLA leaves out 7 % that are with padding.
    work = network_step.Work("resnet18", "infer", 1, 224, "float32")
    assert network_step.flops(work) == pytest.approx(2 * 1.81e9, rel=0.08)


def test_an_unknown_network_is_refused(monkeypatch, capsys):
    import train

    monkeypatch.setattr(sys, "argv", ["train.py", "--models=resnet5"])
    with pytest.raises(SystemExit):
        train.main()
    assert "no networks: ['resnet5']; known are efficientnet_b0" in capsys.readouterr().err
