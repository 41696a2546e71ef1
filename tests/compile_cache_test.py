"""Tests of where compiled programs are kept."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from skinjax import compile_cache

NAMES = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = {name: jax.config.values[name] for name in NAMES}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_folder_of_the_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    chosen = jax.config.values[NAMES[0]]
    compile_cache.enable()
    assert jax.config.values[NAMES[0]] == chosen  # of the tests
    jax.config.update(NAMES[0], None)
    compile_cache.enable()
    assert jax.config.values[NAMES[0]] == str(tmp_path / "skinjax" / "compiled")
    assert (tmp_path / "skinjax" / "compiled").stat().st_mode & 0o777 == 0o700


def test_it_does_without_where_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    jax.config.update(NAMES[0], None)
    compile_cache.enable()
    assert jax.config.values[NAMES[0]] is None


def test_what_another_process_removes_meanwhile_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled = tmp_path / "skinjax" / "compiled"
    compiled.mkdir(parents=True)
    for name in "abc":
        (compiled / name).write_bytes(b"0" * 40)
    original = Path.stat

    def stat(self: Path, **options: Any) -> os.stat_result:
        if self.name == "a":
            self.unlink(missing_ok=True)
        return original(self, **options)

    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(compile_cache, "_MOST_BYTES", 50)
    jax.config.update(NAMES[0], None)
    compile_cache.enable()
    assert jax.config.values[NAMES[0]] == str(compiled)
    assert len(os.listdir(compiled)) == 1


def test_what_can_t_be_pruned_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(directory: Path) -> None:
        raise PermissionError(directory)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compile_cache, "_prune", fails)
    jax.config.update(NAMES[0], None)
    compile_cache.enable()
    assert jax.config.values[NAMES[0]] == str(tmp_path / "skinjax" / "compiled")


def test_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for age, name in enumerate("abc"):
        (tmp_path / name).write_bytes(b"0" * 40)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    monkeypatch.setattr(compile_cache, "_MOST_BYTES", 100)
    compile_cache._prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
