"""The configuration: every field with its default, and the checks that need no data.

A config file is a Python file whose `get_config()` starts from `default_config()` and changes
what its experiment changes. The library reads `config.x` and never falls back to a default of
its own, so the resolved config that is kept with a run says everything.
"""

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from skinjax.errors import InputError

# What no other module checks where it uses it.
_CHOICES = {
    "data.train_on": ("train", "all"),
    "model.frozen_batch_norm": ("running", "batch", "all"),
    "parallel.mode": ("pmap", "shard_map"),
}
_AT_LEAST = {
    "seed": 0,
    "epochs": 1,
    "batch_size": 1,
    "evaluate.batch_size": 0,
    "evaluate.every_epochs": 1,
    "checkpoint.keep_best": 1,
    "checkpoint.every_steps": 0,
    "log.every_steps": 1,
    "parallel.cpu_devices": 0,
    "optimizer.learning_rate": 0,
    "optimizer.start_factor": 0,
    "optimizer.end_factor": 0,
    "optimizer.eps": 0,
    "optimizer.weight_decay": 0,
    "optimizer.clip_norm": 0,
}


def default_config() -> ConfigDict:
    """Returns every field with its default; locked, so that an unknown field is an error."""
    config = ConfigDict()
    config.seed = 0  # initial parameters, dropout, augmentation, order of the examples
    config.epochs = 30  # length of the only phase, where `phases` is empty
    config.batch_size = 64  # global: over all devices and processes
    config.data = _data()
    config.synthetic = ConfigDict({"num_lesions": 400, "image_size": 128, "seed": 0})
    config.augment = _augment()
    # Per channel, red first, on images in [0, 1]; empty is the pretrained weights' own, and
    # ImageNet's without any.
    config.normalize = ConfigDict({"mean": (), "std": ()})
    config.model = _model()
    config.loss = _loss()
    config.optimizer = _optimizer()
    # What is trained where `phases` is empty: "*" for everything, stages, or paths of layers
    # ("backbone/block7/*/bn_*"); `train --dry_run` lists the stages.
    config.trainable = ("*",)
    # Gradual unfreezing: a tuple of `phase(...)`; empty is one phase of `epochs`.
    config.phases = ()
    # Without pretrained weights phases that freeze give way to one that trains everything for
    # `epochs`, since a frozen random backbone learns nothing; True keeps them all the same.
    config.phases_from_scratch = False
    config.parallel = _parallel()
    config.checkpoint = _checkpoint()
    # Batch size of validation and test; 0 is the training batch size.
    config.evaluate = ConfigDict({"batch_size": 0, "every_epochs": 1})
    config.log = ConfigDict({"every_steps": 10, "tensorboard": True, "progress": True})
    return config.lock()


def phase(trainable: tuple[str, ...], epochs: int, learning_rate_factor: float = 1.0) -> ConfigDict:
    """Describes one phase of gradual unfreezing.

    Args:
      trainable: what is trained, as in `config.trainable`; all else is frozen. See
        `skinjax.freezing` for "the last n stages" and for Keras's counts of layers.
      epochs: length; warm-up and cosine run within it.
      learning_rate_factor: multiplies `optimizer.learning_rate`.
    """
    if isinstance(trainable, str) or not all(isinstance(entry, str) for entry in trainable):
        raise InputError(f"phase({trainable!r}, ...): expected a tuple of names, as ('head',)")
    return ConfigDict(
        {
            "trainable": tuple(trainable),
            "epochs": epochs,
            "learning_rate_factor": learning_rate_factor,
        }
    )


