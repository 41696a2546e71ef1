import io
import sys

import pytest

from skinjax.download import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal_over_all_bytes(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.Progress("downloading", 1000) as shown:
        shown.add(400)
        shown.add(-100)
        shown.expect(500)
        shown.add(700)
    drawn = sys.stderr.getvalue()
    assert "downloading:  67%" in drawn.split("\r")[-1]
    assert "1.00k/1.50k" in drawn.split("\r")[-1]


def test_lines_now_and_then_elsewhere(monkeypatch, caplog):
    caplog.set_level("INFO", logger="absl")
    clock = iter([0.0, 10.0, 31.0, 31.0, 40.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.Progress("downloading", 3_000_000_000) as shown:
        for _ in range(3):
            shown.add(700_000_000)
    assert caplog.messages == ["downloading: 1.4 GB of 3.0 GB"]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1500, "1.5 kB"),
        (2_500_000, "2.5 MB"),
        (9.8e9, "9.8 GB"),
    ],
)
def test_readable(count, text):
    assert progress.readable(int(count)) == text
