"""The run's records: CSV logs, TensorBoard, progress, atomic writing, description of a run."""

import io
import json
import logging
import os
import shlex
import struct
import sys

import ml_collections
import numpy as np
import pytest

from skinjax import logs
from skinjax.errors import InputError

COLUMNS = ("step", "phase", "loss")


@pytest.fixture
def open_log(tmp_path):
    """Opens `log.csv` as often as a test wants, and closes what is open at the end."""
    opened = []

    def open_log(columns=COLUMNS):
        opened.append(logs.CsvLog(tmp_path / "log.csv", columns))
        return opened[-1]

    yield open_log
    for log in opened:
        log.close()


def test_csv_log_writes_the_header_once_and_floats_exactly(tmp_path, open_log):
    open_log().append({"step": 1, "phase": "head, first", "loss": 0.1 + 0.2})
    open_log().append({"step": np.int64(2), "loss": np.float32(0.1)})
    text = (tmp_path / "log.csv").read_text()
    assert text == (
        'step,phase,loss\n1,"head, first",0.30000000000000004\n2,,0.10000000149011612\n'
    )
    assert logs.read_csv_log(tmp_path / "log.csv")[1] == {
        "step": "2",
        "phase": "",
        "loss": "0.10000000149011612",
    }


def test_csv_log_row_is_on_disk_at_once(tmp_path, open_log):
    open_log().append({"step": 1})
    assert (tmp_path / "log.csv").read_text().endswith("1,,\n")


def test_csv_log_drops_what_is_beyond_the_resumed_step(tmp_path, open_log):
    log = open_log()
    for step in (10, 20, 30):
        log.append({"step": step, "loss": step / 8})
    log.close()
    log = open_log()
    log.truncate_after(20)
    log.append({"step": 25, "loss": 0.5})
    steps = [row["step"] for row in logs.read_csv_log(tmp_path / "log.csv")]
    assert steps == ["10", "20", "25"]


@pytest.mark.parametrize("cut", range(1, len("20,all,0.125\n") + 1))
def test_csv_log_tolerates_a_last_line_that_a_kill_cut_off(tmp_path, open_log, cut):
    log = open_log()
    log.append({"step": 10, "phase": "all", "loss": 0.25})
    log.append({"step": 20, "phase": "all", "loss": 0.125})
    log.close()
    path = tmp_path / "log.csv"
    path.write_text(path.read_text()[:-cut])
    assert [row["step"] for row in logs.read_csv_log(path)] == ["10"]
    open_log().append({"step": 30, "loss": 1.0})
    assert path.read_text() == "step,phase,loss\n10,all,0.25\n30,,1.0\n"


@pytest.mark.parametrize("content", ["", "st", "step,phase,loss"])
def test_csv_log_begins_anew_where_not_even_the_header_is_whole(tmp_path, open_log, content):
    (tmp_path / "log.csv").write_text(content)
    open_log().append({"step": 1})
    assert (tmp_path / "log.csv").read_text() == "step,phase,loss\n1,,\n"


def test_csv_log_refuses_other_columns_and_keeps_the_file(tmp_path, open_log):
    open_log().append({"step": 1})
    before = (tmp_path / "log.csv").read_text()
    with pytest.raises(InputError, match="columns step, phase, loss, this run writes step, auc"):
        open_log(("step", "auc"))
    assert (tmp_path / "log.csv").read_text() == before


def test_csv_log_refuses_a_key_that_is_no_column(open_log):
    with pytest.raises(ValueError, match=r"no columns \['los'\]"):
        open_log().append({"step": 1, "los": 2.0})


def test_damage_in_the_middle_of_a_log_is_an_error(tmp_path):
    (tmp_path / "log.csv").write_text("step,loss\n1\n2,0.5\n")
    with pytest.raises(InputError, match="line 2 has 1 fields, its header 2"):
        logs.read_csv_log(tmp_path / "log.csv")


def test_write_json_takes_numpy_and_paths(tmp_path):
    value = {"a": np.float32(0.5), "b": np.arange(2), "c": tmp_path, "d": (1, None, "é")}
    logs.write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": 0.5, "b": [0, 1], "c": str(tmp_path), "d": [1, None, "é"]}
    assert "é" in text


