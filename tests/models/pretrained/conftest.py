"""A network of two stages with the names of timm and of Keras, and a hub on this machine."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from ml_collections import ConfigDict

from skinjax import models
from skinjax.config import default_config

# Layer, timm's name and Keras's.
_LAYERS = {
    "stem": ("", "tokens"),
    "stem/conv": ("conv1", "conv1_conv"),
    "stem/bn": ("bn1", "conv1_bn"),
    "block1/depthwise": ("blocks.0.conv_dw", "block1_dwconv"),
    "block1/dense": ("blocks.0.fc", "block1_dense"),
}
_SHAPES = {
    "params": {
        "backbone": {
            "stem": {
                "token": (1, 1, 4),
                "conv": {"kernel": (3, 3, 3, 4)},
                "bn": {"scale": (4,), "bias": (4,)},
            },
            "block1": {
                "depthwise": {"kernel": (5, 3, 1, 4)},
                "dense": {"kernel": (4, 6), "bias": (6,)},
            },
        },
        "head": {"logits": {"kernel": (6, 2), "bias": (2,)}},
    },
    "batch_stats": {"backbone": {"stem": {"bn": {"mean": (4,), "var": (4,)}}}},
}


def _numbered(shapes: Any, start: int = 0) -> Any:
    """Arrays whose values are all different, each array's from its own start on."""
    if isinstance(shapes, tuple):
        return np.arange(np.prod(shapes), dtype=np.float32).reshape(shapes) + start
    return {
        key: _numbered(value, start + 1000 * (number + 1))
        for number, (key, value) in enumerate(shapes.items())
    }


@pytest.fixture
def variables() -> dict[str, Any]:
    """What the tiny network's `init` would give, as float32 arrays."""
    return _numbered(_SHAPES)


@pytest.fixture
def blank() -> dict[str, Any]:
    """The same filled with zeros: to load into."""

    def zeros(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: zeros(value) for key, value in tree.items()}
        return np.zeros(tree, np.float32)

    return zeros(_SHAPES)


@pytest.fixture
def tensors(variables: dict[str, Any]) -> dict[str, np.ndarray]:
    """The variables as PyTorch holds them, written out by hand, with what a file has besides."""
    stem, block1 = (variables["params"]["backbone"][stage] for stage in ("stem", "block1"))
    statistics = variables["batch_stats"]["backbone"]["stem"]["bn"]
    head = variables["params"]["head"]["logits"]
    found = {
        "token": stem["token"],
        "conv1.weight": stem["conv"]["kernel"].transpose(3, 2, 0, 1),
        "bn1.weight": stem["bn"]["scale"],
        "bn1.bias": stem["bn"]["bias"],
        "bn1.running_mean": statistics["mean"],
        "bn1.running_var": statistics["var"],
        "bn1.num_batches_tracked": np.array(7),
        "blocks.0.conv_dw.weight": block1["depthwise"]["kernel"].transpose(3, 2, 0, 1),
        "blocks.0.fc.weight": block1["dense"]["kernel"].T,
        "blocks.0.fc.bias": block1["dense"]["bias"],
        "fc.weight": head["kernel"].T,
        "fc.bias": head["bias"],
    }
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The only family there is: "resnet50", which timm calls "resnet50" and "tf_resnet50"."""

    def timm_architecture(architecture: str) -> tuple[str, str] | None:
        known = {"resnet50": ("resnet50", "timm"), "tf_resnet50": ("resnet50", "tf")}
        return known.get(architecture) or (
            ("resnet18", "timm") if architecture == "resnet18" else None
        )

    family = SimpleNamespace(
        NAMES=("resnet50", "resnet18"),
        image_size=lambda name: 64,
        timm_architecture=timm_architecture,
        timm_name=lambda layer: _LAYERS[layer][0],
        keras_name=lambda layer: _LAYERS[layer][1],
    )
    monkeypatch.setattr(models, "families", lambda: dict.fromkeys(family.NAMES, family))
    return family


@pytest.fixture
def config(family: SimpleNamespace) -> ConfigDict:
    """A config of the tiny network with everything left to the checkpoint."""
    config = default_config()
    config.model.name = "resnet50"
    config.model.variant = ""
    config.normalize.mean = config.normalize.std = ()
    config.data.image_size = 0
    return config


DESCRIPTION = {
    "architecture": "tf_resnet50",
    "num_classes": 2,
    "pretrained_cfg": {
        "input_size": [3, 72, 72],
        "mean": [0.4, 0.5, 0.6],
        "std": [0.1, 0.2, 0.3],
        "classifier": "fc",
    },
}


@pytest.fixture
def folder(tmp_path: Path, tensors: dict[str, np.ndarray]) -> Path:
    """A folder as a clone of a repository of timm's is."""
    folder = tmp_path / "clone"
    folder.mkdir()
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(DESCRIPTION))
    return folder


class Hub:
    """Files of one repository, timm/tiny, by name; and how the next answers go wrong.

    `status` and `code` answer everything with an error; `cuts` are bytes after which the next
    GETs of weights break off.
    """

    commit = "c" * 40

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.files: dict[str, bytes] = {}
        self.status, self.code = 200, ""
        self.cuts: list[int] = []
        self.got: list[tuple[str, str, str | None]] = []  # method, path, Range
        self.is_hub = True  # sends the header by which the library knows a hub


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        with contextlib.suppress(ConnectionError):
            self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        hub = self.hub
        if "/resolve/" not in self.path:  # what else the library asks of a hub
            return self._refuse(404, "")
        hub.got.append((self.command, self.path, self.headers.get("Range")))
        owner, name, revision, file = self.path.strip("/").replace("/resolve/", "/").split("/")
        if hub.status != 200:
            return self._refuse(hub.status, hub.code)
        if (owner, name) != ("timm", "tiny"):
            return self._refuse(401, "RepoNotFound")
        if revision not in ("main", "v1", hub.commit):
            return self._refuse(404, "RevisionNotFound")
        if file not in hub.files:
            return self._refuse(404, "EntryNotFound")
        body = hub.files[file]
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        if hub.is_hub:
            self.send_header("X-Repo-Commit", hub.commit)
        self.send_header("Content-Length", str(len(body) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if with_body:
            is_cut = hub.cuts and file == "model.safetensors"
            self.wfile.write(body[start : start + hub.cuts.pop(0)] if is_cut else body[start:])
            self.close_connection = True

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path) -> Iterator[Hub]:
    """A hub with the folder's files, which huggingface_hub asks, with an empty cache."""
    from huggingface_hub import close_session, constants

    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub = handler.hub = Hub(server.server_address[1])
    hub.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses.json"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    yield hub
    close_session()
    server.shutdown()
    server.server_close()
    thread.join()
