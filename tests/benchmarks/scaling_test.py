"""The benchmark of scaling runs, goes on after a failure, and leaves its JSON and no folder."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The driver, whose measurements are taken in this process."""
    import scaling
    import scaling_point

    def ask(kind: str, request: dict[str, Any], *_: Any) -> dict[str, Any]:
        try:
            found = getattr(scaling_point, kind)(**request)
        except Exception as error:
            return {"error": f"{kind}: {error}"}
        return {**found, "peak_bytes": 1 << 28}

    monkeypatch.setattr(scaling, "_ask", ask)
    return scaling


def run(scaling: ModuleType, monkeypatch: pytest.MonkeyPatch, work: Path, *flags: str) -> Any:
    """The results that the benchmark writes."""
    report = work.with_suffix(".json")
    command = ["scaling.py", f"--work={work}", f"--json={report}", "--seconds=0.01", *flags]
    monkeypatch.setattr(sys, "argv", command)
    scaling.main()
    assert list(work.iterdir()) == []
    written = json.loads(report.read_text())
    assert written["benchmark"] == "scaling"
    return written["results"]


def test_a_point_that_fails_is_said_and_the_others_go_on(
    scaling: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ("--sections=records", "--records=60,3,90", "--until=read", "--batch-size=8")
    one, failed, other = run(scaling, monkeypatch, tmp_path / "work", *flags, "--metadata")
    for found, records in ((one, 60), (other, 90)):
        assert found["prepare"]["records"] == records
        assert found["prepare"]["disk_bytes"] > records * 32 * 32 * 3
        assert 0 < found["read"]["records"] < records
        assert found["read"]["images_per_second"] > 0
        assert "train" not in found
    assert "a batch of 8 is larger" in failed["read"]["error"]
    printed = capsys.readouterr().out
    assert printed.count(failed["read"]["error"]) == 1
    assert "prepare 0 (3 to 90), read 0 (60 to 90)" in printed


def test_devices_are_compared_with_the_first_in_turns(
    scaling: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def steps(folder: str, fields: dict[str, Any], directory: str, **_: Any) -> dict[str, Any]:
        devices = fields["parallel.cpu_devices"]
        asked.append(devices)
        losses = [2.0, 1.0 + devices * 1e-6]
        return {"devices": devices, "processes": 1, "losses": losses, "step_seconds": devices / 8}

    point = sys.modules["scaling_point"]
    monkeypatch.setattr(point, "steps", steps)
    monkeypatch.setattr(point, "draw", lambda **_: {})
    monkeypatch.setattr(point, "prepare", lambda **_: {"directory": ""})
    flags = ("--sections=devices", "--devices=1,2", "--rounds=2")
    one, two = run(scaling, monkeypatch, tmp_path / "work", *flags)
    assert asked == [1, 2, 1, 2]
    row = dict(zip(scaling._MAPPED, scaling._mapped_row(two, one), strict=True))
    assert (row["devices"], row["images/s"], row["times one"]) == (2, 64 / 0.25, 2.0)
    assert row["loss off"] == pytest.approx(1e-6, rel=1e-3)


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    import scaling

    request = {"folder": str(tmp_path), "records": 5, "size": 0, "classes": 2}
    found = scaling._ask("draw", request, 60)
    assert found["error"].startswith("draw: error: OpenCV")
