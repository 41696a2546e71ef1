"""A run's records: CSV and TensorBoard logs, progress, and what was run with which versions."""

import csv
import datetime
import io
import json
import os
import platform
import re
import shlex
import stat
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import ml_collections
import numpy as np
from absl import logging
from tqdm import tqdm

from skinjax import config as config_lib
from skinjax import versions
from skinjax.errors import InputError

# Up to the last "@" and the next "&", so that a password with signs in it is not shown in part.
_PASSWORD = re.compile(r"(//[^:/\s]*:).*(?=@)")
_PASSWORD_IN_QUERY = re.compile(r"((?:password|passwd|pwd)(?:=|%3D))[^&\n]*", re.IGNORECASE)
_RATE_WINDOW = 30.0  # seconds over which images/s and the time left are measured


def write_bytes(path: Path | str, content: bytes) -> None:
    """Writes `path` whole or not at all: a temporary sibling, then a rename.

    Raises:
      OSError: the folder is missing or the disk full; `path` is then as it was before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path | str, text: str) -> None:
    """`write_bytes` of `text` as UTF-8."""
    write_bytes(path, text.encode())


def open_regular(path: Path | str, most_bytes: int) -> BinaryIO:
    """Opens a regular file of at most `most_bytes` for reading; a pipe or device never blocks.

    Raises:
      OSError: there is no such file, or it can't be opened.
      ValueError: it is no regular file, or larger.
    """
    # A FIFO that nobody writes to would be waited for without O_NONBLOCK, which files don't heed.
    file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # noqa: SIM115
    found = os.fstat(file.fileno())
    if stat.S_ISREG(found.st_mode) and found.st_size <= most_bytes:
        return file
    file.close()
    if stat.S_ISREG(found.st_mode):
        raise ValueError(f"it has {found.st_size} bytes, expected {most_bytes} at most")
    raise ValueError("it is no regular file")


def read_text(path: Path | str, most_bytes: int) -> str:
    """The text of a regular file in UTF-8, of at most `most_bytes`; line ends stay as they are.

    Raises:
      OSError: there is no such file, or it can't be read.
      ValueError: it is no regular file, larger, or no UTF-8.
    """
    with open_regular(path, most_bytes) as file:
        content = file.read(most_bytes + 1)  # it may have grown, or be one of /proc of no size
    if len(content) > most_bytes:
        raise ValueError(f"it has more than {most_bytes} bytes")
    return content.decode("utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Writes `value` as indented JSON, atomically; NumPy values and paths become plain ones.

    Raises:
      ValueError: a number is not finite, which JSON can't hold.
      TypeError: a value is of a kind that JSON can't hold.
      OSError: as in `write_bytes`.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    write_text(path, text + "\n")


def read_csv_log(path: Path | str) -> list[dict[str, str]]:
    """The rows of a CSV log as text by column, without a last line that a kill cut off.

    Raises:
      InputError: a row in the middle has not as many fields as the header.
    """
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    header, *rows = list(csv.reader(io.StringIO(whole))) or [[]]
    if rows and len(rows[-1]) != len(header):
        rows.pop()
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(
                f"{path} line {number} has {len(row)} fields, its header {len(header)}; "
                "the file was damaged: delete it, or restore it"
            )
    return [dict(zip(header, row, strict=True)) for row in rows]


class CsvLog:
    """A CSV file with fixed columns that grows by one row at a time and survives a kill.

    Opening an existing file goes on after its last whole line. Columns that it lacks, because an
    earlier version wrote it, are empty in its rows.
    """

    def __init__(self, path: Path | str, columns: Sequence[str]):
        """Opens or creates the file.

        Raises:
          InputError: the file that is there has a column that isn't among these.
        """
        self._path = Path(path)
        self._columns = tuple(columns)
        rows: list[dict[str, str]] = []
        if self._path.exists():
            head = self._path.read_text(encoding="utf-8", errors="replace").partition("\n")
            found = tuple(next(csv.reader([head[0]]), []))
            if head[1] and not set(found) <= set(self._columns):
                raise InputError(
                    f"{self._path} has the columns {', '.join(found)}, this run writes "
                    f"{', '.join(self._columns)}; use another work directory, or move the file away"
                )
            rows = read_csv_log(self._path) if head[1] else []
        self._rewrite(rows)

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds one row, at once on disk. A column that `row` leaves out, or None, is left empty.

        Raises:
          ValueError: `row` has a key that is no column.
        """
        self._file.write(self._line(row))
        self._file.flush()

    def truncate_after(self, step: int) -> None:
        """Drops the rows whose column `step` is beyond `step`: those of an interrupted run."""
        rows = [row for row in read_csv_log(self._path) if int(row["step"]) <= step]
        self._file.close()
        self._rewrite(rows)

    def close(self) -> None:
        """Closes the file. Closing twice does nothing."""
        self._file.close()

    def _rewrite(self, rows: Sequence[Mapping[str, Any]]) -> None:
        header = self._line({name: name for name in self._columns})
        write_text(self._path, header + "".join(map(self._line, rows)))
        self._file = self._path.open("a", encoding="utf-8", newline="")

    def _line(self, row: Mapping[str, Any]) -> str:
        unknown = [name for name in row if name not in self._columns]
        if unknown:
            raise ValueError(f"{self._path.name} has no columns {unknown}, only {self._columns}")
        buffer = io.StringIO()
        values = [_plain(row.get(name)) for name in self._columns]
        csv.writer(buffer, lineterminator="\n").writerow(values)
        return buffer.getvalue()


