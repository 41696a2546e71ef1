"""The sections on what a trained model was made of: its data, and the recipe."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from skinjax import config as config_lib
from skinjax.download import catalog
from skinjax.errors import InputError
from skinjax.report.document import NOT_AVAILABLE, Lines, Note, Part, Picture, Section, Text, table
from skinjax.report.run import Run

# What follows from settings that are off is of no interest.
_NEEDS = {
    "augment.erasing_": ("augment.erasing",),
    "augment.randaugment_": ("augment.randaugment_operations",),
    "augment.cutmix_share": ("augment.cutmix_alpha",),
    "augment.mix_probability": ("augment.mixup_alpha", "augment.cutmix_alpha"),
}

_RECIPE = (
    *("model.name", "model.variant", "model.pretrained", "data.image_size", "data.resize"),
    *("metadata.features", "epochs", "batch_size", "seed", "optimizer.name"),
    *("optimizer.learning_rate", "optimizer.schedule", "optimizer.weight_decay", "loss.name"),
    *("loss.label_smoothing", "loss.class_weight_exponent", "data.balance", "ema.decay"),
    "checkpoint.metric",
)


def data(run: Run) -> Section:
    """The data, its licence, and how it was split."""
    parts: list[Part] = []
    config = run.config
    if config is None:
        parts.append(Text(f"Data set, licence and authors: {NOT_AVAILABLE}."))
    else:
        parts += [Text(f"Data set: {config.data.dataset}."), _attribution(config.data.dataset)]
    counts = run.main.split_counts
    if counts is None:
        parts.append(Text(f"Images of each split: {NOT_AVAILABLE}."))
    else:
        rows = [
            [name, *(f"{count_C[index]:,}" for count_C in counts.values())]
            for index, name in enumerate(run.main.classes)
        ]
        rows.append(["all", *(f"{sum(count_C):,}" for count_C in counts.values())])
        parts.append(table(["Images", *counts], rows))
    if config is not None:
        parts.append(Text(_split_rule(config.data)))
    return Section("Data", tuple(parts))


def recipe(run: Run, picture: Picture | None) -> Section:
    """How the model was trained."""
    if run.config is None:
        return Section("Training", (Text(f"Training recipe: {NOT_AVAILABLE}."),))
    values = dict(_flat(config_lib.plain(run.config)))
    defaults = dict(_flat(config_lib.plain(config_lib.default_config())))
    shown = [name for name in _RECIPE if name in values]
    shown += [
        name
        for name in values
        if name.startswith(("augment.", "data.preprocess.", "phases", "trainable"))
        and name not in shown
        and values[name] not in (0.0, False, [])
    ]
    # Paths and machines are of no interest to others, and not theirs to know.
    private = ("data.raw_dir", "data.prepared_dir", "data.directory", "parallel.", "log.")
    shown += [
        name
        for name in values
        if values[name] != defaults.get(name) and name not in shown and not name.startswith(private)
    ]
    rows = [[name, _in_words(values[name])] for name in shown if _is_used(name, values)]
    parts: list[Part] = [table(["Setting", "Value"], rows)]
    parts.append(Note("All other settings are the defaults, or are off; config.json has them all."))
    return Section("Training", (*parts, *([picture] if picture else [])))


def _attribution(dataset: str) -> Part:
    """Licence and authors of a published data set, as far as they are known."""
    if dataset == "synthetic":
        return Text("Its images are drawn by code: no licence applies, and no patient is shown.")
    try:
        # The binary labels are of the same images.
        return Lines(catalog.dataset(dataset.removesuffix("_binary")).attribution())
    except InputError:
        return Text("Licence and authors are not known here; they are where the images are.")


def _split_rule(data: Any) -> str:
    """How the images were split, as the config says it."""
    if data.split_file:
        how = "The split was read from a file"
    else:
        shares = " / ".join(f"{share:g}" for share in data.split)
        how = (
            f"Split by lesion, stratified by class, {shares} for train / val / test, seed "
            f"{data.split_seed}; a published split, if the data set has one, "
            f"{'goes first' if data.published_split else 'was not used'}"
        )
    folds = f"; fold {data.fold} of {data.folds}" if data.folds else ""
    return f"{how}{folds}. Images of one lesion are in one split only, as far as ids say it."


def _is_used(name: str, values: Mapping[str, Any]) -> bool:
    needed = next((fields for prefix, fields in _NEEDS.items() if name.startswith(prefix)), ())
    return not needed or any(values.get(one) for one in needed)


def _in_words(value: Any) -> str:
    """A setting as people write it."""
    if isinstance(value, str | list) and not value:
        return "none"
    if isinstance(value, list) and not any(isinstance(one, dict | list) for one in value):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
