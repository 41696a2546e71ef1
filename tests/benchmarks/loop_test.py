"""The benchmark of the training loop runs, and its JSON is whole."""

import json
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from skinjax.data import builder


def test_every_figure_is_there(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    config: ConfigDict,
) -> None:
    import loop

    monkeypatch.setattr(loop.parallel, "initialize", lambda settings: None)  # as tests have it
    data = builder.prepare(config).directory
    path = tmp_path / "loop.json"
    flags = [f"--work={tmp_path}", f"--data={data}", f"--json={path}", "--models=simple_cnn"]
    more = ["--on_device=off", "--rounds=2", "--seconds=0.01", "--threads=1", "--batch=8"]
    monkeypatch.setattr(sys, "argv", ["loop.py", *flags, *more])
    loop.main()
    printed = capsys.readouterr().out
    assert "| simple_cnn | raw shards | 8 |" in printed
    written = json.loads(path.read_text())
    assert written["benchmark"] == "loop"
    assert [one["on_device"] for one in written["results"]] == ["off"]
    for one in written["results"]:
        assert (one["batch"], one["size"], one["steps"] >= 4) == (8, 16, True)
        assert len(one["bare"]) == len(one["loop"]) == len(one["ratios"]) == 2
        assert one["ratios"] == pytest.approx(
            [a / b for a, b in zip(one["loop"], one["bare"], strict=True)]
        )
        assert 0 <= one["waiting"] <= 1
