"""The git commit and the installed versions that a run notes."""

import subprocess

import numpy as np

from skinjax import versions


def _git(root, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    command = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_git_state_of_a_clean_and_of_a_changed_checkout(tmp_path, monkeypatch):
    _git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("a = 1\n")
    _git(tmp_path, "add", "a.py")
    _git(tmp_path, "commit", "-q", "-m", "a")
    commit = _git(tmp_path, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert versions.git_state(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "a.py").write_text("a = 2\n")
    assert versions.git_state(tmp_path) == {"commit": commit, "dirty": True}


def test_git_state_outside_a_checkout_is_none(tmp_path):
    assert versions.git_state(tmp_path) is None


def test_git_state_without_a_commit_or_without_git_is_none(tmp_path, monkeypatch):
    _git(tmp_path, "init", "-q")
    assert versions.git_state(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert versions.git_state(tmp_path) is None


def test_installed_versions():
    found = versions.installed()
    assert found["numpy"] == np.__version__
    assert all(found.values())