class TensorBoardLog:
    """Scalars as TensorBoard event files, if tensorboardX is installed; else one warning line."""

    def __init__(self, directory: Path | str, *, enabled: bool, resumed_step: int | None = None):
        """`enabled` False writes nothing; `resumed_step` hides what was logged after that step."""
        self._writer: Any = None
        if not enabled:
            return
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            logging.warning(
                "tensorboardX is not installed: no TensorBoard files will be written. Install "
                "skinjax[tensorboard], or turn it off in the config's log section."
            )
            return
        purge = None if resumed_step is None else resumed_step + 1
        self._writer = SummaryWriter(str(directory), purge_step=purge)

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Writes each value under its name (`train/loss`) at `step`; None is left out."""
        if self._writer is None:
            return
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, float(value), step)

    def close(self) -> None:
        """Writes what is still in memory and closes the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Progress:
    """How far a run is: a bar on a terminal, elsewhere a plain line every `interval` seconds."""

    def __init__(
        self,
        total: int,
        *,
        start: int = 0,
        label: str = "train",
        interval: float = 30.0,
        stream: TextIO | None = None,
        enabled: bool = True,
    ):
        """Counts steps from `start` (where a resumed run goes on) to `total`.

        `enabled` False shows nothing: for every process but the first.
        """
        self._total, self._step, self._label, self._interval = total, start, label, interval
        self._stream = sys.stderr if stream is None else stream
        self._enabled = enabled
        self._loss: float | None = None
        self._images = 0
        self._window: deque[tuple[float, int, int]] = deque(maxlen=1000)  # time, step, images
        self._shown_at: float | None = None
        self._shown_step = start
        self._bar: Any = None
        if enabled and self._stream.isatty():
            bar_format = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {postfix}"
            self._bar = tqdm(
                *(), total=total, initial=start, desc=label, file=self._stream,
                dynamic_ncols=True, bar_format=bar_format,
            )  # fmt: skip

    def update(self, step: int, *, images: int, loss: float | None = None) -> None:
        """Says that `step` steps are done, with `images` images since the last call."""
        now = time.monotonic()
        self._step = step
        self._images += images
        self._loss = self._loss if loss is None else loss
        self._window.append((now, step, self._images))
        while len(self._window) > 2 and now - self._window[0][0] > _RATE_WINDOW:
            self._window.popleft()
        if self._bar is not None:
            self._bar.set_postfix_str(self._state(), refresh=False)
            self._bar.update(step - self._bar.n)
        elif self._shown_at is None or now - self._shown_at >= self._interval:
            self._show(now)

    def line(self, text: str) -> None:
        """Prints one line of its own, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        elif self._enabled:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leaves the last state on the screen. Closing twice does nothing."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            self._enabled = False
        elif self._step != self._shown_step:
            self._show(time.monotonic())

    def _show(self, now: float) -> None:
        self._shown_at, self._shown_step = now, self._step
        self.line(f"{self._label} step {self._step}/{self._total} {self._state()}".rstrip())

    def _state(self) -> str:
        """Loss, images/s and time left, of what is known so far."""
        parts = [] if self._loss is None else [f"loss {self._loss:.4f}"]
        # The first step's time is mostly compilation: the rate is measured from its end.
        if len(self._window) > 1:
            (first, step, images), (last, _, _) = self._window[0], self._window[-1]
            seconds = max(last - first, 1e-9)
            left = (self._total - self._step) * seconds / max(self._step - step, 1)
            parts += [
                f"{(self._images - images) / seconds:.4g} images/s",
                f"{datetime.timedelta(seconds=round(left))} left",
            ]
        return ", ".join(parts)


def without_password(argument: str) -> str:
    """An argument of the command line with `***` for a password in an address."""
    return _PASSWORD.sub(r"\1***", _PASSWORD_IN_QUERY.sub(r"\1***", argument))


def describe_run(
    workdir: Path | str, config: ml_collections.ConfigDict, *, devices: Sequence[str]
) -> None:
    """Writes `config.json` (every field) and `versions.json` (one entry per start of the run).

    An entry holds the command (without passwords), Python, the platform, packages, the package's
    git commit and whether its checkout had changes (None outside one), and `devices`, in the
    caller's words.
    """
    workdir = Path(workdir)
    write_text(workdir / "config.json", config_lib.to_json(config) + "\n")
    path = workdir / "versions.json"
    try:
        starts = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        starts = []
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    start = {
        "started": now,
        "command": shlex.join(map(without_password, sys.orig_argv)),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": versions.installed(),
        "git": versions.git_state(Path(__file__).resolve().parent.parent),
        "devices": list(devices),
    }
    write_json(path, [*(starts if isinstance(starts, list) else []), start])


def _plain(value: Any) -> Any:
    """NumPy values and paths as plain Python ones; what is plain already stays."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} has no plain form: {value!r}")
