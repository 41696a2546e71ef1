"""What `config.model.pretrained` names, and what the checkpoint says of itself."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from skinjax import models
from skinjax.config import nearest
from skinjax.errors import InputError
from skinjax.models.pretrained import contents, hub, keras_models, normalization
from skinjax.models.pretrained.keras_file import open_keras
from skinjax.models.pretrained.normalization import Normalization

_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([^\s@]+))?")
_EXPECTED = (
    "expected a repository of the Hugging Face hub (owner/repo or owner/repo@revision), the path "
    "of a .safetensors or Keras .h5 file, or of a folder with model.safetensors and config.json"
)
# Of timm's `model_args`, those that change no layer that is loaded here.
_HARMLESS = ("img_size", "num_classes", "drop_rate", "drop_path_rate", "in_chans")


@dataclass(frozen=True)
class Published:
    """A checkpoint on the disk.

    Attributes:
      path: of the weights.
      layout: whose names the tensors have: "timm" or "keras".
      origin: repository and commit, or the path, for messages.
      name: the network, as `model.name`.
      variant: whose padding and batch norm, as `model.variant`.
      normalization: of the images that it was trained on.
      image_size: side in pixels of those images.
      assumed: a line that says what of this isn't known but taken for granted; mostly empty.
    """

    path: Path
    layout: str
    origin: str
    name: str
    variant: str
    normalization: Normalization
    image_size: int
    assumed: str = ""


def find(model: ConfigDict) -> Published:
    """The checkpoint that `model.pretrained` names; downloads it where it is on the hub.

    Args:
      model: the config's `model`, with `pretrained` not empty; a checkpoint that doesn't say what
        it is is taken for `name` and `variant`.

    Raises:
      InputError: there is none, it is of another network than `model.name`, or of none known.
    """
    family = models.families().get(model.name)
    if family is not None and not hasattr(family, "timm_name"):
        raise InputError(
            f"there are no published weights of {model.name}; train it from scratch with "
            "--config.model.pretrained="
        )
    found = _find(model)
    if found.name != model.name:
        raise InputError(
            f"{found.origin} is {found.name}, but config.model.name is {model.name}; set "
            f"--config.model.name={found.name}, or pass weights of {model.name}"
        )
    return found


def _find(model: ConfigDict) -> Published:
    source: str = model.pretrained
    try:
        path = Path(source).expanduser()
    except RuntimeError as error:  # ~nobody
        raise InputError(f"config.model.pretrained is {source!r}: {error}; {_EXPECTED}") from None
    suffix = path.suffix.lower()
    if suffix in contents.PICKLED:
        contents.refuse_pickle(path)
    if suffix in (".h5", ".hdf5"):
        return _keras(path)
    if suffix == ".keras":
        raise InputError(
            f"{path} is Keras's zip archive, which isn't read here; open it in Keras and save it "
            "with model.save('model.h5')"
        )
    if path.is_dir():
        weights, config = path / hub.WEIGHTS, path / hub.CONFIG
        missing = [file.name for file in (weights, config) if not file.exists()]
        if missing:
            raise InputError(f"{path} is a folder without {' and '.join(missing)}; {_EXPECTED}")
        return _described(weights, config, source)
    if suffix == ".safetensors" or path.exists():
        return _lone(path, model)
    if match := _REPOSITORY.fullmatch(source):
        snapshot = hub.fetch(match[1], match[2] or "main")
        origin = f"{match[1]}@{snapshot.commit[:12]}"
        return _described(snapshot.weights, snapshot.config, origin)
    hint = f"; did you mean timm/{source}?" if re.fullmatch(r"[\w.-]+", source) else ""
    raise InputError(f"config.model.pretrained is {source!r}; {_EXPECTED}{hint}")


def _lone(path: Path, model: ConfigDict) -> Published:
    """A .safetensors file, with what the config says of it unless a config.json is beside it."""
    contents.check_safetensors(path)
    config = path.with_name(hub.CONFIG)
    if config.exists() and "architecture" in _read(config):
        return _described(path, config, str(path))
    variant = model.variant or "timm"
    usual = normalization.usual(model.name, variant)
    size = models.image_size(model.name)
    assumed = (
        f"{path} has no {hub.CONFIG} beside it: it is taken for {model.name} of variant "
        f"{variant!r}, trained on images of {size} pixels with {usual.origin} normalization, mean "
        f"{usual.mean} and std {usual.std}"
    )
    return Published(path, "timm", str(path), model.name, variant, usual, size, assumed)


def _keras(path: Path) -> Published:
    with open_keras(path) as tensors:
        name = keras_models.architecture(tensors)
        normal = keras_models.normalization(tensors, name)
    assumed = f"{path}: normalization is {normal.origin}" if "assumed" in normal.origin else ""
    return Published(
        path, "keras", str(path), name, "keras", normal, models.image_size(name), assumed
    )


def _described(weights: Path, config: Path, origin: str) -> Published:
    """A checkpoint in timm's layout, by its config.json; the older ones are flat."""
    described = _read(config)
    architecture = described.get("architecture")
    if not isinstance(architecture, str):
        raise InputError(
            f"{origin}: its {hub.CONFIG} names no architecture, as timm's do; pass a checkpoint in "
            "timm's layout, or the .safetensors file alone"
        )
    name, variant = _ours(architecture, origin)
    arguments = described.get("model_args") or {}
    if not isinstance(arguments, dict):
        raise InputError(f"{origin}: its {hub.CONFIG} has model_args {arguments!r}, no JSON object")
    unknown = [key for key in arguments if key not in _HARMLESS]
    if unknown:
        raise InputError(
            f"{origin}: its {hub.CONFIG} changes the network by model_args {', '.join(unknown)}, "
            "which can't be followed; pass a checkpoint of the plain network"
        )
    trained = described.get("pretrained_cfg")
    trained = trained if isinstance(trained, dict) else described
    usual = normalization.usual(name, variant)
    normal = _normalization(trained, origin)
    assumed = ""
    if normal is None:
        assumed = (
            f"{origin}: its {hub.CONFIG} has no mean and std; {usual.origin} are assumed, "
            f"{usual.mean} and {usual.std}"
        )
    size = _image_size(trained, origin) or models.image_size(name)
    return Published(weights, "timm", origin, name, variant, normal or usual, size, assumed)