def _data() -> ConfigDict:
    return ConfigDict(
        {
            "dataset": "ham10000",
            # The published files, searched with all folders inside; several folders are joined with
            # os.pathsep, as in PATH. Empty is right for `synthetic` only.
            "raw_dir": "",
            "prepared_dir": "data/prepared",  # prepared sets land here, one folder a fingerprint
            "directory": "",  # a folder that `prepare` printed: opened as it is, with its settings
            "isic2019_scc": "keep",  # "drop" SCC, or "merge" it with AK: seven classes
            # Of `csv`: the table, its columns ("" is: there is none), and the order of the classes.
            "table": "",
            "columns": {
                "image": "image",  # file name or path, with or without its ending
                "label": "label",
                "lesion": "",
                "patient": "",
                "age": "",
                "sex": "",
                "site": "",
                "split": "",
            },
            "classes": (),  # of `csv` and `folder`; empty is all that there are, alphabetically
            "min_side": 32,  # smaller images are left out
            # Exact copies under one label, or several: "keep" them all, in one split, or "drop" all
            # but one, or all.
            "duplicates": "keep",
            "near_duplicates": True,  # images that look alike stay in one split
            "preprocess": {  # on the image as published, in this order
                "crop_border": False,  # of black
                "remove_hair": False,
                "color_constancy": False,  # Shades of Gray
                "clahe": False,
            },
            # To a square: "squash" it, "crop" the centre, or "pad" with black.
            "resize": "squash",
            "short_side": 0,  # of "crop", before the crop; 0 is image_size
            "image_size": 0,  # side of the square images, in pixels; 0 is the model's own
            "encoding": "raw",  # of the images in the shards
            "strict": False,  # a row without a readable image is an error, not a report line
            "published_split": True,  # keep the split of a data set that was published with one
            "split": (0.70, 0.15, 0.15),  # train, validation, test
            "split_seed": 0,
            "split_file": "",  # CSV with image_id and split, in place of all other splits
            # k > 1: all but the test split is cut into k folds, of which `fold` is for validation.
            "folds": 0,
            "fold": 0,
            "train_on": "train",  # "all" refits on every split, without internal evaluation
            # 0 draws every image once an epoch, 1 every class equally often; in between, class c
            # is drawn in proportion to n_c ** (1 - balance).
            "balance": 0.0,
            "cache": False,  # decode once, into a memory-mapped file beside the shards
            "num_threads": 4,  # that read and stack batches
            "num_workers": 0,  # processes that do; 0 is this one
        }
    )


def _augment() -> ConfigDict:
    """The mild set for dermoscopy."""
    return ConfigDict(
        {
            "flip_horizontal": 0.3,  # probability
            "flip_vertical": 0.0,  # probability
            "rotation_degrees": 3.0,  # uniform in plus or minus
            "crop_scale": (0.92, 1.0),  # share of the area that is kept
            "brightness": 0.05,  # factor uniform in 1 plus or minus
            "contrast": 0.05,
            "saturation": 0.05,
            "hue": 0.05,  # shift uniform in plus or minus, in turns
            "noise_std": 0.02,  # Gaussian, on [0, 1]
        }
    )


def _model() -> ConfigDict:
    return ConfigDict(
        {
            "name": "efficientnet_b0",
            # Published weights: a repository of the Hugging Face hub ("timm/resnet50.a1_in1k"),
            # a .safetensors or a Keras .h5 file, or a folder with model.safetensors and
            # config.json. Empty is to train from scratch.
            "pretrained": "",
            # Whose padding and batch norm: "timm" is PyTorch's, "tf" those of timm's tf_* ports,
            # "keras" Keras Applications'. Empty is that of the weights, and "timm" without any.
            "variant": "",
            "width": 64,  # channels of a ResNet's first stage; 64 is the published network
            "fully_connected": True,  # VGG's two dense layers of 4,096 (Keras's include_top)
            "drop_path": 0.0,  # stochastic depth at the last block, linear from 0
            # Layers between pooling and the last dense one: ("dense", width), ("relu",), ("silu",),
            # ("gelu",), ("tanh",), ("batch_norm",), ("dropout", rate), in any order; at the end,
            # ("sigmoid",) for one output that tells two classes apart. Or one published head:
            # ("bn_256",), ("dropout_256_bn",), ("bn_512_256_sigmoid",), ("dropout_512_256",),
            # ("bn_128_bn",), ("dense_256_128",); see skinjax/models/heads.py.
            "head": (("dropout", 0.2),),
            "dtype": "float32",  # of the computation; parameters and logits are float32
            # Batch norm of a frozen layer: "running" uses its running statistics and leaves
            # them alone (Keras's trainable=False); "batch" is PyTorch's requires_grad=False.
            # "all" freezes every batch norm of the backbone, trainable stages included.
            "frozen_batch_norm": "running",
            "remat": False,  # activations are computed again going backward: less memory, slower
            # Of convolutions: "auto" by platform, "xla" XLA's own, "cpu" the one for the CPU.
            "lowering": "auto",
        }
    )


