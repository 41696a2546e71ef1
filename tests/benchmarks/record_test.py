"""Tables and JSON of the benchmarks, and what they ask of a peer."""

import json
import sys
from pathlib import Path

import pytest

_FOLDER = Path(__file__).resolve().parents[2] / "scripts/benchmarks"
_PEER = """
import sys
sys.path.insert(0, {folder!r})
import peer

def answer(number):
    print("a library says something")
    return {{"half": number / 2}}

peer.serve({{"name": "half"}}, answer)
"""


def test_a_table_is_markdown():
    import record

    rows = [["one", 0.12345, None], ["two", 12345.6, 3]]
    assert record.table(["name", "value", "more"], rows).splitlines() == [
        "| name | value | more |",
        "| --- | --- | --- |",
        "| one | 0.123 |  |",
        "| two | 12,346 | 3 |",
    ]


def test_a_report_says_where_it_was_measured(tmp_path, capsys, monkeypatch):
    import record

    monkeypatch.setattr(sys, "argv", ["scripts/benchmarks/x.py", "--name=a b"])
    path = tmp_path / "folder" / "x.json"
    record.report(str(path), "x", [{"speed": 1.5}], ["speed"], [[1.5]])
    assert "| 1.50 |" in capsys.readouterr().out
    written = json.loads(path.read_text())
    assert written["benchmark"] == "x"
    assert written["command"] == "python scripts/benchmarks/x.py '--name=a b'"
    assert written["results"] == [{"speed": 1.5}]
    assert written["machine"]["cores"] >= 1
    assert written["machine"]["memory"] > 2**30
    assert {"python", "jax", "numpy"} <= written["versions"].keys()


def test_a_report_without_a_path_writes_nothing(tmp_path, monkeypatch):
    import record

    monkeypatch.chdir(tmp_path)
    record.report("", "x", [], ["speed"], [])
    assert not list(tmp_path.iterdir())


def test_a_peer_answers_and_outlives_an_error(tmp_path):
    import peer

    script = tmp_path / "half.py"
    script.write_text(_PEER.format(folder=str(_FOLDER)))
    with peer.Peer(sys.executable, script) as half:
        assert half.versions == {"name": "half"}
        assert half.ask(number=3) == {"half": 1.5}
        with pytest.raises(peer.PeerError, match=r"^TypeError: unsupported operand"):
            half.ask(number="three")
        assert half.ask(number=5) == {"half": 2.5}


def test_a_dead_peer_ends_the_benchmark(tmp_path):
    import peer

    script = tmp_path / "dead.py"
    script.write_text("raise SystemExit(3)")
    with pytest.raises(SystemExit, match="exit 3"):
        peer.Peer(sys.executable, script)


@pytest.mark.parametrize("wanted", ["tuned", "default"])
def test_a_peer_allocates_as_it_is_told(tmp_path, monkeypatch, wanted):
    import peer

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    script = tmp_path / "half.py"
    told = _PEER.replace('"half"}}', '"half", "malloc": peer.keep_freed_memory()}}')
    script.write_text(told.format(folder=str(_FOLDER)))
    with peer.Peer(sys.executable, script, wanted) as half:
        assert half.versions["malloc"] == wanted
