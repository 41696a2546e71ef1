"""Turns of whole trainings, whose verbs and peer say here how long they took."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from skinjax import config as config_lib
from skinjax.data import builder


class _Torch:
    """Takes 4 s for the first epoch and 2 s for each other."""

    versions = {"torch": "none"}  # noqa: RUF012

    def __init__(self, python: str, script: str, malloc: str) -> None:
        assert script == "peer_training.py"

    def __enter__(self) -> "_Torch":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def ask(self, **request: Any) -> dict[str, Any]:
        files = {name: sorted(Path(request["folder"], name).iterdir()) for name in ("train", "val")}
        labels = {int(path.stem.split("_")[1]) for path in files["train"]}
        assert labels == set(range(request["classes"]))
        batch = request["batch"]
        images = len(files["train"]) // batch * batch + len(files["val"])
        seconds = [4.0] + [2.0] * (request["epochs"] - 1)
        return {"epochs": seconds, "seconds": sum(seconds), "images": images}


def test_parts_and_turns(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    config: ConfigDict,
) -> None:
    import end_to_end

    def verb(work: Path, name: str, *arguments: str) -> dict[str, float]:
        if name == "train":
            run = config_lib.load_config(work / "end_to_end_config.json")
            assert (run.epochs, run.batch_size, run.model.name) == (3, 16, "resnet18")
            (work / "run").mkdir()
            (work / "run" / "history.csv").write_text("epoch,seconds\n1,9\n2,1\n3,1\n")
        return {"seconds": 12.0, "compile_seconds": 5.0}

    monkeypatch.setattr(end_to_end, "_verb", verb)
    monkeypatch.setattr(end_to_end, "Peer", _Torch)
    data = builder.prepare(config)
    path = tmp_path / "end_to_end.json"
    flags = [f"--work={tmp_path}", f"--data={data.directory}", f"--json={path}", "--peer=python"]
    monkeypatch.setattr(sys, "argv", ["end_to_end.py", *flags, "--model=resnet18", "--rounds=2"])
    end_to_end.main()
    printed = capsys.readouterr().out
    assert "| all | 36.0 | 36.0 |" in printed
    images = sum(data.counts["train"]) // 16 * 16 + sum(data.counts["val"])
    parts, turns = json.loads(path.read_text())["results"]
    about = {name: value for name, value in parts.items() if name != "parts"}
    assert about == {
        "model": "resnet18",
        "batch": 16,
        "dtype": "float32",
        "epochs": 3,
        "images": {split: sum(counts) for split, counts in data.counts.items()},
    }
    assert f"model resnet18, batch 16, dtype float32, epochs 3, images {about['images']}" in printed
    assert set(parts["parts"]) == {"empty cache", "again"}
    assert turns["rounds"] == {
        "skinjax": [images] * 2,
        "torch": [images / 2] * 2,
        "whole": [images * 3 / 12] * 2,
        "torch_whole": [images * 3 / 8] * 2,
    }
    assert "| 2.00 | 2.00 to 2.00 | 1.20 |" in printed