def _loss() -> ConfigDict:
    return ConfigDict(
        {
            "name": "cross_entropy",
            "label_smoothing": 0.0,
            "focal_gamma": 2.0,
            "focal_alpha": (),  # one per class; empty is 1 for all
            # Weight of class c: (N / (C n_c)) ** exponent. 1 balanced, 0.5 square root, 0 none.
            "class_weight_exponent": 0.0,
            "reduction": "batch",  # the weighted sum is divided by: "batch" size or "weights"
        }
    )


def _optimizer() -> ConfigDict:
    """AdamW; the learning rate warms up linearly, then decays along a cosine, in each phase."""
    return ConfigDict(
        {
            "learning_rate": 1e-3,  # the peak
            "start_factor": 0.1,  # learning rate at step 0, times the peak
            "end_factor": 0.01,  # learning rate at the end, times the peak
            "warmup_fraction": 0.1,  # of the steps of the phase
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            "weight_decay": 1e-4,  # not on biases and norm parameters
            "clip_norm": 1.0,  # global norm over what is trained; 0 is off
            # At a phase boundary, keep the moments of what was already trained.
            "carry_moments": True,
        }
    )


def _parallel() -> ConfigDict:
    return ConfigDict(
        {
            "mode": "pmap",
            "num_devices": 0,  # the first so many of this machine's; 0 is all
            # Without a GPU: how many devices the CPU is made into, 0 for one. XLA leaves cores idle
            # on small networks, and a device for each core does not.
            "cpu_devices": 0,
            # Without a GPU: reuse what a step has freed for the next one. Faster, more memory.
            "keep_freed_memory": True,
            "deterministic": False,  # XLA's deterministic operations on a GPU
            "distributed": False,  # several processes: jax.distributed.initialize
            "coordinator_address": "",  # host:port; empty asks Slurm or Kubernetes
            "num_processes": 0,  # 0 asks Slurm or Kubernetes
            "process_id": -1,  # -1 asks Slurm or Kubernetes
        }
    )


def _checkpoint() -> ConfigDict:
    return ConfigDict(
        {
            "metric": "balanced_accuracy",  # on validation, chooses the best
            "keep_best": 1,
            "every_steps": 0,  # besides at the end of each epoch; 0 is only there
        }
    )


