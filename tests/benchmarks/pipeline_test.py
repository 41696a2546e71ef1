"""The pipelines' turns at toy sizes, with a DataLoader that only says how fast it was."""

import argparse
import json
import sys

import numpy as np
import pytest

from skinjax.data import images, threads

_FLAGS = ("--count=14", "--size=32", "--batch=4", "--threads=1", "--workers=", "--rounds=2")


class _Peer:
    """Takes a millisecond an image with two workers, two in this process, and can't do three."""

    versions = {"torch": "none"}  # noqa: RUF012
    asked: list[dict] = []  # noqa: RUF012

    def __init__(self, python: str, script: str, malloc: str) -> None:
        assert (python, script) == ("x", "peer_loader.py")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def ask(self, **request):
        from peer import PeerError

        self.asked.append(request)
        if request["workers"] == 3:
            raise PeerError("RuntimeError: no third")
        seconds = 0.1 if request["workers"] else 0.2
        return {"images": 100, "seconds": seconds, "decoder": "decode_pillow"}


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """Runs the script; gives its results by what they are of."""
    import pipeline

    monkeypatch.setattr(pipeline.parallel, "initialize", lambda settings: None)
    monkeypatch.setattr(pipeline, "Peer", _Peer)
    monkeypatch.setattr(_Peer, "asked", [])

    def run(*flags):
        path = tmp_path / "out.json"
        given = ["--seconds=0.01", f"--work={tmp_path / 'work'}", f"--json={path}", *flags]
        monkeypatch.setattr(sys, "argv", ["pipeline.py", *_FLAGS, *given])
        pipeline.main()
        return {one["what"]: one for one in json.loads(path.read_text())["results"]}

    return run


def test_each_source_takes_its_turns(benchmark, tmp_path, capsys):
    results = benchmark()
    cores = threads.available_cores()
    bare = f"bare, {cores} threads"
    pipelines = {f"pipeline, {source}, 1 threads" for source in ("jpeg", "raw", "cache")}
    assert set(results) == {"bare, 1 threads", bare} | pipelines
    for one in results.values():
        assert len(one["rounds"]) == 2
        assert min(one["rounds"]) > 0
        assert one["to_dataloader"] is None
    assert results[bare]["to_imdecode"] == 1
    rates = [results[what]["rounds"] for what in ("pipeline, jpeg, 1 threads", bare)]
    ratios = [one / other for one, other in zip(*rates, strict=True)]
    assert results["pipeline, jpeg, 1 threads"]["to_imdecode"] == pytest.approx(sum(ratios) / 2)
    assert "| pipeline, raw, 1 threads |" in capsys.readouterr().out
    files = sorted((tmp_path / "work").rglob("files/*.jpg"))
    assert len(files) == 14
    assert images.decode(files[0]).shape == (32, 32, 3)  # what the peer reads


def test_ratios_to_the_fastest_loader_that_augments(benchmark, capsys):
    results = benchmark("--peer=x", "--peer_workers=0,2,3", "--sources=raw")
    assert results["DataLoader, augmented, 0 workers"]["to_dataloader"] == pytest.approx(0.5)
    assert results["DataLoader, augmented, 0 workers"]["decoder"] == "decode_pillow"
    assert results["DataLoader, augmented, 0 workers"]["peer"] == {"torch": "none"}
    assert results["DataLoader, decoded alone, 2 workers"]["to_dataloader"] == pytest.approx(1)
    assert "DataLoader, augmented, 3 workers" not in results  # said, and the others go on
    assert "DataLoader, augmented, 3 workers: RuntimeError: no third" in capsys.readouterr().out
    asked = _Peer.asked[0]
    assert (asked["batch"], asked["workers"]) == (4, 0)
    assert asked["augment"]["rotation_degrees"] == 3.0
    assert _Peer.asked[-1]["augment"] == {}


def test_other_images_are_not_taken_for_those_of_an_earlier_run(tmp_path):
    import pipeline

    for shade in (0, 200):
        folder = tmp_path / str(shade)
        folder.mkdir()
        image_HWC = np.full((8, 8, 3), shade, np.uint8)
        (folder / "one.jpg").write_bytes(images.encode_jpeg(image_HWC))
        given = {"images": str(folder), "work": tmp_path / "work", "count": 2, "size": 8}
        files = pipeline._prepare(argparse.Namespace(**given))["files"]
        means = [images.decode(path).mean() for path in files.iterdir()]
        assert means == pytest.approx([shade] * 2, abs=2)
