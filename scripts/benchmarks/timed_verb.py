"""Runs a verb of the command line and writes what of its seconds was compiling.

    python scripts/benchmarks/timed_verb.py FILE.json train --config=... --workdir=...

For `end_to_end.py`. The file gets `compile_seconds`, `compiled` and `cache_hits`: XLA's own work,
programs that were asked for, and those that the compile cache had.
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax

from skinjax import main as command_line


def main() -> None:
    """Takes the file's name, and then the arguments as of `python -m skinjax.main`."""
    path, arguments = Path(sys.argv[1]), sys.argv[2:]
    sys.argv = ["skinjax", *arguments]
    found = {"compile_seconds": 0.0, "compiled": 0, "cache_hits": 0}

    def note_seconds(event: str, duration_secs: float, **others: Any) -> None:
        del others
        if event == "/jax/core/compile/backend_compile_duration":
            found["compile_seconds"] += duration_secs
            found["compiled"] += 1

    def note_hit(event: str, **others: Any) -> None:
        del others
        found["cache_hits"] += event == "/jax/compilation_cache/cache_hits"

    jax.monitoring.register_event_duration_secs_listener(note_seconds)
    jax.monitoring.register_event_listener(note_hit)
    code = command_line.main(arguments)
    path.write_text(json.dumps(found))
    sys.exit(code)


if __name__ == "__main__":
    main()
