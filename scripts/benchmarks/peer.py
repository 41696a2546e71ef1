"""A peer in a process of its own, with another environment's Python, asked in lines of JSON.

The benchmark has a `Peer`; the script that it starts imports this file, too, and calls `serve`. So
nothing but the standard library is imported here.
"""

import argparse
import contextlib
import ctypes
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

_MALLOC = "SKINJAX_PEER_MALLOC"  # the peer's environment says to it which allocation it has


class PeerError(Exception):
    """The peer could not do what it was asked; it goes on."""


class Peer:
    """The process, and what is said to it."""

    def __init__(self, python: str, script: str | Path, malloc: str = "tuned") -> None:
        """Starts a script of this folder (or any by its full path) and waits for its versions.

        Args:
          python: of the environment that it needs.
          script: calls `serve`.
          malloc: "tuned" or "default", as `add_malloc_flag` explains it.
        """
        command = [python, str(Path(__file__).resolve().parent / script)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {_MALLOC: malloc},
        )
        self.versions = self._answer()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Its answer.

        Raises:
          PeerError: with its message.
          SystemExit: it has died.
        """
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # `_answer` says so
            print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = self._answer()
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):  # it has died
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise SystemExit(
                f"the peer has died (exit {self._process.returncode}); its message is above"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer


def add_malloc_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --peer_malloc, for `Peer`."""
    parser.add_argument(
        "--peer_malloc",
        default="tuned",
        choices=("tuned", "default"),
        help="how the peer allocates on a CPU: with skinjax's tuning of glibc, or as PyTorch comes,"
        " which is slower (default: %(default)s)",
    )


def keep_freed_memory() -> str:
    """Tunes the peer's glibc as `skinjax.parallel` does its own, where the benchmark asks for it.

    Without it each step maps and clears its memory anew, and the peer's training on a CPU takes up
    to half as long again: a ratio to that would praise skinjax for a setting of malloc. A peer
    calls it before it imports anything that starts threads. With a GPU, or without glibc, it does
    nothing.

    Returns:
      "tuned" or "default", for the peer's versions.
    """
    has_gpu = os.path.exists("/dev/nvidiactl") and os.environ.get("CUDA_VISIBLE_DEVICES") != ""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if os.environ.get(_MALLOC) != "tuned" or has_gpu or mallopt is None:
        return "default"
    mmap_max, trim_threshold, arena_max = -4, -1, -8  # from malloc.h
    for name, value in ((mmap_max, 0), (trim_threshold, -1), (arena_max, 1)):
        mallopt(name, value)
    return "tuned"


def serve(versions: dict[str, Any], answer: Callable[..., dict[str, Any]]) -> None:
    """The peer's side: says its versions, then answers until stdin ends.

    Args:
      versions: of what it measures with.
      answer: called with each request's fields; what it raises is sent as an error, with its
        traceback on stderr. What it prints goes to stderr.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print would else be taken for an answer
    print(json.dumps(versions), file=answers, flush=True)
    for line in sys.stdin:
        try:
            said = answer(**json.loads(line))
        except Exception as error:
            traceback.print_exc()
            message = (str(error).splitlines() or ["no message"])[0]
            said = {"error": f"{type(error).__name__}: {message}"}
        print(json.dumps(said), file=answers, flush=True)
