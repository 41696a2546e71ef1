"""One progress bar over all bytes; where nobody looks at a terminal, a log line now and then."""

import sys
import time
from types import TracebackType

from absl import logging
from tqdm import tqdm

_LOG_SECONDS = 30.0


class Progress:
    """Counts bytes of `total`; `total` may still grow while it runs."""

    def __init__(self, verb: str, total: int) -> None:
        """Says `verb`, as "downloading"."""
        self._verb = verb
        self._logged = time.monotonic()
        self._bar = tqdm(
            total=total, desc=verb, unit="B", unit_scale=True, disable=not sys.stderr.isatty()
        )
        self.total = total
        self.done = 0

    def __enter__(self) -> "Progress":
        """Is itself the context."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leaves the bar where it is."""
        self._bar.close()

    def add(self, count: int) -> None:
        """Takes note of `count` more bytes, or fewer, where some have to be got again."""
        self.done += count
        self._bar.n = self.done
        self._bar.update(0)
        if self._bar.disable and time.monotonic() - self._logged > _LOG_SECONDS:
            self._logged = time.monotonic()
            logging.info("%s: %s of %s", self._verb, readable(self.done), readable(self.total))

    def expect(self, count: int) -> None:
        """Adds `count` to the total."""
        self.total += count
        self._bar.total = self.total
        self._bar.refresh()


def readable(count: int) -> str:
    """Bytes for people: 1500000 is `1.5 MB`."""
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
