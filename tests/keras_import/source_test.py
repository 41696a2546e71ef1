"""The file that --keras names."""

from pathlib import Path

import h5py
import pytest

from skinjax.errors import InputError
from skinjax.keras_import import source


def test_the_hub_is_asked_for_hf_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    address = "hf://devatreya/skin-lesion-resnet50/resnet50_best.h5"
    with pytest.raises(
        InputError,
        match=r"skin-lesion-resnet50: the hub isn't asked.*isn't in the cache.*download "
        "http.*devatreya/skin-lesion-resnet50/resolve/main/resnet50_best.h5.*pass the file as",
    ):
        source.find(address)
    with pytest.raises(InputError, match="names no file on the hub"):
        source.find("hf://devatreya/resnet50_best.h5")
    cached = tmp_path / "models--devatreya--skin-lesion-resnet50"
    snapshot = cached / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("c" * 40)
    h5py.File(snapshot / "resnet50_best.h5", "w").close()
    assert source.find(address) == snapshot / "resnet50_best.h5"
