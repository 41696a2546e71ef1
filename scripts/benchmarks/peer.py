"""A peer in a process of its own, with another environment's Python, asked in lines of JSON.

The benchmark has a `Peer`; the script that it starts imports this file, too, and calls `serve`. So
nothing but the standard library is imported here.
"""

import contextlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any


class PeerError(Exception):
    """The peer could not do what it was asked; it goes on."""


class Peer:
    """The process, and what is said to it."""

    def __init__(self, python: str, script: str | Path) -> None:
        """Starts a script of this folder (or any by its full path) and waits for its versions.

        Args:
          python: of the environment that it needs.
          script: calls `serve`.
        """
        command = [python, str(Path(__file__).resolve().parent / script)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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