def check(config: ConfigDict) -> None:
    """Checks what the config holds by itself; `experiment.check` adds what its users check.

    Raises:
      InputError: naming the field, its value and what is allowed.
    """
    for name, choices in _CHOICES.items():
        value = read_field(config, name)
        if value not in choices:
            raise InputError(f"config.{name} is {value!r}; it must be one of {', '.join(choices)}")
    for name, least in _AT_LEAST.items():
        value = read_field(config, name)
        if not least <= value < float("inf"):  # also refuses NaN
            raise InputError(f"config.{name} is {value}; it must be finite and at least {least}")
    for name in ("optimizer.warmup_fraction", "optimizer.b1", "optimizer.b2"):
        value = read_field(config, name)
        if not 0 <= value < 1:
            raise InputError(f"config.{name} is {value}; it must be in [0, 1)")
    mean, std = config.normalize.mean, config.normalize.std
    unset = len(mean) == len(std) == 0
    numbers = all(isinstance(value, int | float) for value in (*mean, *std))
    if not unset and not (
        numbers and len(mean) == len(std) == 3 and np.isfinite([*mean, *std]).all() and min(std) > 0
    ):
        raise InputError(
            f"config.normalize has mean {mean} and std {std}; each must be three finite numbers, "
            "one for each of red, green and blue, and std above zero, or both empty"
        )
    if not all(isinstance(entry, str) for entry in config.trainable):
        raise InputError(
            f"config.trainable is {config.trainable}; expected stages or paths of layers, as "
            "('head', 'block7')"
        )
    for i, one in enumerate(config.phases):
        if not isinstance(one, ConfigDict) or set(one) != set(phase(("*",), epochs=1)):
            raise InputError(
                f"config.phases[{i}] is {one!r}; phases are described in the config file, with "
                "skinjax.config.phase(...)"
            )
        if one.epochs < 1 or not one.trainable:
            raise InputError(f"config.phases[{i}] needs at least 1 epoch and 1 trainable stage")


def read_field(config: ConfigDict, name: str) -> Any:
    """Returns the value of a dotted field name."""
    value: Any = config
    for part in name.split("."):
        value = value[part]
    return value


def to_json(config: ConfigDict) -> str:
    """Returns the config as JSON; tuples become lists."""
    return json.dumps(plain(config), indent=2)


def from_json(text: str, *, origin: str) -> ConfigDict:
    """Reads back what `to_json` wrote, onto the defaults.

    Raises:
      InputError: the text is not JSON, or has a field this version does not know.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{origin} is not JSON ({error}); restore it or start anew") from None
    config = default_config()
    _fill(config, values, origin)
    return config


def with_fields(config: ConfigDict, section: str, values: Mapping[str, Any]) -> ConfigDict:
    """Returns a copy in which these fields of a section have other values, as JSON wrote them.

    Raises:
      InputError: a field that this version does not know.
    """
    changed = plain(config)
    changed[section].update(values)
    return from_json(json.dumps(changed), origin=section)


def load_config(path: str | Path) -> ConfigDict:
    """Reads a config file written by `to_json`."""
    return from_json(Path(path).read_text(), origin=str(path))


def differences(one: ConfigDict, other: ConfigDict) -> list[str]:
    """Names the fields in which two configs differ, each as `name: value here, value there`."""
    flat_one, flat_other = dict(_flatten(plain(one))), dict(_flatten(plain(other)))
    names = sorted(flat_one.keys() | flat_other.keys())
    missing = dataclasses.MISSING
    return [
        f"{name}: {flat_one.get(name)!r} here, {flat_other.get(name)!r} there"
        for name in names
        if flat_one.get(name, missing) != flat_other.get(name, missing)
    ]


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean X?` for the nearest known name, or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""


def field_names(config: ConfigDict) -> list[str]:
    """Lists the dotted names of all fields."""
    return [name for name, _ in _flatten(plain(config))]


def plain(value: Any) -> Any:
    """A config as dicts and lists, which JSON can write."""
    if isinstance(value, ConfigDict):
        return {key: plain(value[key]) for key in value}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return (
        ConfigDict({k: _tuples(v) for k, v in value.items()}) if isinstance(value, dict) else value
    )


def _flatten(value: dict, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flatten(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _fill(config: ConfigDict, values: Any, origin: str, prefix: str = "") -> None:
    if not isinstance(values, dict):
        raise InputError(f"{origin} has {values!r} where {prefix or 'the config'} holds fields")
    for key, value in values.items():
        if key not in config:
            hint = nearest(prefix + key, field_names(default_config()))
            raise InputError(f"{origin} has an unknown field {prefix}{key}{hint}")
        if isinstance(config[key], ConfigDict):
            _fill(config[key], value, origin, f"{prefix}{key}.")
        else:
            try:
                config[key] = _tuples(value)
            except TypeError as error:
                raise InputError(f"{origin}, field {prefix}{key}: {error}") from None