def _ours(architecture: str, origin: str) -> tuple[str, str]:
    """Our name and variant for timm's architecture."""
    for family in models.families().values():
        found: tuple[str, str] | None = family.timm_architecture(architecture)
        if found is not None:
            return found
    known = models.families()
    raise InputError(
        f"{origin} is of timm's architecture {architecture!r}, which isn't built here; built are "
        f"{', '.join(known)}{nearest(architecture, known)}"
    )


def _normalization(trained: dict[str, Any], origin: str) -> Normalization | None:
    mean, std = trained.get("mean"), trained.get("std")
    if mean is None or std is None:
        return None
    for values in (mean, std):
        if not (
            isinstance(values, list)
            and len(values) == 3
            and all(type(value) in (int, float) and abs(value) < 1e3 for value in values)
        ):
            raise InputError(
                f"{origin}: its {hub.CONFIG} has mean {mean} and std {std}; expected three numbers "
                "each, so correct the file"
            )
    if min(std) <= 0:
        raise InputError(f"{origin}: its {hub.CONFIG} has std {std}; expected numbers above zero")
    return Normalization(_channels(mean), _channels(std), f"its {hub.CONFIG}")


def _channels(values: list[float]) -> normalization.Channels:
    red, green, blue = map(float, values)
    return red, green, blue


def _image_size(trained: dict[str, Any], origin: str) -> int:
    """The side of square images, or 0 where the config doesn't say or they aren't square."""
    match trained.get("input_size"):
        case [3, int(height), int(width)] if height == width and height > 0:
            return height
        case [int(channels), _, _] if channels != 3:
            raise InputError(
                f"{origin} takes images of {channels} channels; only RGB can be loaded, so pass "
                "another checkpoint"
            )
    return 0


def _read(config: Path) -> dict[str, Any]:
    try:
        described = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{config} can't be read as JSON ({error}); download it again") from None
    if not isinstance(described, dict):
        raise InputError(f"{config} holds no JSON object; download it again")
    return described
