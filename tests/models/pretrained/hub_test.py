"""Downloads from a hub, its cache, and each way in which it can fail."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skinjax.errors import InputError
from skinjax.models.pretrained import hub as hub_lib

REPOSITORY = "timm/tiny"


def message(repository: str = REPOSITORY, revision: str = "main") -> str:
    with pytest.raises(InputError) as caught:
        hub_lib.fetch(repository, revision)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_both_files_of_one_commit_are_kept_and_then_only_asked_for(hub, caplog) -> None:
    first = hub_lib.fetch(REPOSITORY, "main")
    assert first.commit == hub.commit
    assert first.weights.read_bytes() == hub.files["model.safetensors"]
    assert first.config.read_bytes() == hub.files["config.json"]
    assert f"/{REPOSITORY}/resolve/{hub.commit}/model.safetensors" in [got[1] for got in hub.got]
    hub.got.clear()
    assert hub_lib.fetch(REPOSITORY, "main") == first
    assert {method for method, *_ in hub.got} == {"HEAD"}
    hub.got.clear()
    assert hub_lib.fetch(REPOSITORY, hub.commit) == first
    assert hub.got == []
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_tag_is_a_revision(hub) -> None:
    assert hub_lib.fetch(REPOSITORY, "v1").commit == hub.commit


def test_what_is_cached_serves_when_nobody_answers(hub, monkeypatch, caplog) -> None:
    from huggingface_hub import close_session, constants

    caplog.set_level("INFO")
    first = hub_lib.fetch(REPOSITORY, "main")
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    close_session()
    assert hub_lib.fetch(REPOSITORY, "main") == first
    assert "can't be reached" in caplog.text
    caplog.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub_lib.fetch(REPOSITORY, "main") == first
    assert "HF_HUB_OFFLINE is set" in caplog.text


@pytest.mark.parametrize("offline", [False, True])
def test_unreachable_and_not_cached_says_which_file_to_put_where(hub, monkeypatch, offline) -> None:
    from huggingface_hub import constants

    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    start = time.monotonic()
    text = message(revision="v1")
    assert time.monotonic() - start < 5  # the library alone would try for half a minute
    assert "HF_HUB_OFFLINE is set" in text if offline else "can't be reached" in text
    assert "download http://127.0.0.1:9/timm/tiny/resolve/v1/model.safetensors" in text
    assert "--config.model.pretrained=FOLDER/model.safetensors" in text
    assert text.endswith("train from scratch with --config.model.pretrained=")


def test_half_a_repository_in_the_cache_is_not_enough_offline(hub, monkeypatch) -> None:
    from huggingface_hub import constants, hf_hub_download

    hf_hub_download(REPOSITORY, "config.json")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "/resolve/main/model.safetensors" in message()


def test_an_unknown_repository_revision_or_file(hub) -> None:
    assert "nobody/nothing isn't at" in message("nobody/nothing")
    assert "has no revision 'v9'; leave @v9 out" in message(revision="v9")
    del hub.files["model.safetensors"]
    assert "has no file model.safetensors; weights must be safetensors" in message()


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, "GatedRepo", "is gated; ask for access at http://127.0.0.1:"),
        (403, "GatedRepo", "is gated; ask for access at http://127.0.0.1:"),
        (403, "", "can't be read with this account (status 403)"),
    ],
)
def test_a_repository_that_is_not_for_everybody(hub, status, code, words) -> None:
    hub.status, hub.code = status, code
    assert words in message()


def test_a_hub_that_is_down(hub, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.status = 503
    text = message()
    assert "doesn't serve config.json (Server error '503" in text
    assert "train from scratch" in text
    hub.status = 200
    first = hub_lib.fetch(REPOSITORY, "main")
    hub.status = 503
    assert hub_lib.fetch(REPOSITORY, "main") == first


def test_a_server_that_is_no_hub(hub) -> None:
    hub.is_hub = False
    text = message()
    assert "doesn't serve config.json" in text
    assert "X-Repo-Commit" in text


def test_an_interrupted_download_goes_on_where_it_stopped(hub, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)  # what is kept
    third = len(hub.files["model.safetensors"]) // 300 * 100
    hub.cuts = [third, third]
    assert hub_lib.fetch(REPOSITORY, "main").weights.read_bytes() == hub.files["model.safetensors"]
    ranges = [wanted for method, path, wanted in hub.got if wanted and "model" in path]
    assert ranges == [f"bytes={third}-", f"bytes={2 * third}-"]


def test_a_download_that_never_gets_whole(hub, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    hub.cuts = [10] + 20 * [0]
    assert "didn't come whole: model.safetensors stopped with" in message()
    assert not list((tmp_path / "cache").rglob("*.incomplete"))
    hub.cuts = []
    hub_lib.fetch(REPOSITORY, "main")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "doesn't fit on the disk of"),
        (errno.EACCES, "can't be written to"),
    ],
)
def test_a_cache_that_takes_nothing(hub, monkeypatch, number, words) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", refuse)
    text = message()
    assert words in text
    assert "set HF_HOME elsewhere" in text


def test_the_environment_says_which_hub_and_which_cache(hub, tmp_path: Path) -> None:
    code = (
        "import runpy; "  # the module alone, without JAX
        f"hub = runpy.run_path({hub_lib.__file__!r}); "
        f"print(hub['fetch']({REPOSITORY!r}, 'main').weights)"
    )
    home = tmp_path / "home"
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home)}
    environment = {k: v for k, v in environment.items() if k not in ("HF_HUB_CACHE", "HF_TOKEN")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    path = Path(done.stdout.strip())
    assert path.is_relative_to(home / "hub")
    assert path.read_bytes() == hub.files["model.safetensors"]
