"""Files of the published layouts, empty: no reader opens an image."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def make_files(tmp_path: Path) -> Callable[..., None]:
    """Makes empty files at paths below tmp_path."""

    def make(*names: str) -> None:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return make


@pytest.fixture
def write_table(tmp_path: Path) -> Callable[..., Path]:
    """Writes a table below tmp_path, line by line."""

    def write(name: str, *lines: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write
