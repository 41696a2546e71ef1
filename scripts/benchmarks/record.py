"""What a benchmark leaves behind: a Markdown table, and JSON with machine, versions and command."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from skinjax import versions as versions_lib
from skinjax.data import threads

# What changes how fast JAX runs.
_ENVIRONMENT = ("JAX_PLATFORMS", "XLA_FLAGS", "XLA_PYTHON_CLIENT_MEM_FRACTION", "OMP_NUM_THREADS")


def machine() -> dict[str, Any]:
    """The processor, how many cores of it are ours, bytes of memory, GPUs, and the load by now."""
    return {
        "cpu": _cpu(),
        "cores": threads.available_cores(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "accelerator": _accelerator(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def versions() -> dict[str, Any]:
    """Of Python, of this checkout and of the installed packages that matter."""
    state = versions_lib.git_state(Path(__file__).resolve().parents[2]) or {}
    return {"python": platform.python_version(), **state, **versions_lib.installed()}


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; a float gets at least three digits, and None is an empty cell."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def report(
    path: str,
    benchmark: str,
    results: list[dict[str, Any]],
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
) -> None:
    """Prints the table, and writes the JSON to `path` unless that is empty.

    Args:
      path: of the file; its folder is made.
      benchmark: name of the script, without its ending.
      results: whatever the benchmark measured, one dict a line of the table or finer.
      headers, rows: of the table.
    """
    print(table(headers, rows), flush=True)
    write(path, benchmark, results)


def write(path: str, benchmark: str, results: list[dict[str, Any]]) -> None:
    """Writes the JSON of `report` alone, as a long benchmark may do after each of its parts."""
    if not path:
        return
    written = {
        "benchmark": benchmark,
        "command": shlex.join(["python", *sys.argv]),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "environment": {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        "versions": versions(),
        "results": results,
    }
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(written, indent=1) + "\n")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def _cpu() -> str:
    """The processor's name, as Linux gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _accelerator() -> str:
    """The GPUs by `nvidia-smi`, so that no framework has to be started; "none" without."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return "none"
    return "; ".join(done.stdout.split("\n")).strip("; ") or "none"