@pytest.mark.parametrize(("value", "error"), [(float("nan"), ValueError), (object(), TypeError)])
def test_failed_write_json_leaves_the_old_file(tmp_path, value, error):
    logs.write_json(tmp_path / "x.json", 1)
    with pytest.raises(error):
        logs.write_json(tmp_path / "x.json", {"a": value})
    assert (tmp_path / "x.json").read_text() == "1\n"


def test_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    logs.write_json(tmp_path / "x.json", 1)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        logs.write_json(tmp_path / "x.json", 2)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("x.json", "1\n")]


def _tensorboard_scalars(directory):
    """(step, name, value) of every scalar in the event files, read as TFRecords."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(directory.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            content = content[16 + length :]
    return found


def test_tensorboard_scalars_are_read_back(tmp_path):
    pytest.importorskip("tensorboardX")
    log = logs.TensorBoardLog(tmp_path / "tb", enabled=True)
    log.scalars(3, {"train/loss": 0.5, "val/auc": None, "val/loss": np.float32(0.25)})
    log.close()
    log.close()
    assert _tensorboard_scalars(tmp_path / "tb") == [
        (3, "train/loss", 0.5),
        (3, "val/loss", 0.25),
    ]


def test_tensorboard_off_writes_nothing(tmp_path):
    log = logs.TensorBoardLog(tmp_path / "tb", enabled=False)
    log.scalars(1, {"loss": 1.0})
    log.close()
    assert not (tmp_path / "tb").exists()


def test_tensorboard_that_is_not_installed_is_one_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setattr(logging.getLogger("absl"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        log = logs.TensorBoardLog(tmp_path / "tb", enabled=True)
        log.scalars(1, {"loss": 1.0})
        log.scalars(2, {"loss": 1.0})
        log.close()
    assert [r.levelname for r in caplog.records if "tensorboardX" in r.getMessage()] == ["WARNING"]
    assert not (tmp_path / "tb").exists()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""

    class Clock:
        now = 100.0

    monkeypatch.setattr("skinjax.logs.time.monotonic", lambda: Clock.now)
    return Clock


def test_progress_without_a_terminal_is_a_line_per_interval(clock):
    stream = io.StringIO()
    progress = logs.Progress(100, interval=10, stream=stream)
    for step in range(1, 31):
        progress.update(step, images=64, loss=1 / step)
        clock.now += 1.0
    progress.close()
    progress.close()
    assert stream.getvalue().splitlines() == [
        "train step 1/100 loss 1.0000",
        "train step 11/100 loss 0.0909, 64 images/s, 0:01:29 left",
        "train step 21/100 loss 0.0476, 64 images/s, 0:01:19 left",
        "train step 30/100 loss 0.0333, 64 images/s, 0:01:10 left",
    ]


def test_progress_forgets_how_slow_it_was(clock):
    stream = io.StringIO()
    progress = logs.Progress(1000, interval=1, stream=stream)
    for step in range(1, 101):
        progress.update(step, images=10)
        clock.now += 60.0 if step < 5 else 1.0
    assert "10 images/s" in stream.getvalue().splitlines()[-1]


def test_progress_of_a_resumed_run_counts_from_where_it_was(clock):
    stream = io.StringIO()
    progress = logs.Progress(100, start=50, interval=0, stream=stream)
    for step in (51, 52):
        progress.update(step, images=8)
        clock.now += 2.0
    assert stream.getvalue().splitlines()[-1] == "train step 52/100 4 images/s, 0:01:36 left"


def test_progress_on_a_terminal_is_a_bar():
    stream = _Terminal()
    progress = logs.Progress(10, start=4, stream=stream)
    for step in range(5, 11):
        progress.update(step, images=8, loss=0.125)
    progress.line("epoch 1: validation loss 0.5")
    progress.close()
    progress.close()
    shown = stream.getvalue()
    assert "epoch 1: validation loss 0.5\n" in shown
    assert "4/10" in shown.split("\r")[1]
    last = shown.split("\r")[-1]
    assert "100%" in last
    assert "10/10" in last
    assert "loss 0.1250" in last
    assert "images/s" in last
    assert "left" in last


@pytest.mark.parametrize("stream", [io.StringIO(), _Terminal()])
def test_progress_of_the_other_processes_is_silent(stream):
    progress = logs.Progress(10, stream=stream, enabled=False)
    progress.update(1, images=8, loss=1.0)
    progress.line("a line")
    progress.update(2, images=8, loss=1.0)
    progress.close()
    assert stream.getvalue() == ""


def test_describe_run_keeps_an_entry_for_every_start(tmp_path):
    config = ml_collections.ConfigDict({"seed": 1, "data": {"split": (0.7, 0.15, 0.15)}})
    logs.describe_run(tmp_path, config, devices=["cpu:0"])
    logs.describe_run(tmp_path, config.lock(), devices=["cuda:0", "cuda:1"])
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "seed": 1,
        "data": {"split": [0.7, 0.15, 0.15]},
    }
    first, second = json.loads((tmp_path / "versions.json").read_text())
    assert first["devices"] == ["cpu:0"]
    assert second["devices"] == ["cuda:0", "cuda:1"]
    assert first["packages"]["numpy"] == np.__version__
    assert {"jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain"} <= set(first["packages"])
    assert first["python"] == sys.version.split()[0]
    assert first["command"] == shlex.join(sys.orig_argv)
    assert set(first) == {
        *("started", "command", "python", "platform", "packages", "git", "devices")
    }


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        (
            "--storage=postgresql://me:hunter2@host:5432/db",
            "--storage=postgresql://me:***@host:5432/db",
        ),
        ("x://me:a@b/c@host/db", "x://me:***@host/db"),
        ("x://me@corp:a@host/db", "x://me@corp:***@host/db"),
        ("x://host/db?a=1&password=hunter2&b=2", "x://host/db?a=1&password=***&b=2"),
        ("x:///?odbc_connect=UID%3Dme%3BPWD%3Dhunter2", "x:///?odbc_connect=UID%3Dme%3BPWD%3D***"),
        ("x://me@host:54/db?password=a@b", "x://me@host:54/db?password=***"),
        ("x://host:80/db", "x://host:80/db"),
        ("--config.data.raw_dir=/data/a@b:c", "--config.data.raw_dir=/data/a@b:c"),
    ],
)
def test_no_password_is_written_down(tmp_path, monkeypatch, argument, shown):
    monkeypatch.setattr(sys, "orig_argv", ["python", "tune", argument])
    logs.describe_run(tmp_path, ml_collections.ConfigDict(), devices=[])
    (start,) = json.loads((tmp_path / "versions.json").read_text())
    assert shlex.split(start["command"]) == ["python", "tune", shown]


def test_describe_run_survives_a_broken_versions_file(tmp_path):
    (tmp_path / "versions.json").write_text('[{"started"')
    logs.describe_run(tmp_path, ml_collections.ConfigDict(), devices=[])
    assert len(json.loads((tmp_path / "versions.json").read_text())) == 1


def test_text_is_read_from_regular_files_of_a_size_alone(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes("é\r\n".encode())
    assert logs.read_text(path, 4) == "é\r\n"
    (tmp_path / "link").symlink_to(path)
    assert logs.read_text(str(tmp_path / "link"), 4) == "é\r\n"
    with pytest.raises(ValueError, match="it has 4 bytes, expected 3 at most"):
        logs.read_text(path, 3)
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="utf-8"):
        logs.read_text(path, 4)
    with pytest.raises(FileNotFoundError):
        logs.read_text(tmp_path / "none", 4)


def test_a_pipe_a_device_or_a_folder_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match="no regular file"):
            logs.read_text(path, 4)
    with pytest.raises((OSError, ValueError)):
        logs.read_text(tmp_path, 4)
    with pytest.raises(ValueError, match="more than 4 bytes"):
        logs.read_text("/proc/self/status", 4)
