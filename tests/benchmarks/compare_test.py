"""Turns with a peer, of which one here says how long it took, and the ratios to it."""

import json
import statistics
import sys

import pytest

_FLAGS = ("--models=simple_cnn", "--kinds=train", "--batch=8", "--size=32", "--rounds=3")


class _Peer:
    """Takes 1 ms for a step eager and 2 ms compiled, and can't do anything else."""

    versions = {"timm": "none"}  # noqa: RUF012

    def __init__(self, python: str, script: str, malloc: str) -> None:
        self.asked = []

    def ask(self, **request):
        from peer import PeerError

        if request.get("forget"):
            return {}
        self.asked.append(request)
        if request["mode"] not in ("eager", "compiled"):
            raise PeerError("RuntimeError: no such mode")
        seconds = {"eager": 0.001, "compiled": 0.002}[request["mode"]]
        return {"seconds": seconds * request["steps"]}

    def close(self) -> None:
        pass


@pytest.fixture
def found(monkeypatch, tmp_path, capsys):
    """The one result of the script's JSON, and what it has printed."""
    import compare
    import network_step
    import peer

    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    monkeypatch.setattr(network_step, "start", lambda devices, cached: None)
    monkeypatch.setattr(peer, "Peer", _Peer)
    path = tmp_path / "compare.json"
    flags = [*_FLAGS, "--seconds=0.01", "--peer=x", "--peers=eager,compiled,z", f"--json={path}"]
    monkeypatch.setattr(sys, "argv", ["compare.py", *flags])
    compare.main()
    (result,) = json.loads(path.read_text())["results"]
    return result, capsys.readouterr().out


def test_ratios_are_to_the_faster_peer_round_by_round(found):
    result, printed = found
    speeds, ratios = result["images_per_second"], result["ratios"]
    assert result["to"] == "timm eager"
    assert speeds["timm eager"] == pytest.approx([8000] * 3)
    assert ratios["timm compiled"] == pytest.approx([0.5] * 3)
    expected = [ours / 8000 for ours in speeds["skinjax auto"]]
    assert ratios["skinjax auto"] == pytest.approx(expected)
    assert f"| {statistics.median(expected):.2f} |" in printed


def test_a_peer_that_fails_is_said_and_the_others_go_on(found):
    result, printed = found
    assert result["about"]["timm z"] == {"error": "RuntimeError: no such mode"}
    assert "timm z" not in result["ratios"]
    assert "| timm z | RuntimeError: no such mode |" in printed


def test_the_wanted_ratio_stands_beside_ours_at_its_size():
    import compare
    from network_step import Work

    found = {
        "about": {"skinjax auto": {}, "timm eager": {}},
        "images_per_second": {"skinjax auto": [8.0, 9.0], "timm eager": [10.0, 10.0]},
        "ratios": {"skinjax auto": [0.8, 0.9], "timm eager": [1.0, 1.0]},
    }
    ours, theirs = compare._rows(Work("resnet50", "train", 8, 224, "float32"), found)
    assert ours[-3:] == ["0.85", "0.80 to 0.90", ">= 0.9"]
    assert theirs[-1] is None
    assert compare._rows(Work("resnet50", "train", 8, 192, "float32"), found)[0][-1] is None
