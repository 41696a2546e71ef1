"""A page of augmented training images: what the train step sees, keyed as in training."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from skinjax import augment, image_ops, logs
from skinjax.data.prepared import PreparedDataset
from skinjax.errors import InputError
from skinjax.explore import image_plots
from skinjax.explore.drawing import draw
from skinjax.explore.sample import draw_sample, shrink
from skinjax.html_page import Html, note, page, paragraph, section, table
from skinjax.plots import DISCLAIMER

_IMAGES, _STEPS = 8, 7
_TILE = 128  # pixels


def write(config: ConfigDict, prepared: PreparedDataset, out: Path) -> Path:
    """Writes `augmented.html` and `augmented.png`; see `explore.augmented`."""
    augment.check(config.augment)
    rows = prepared.table("train")
    if not rows:
        raise InputError(
            f"{prepared.directory} has no training image to augment: expected at least one; "
            "prepare it with a training split"
        )
    number = {name: place for place, name in enumerate(prepared.classes)}
    label_N = np.array([number[row["label"]] for row in rows])
    index_n = choose(label_N, len(prepared.classes), most=_IMAGES, seed=config.seed)
    tiles: list[np.ndarray] = []
    labels: list[str] = []
    source, see = prepared.source(("train",)), seen_in_training(config)
    for place, index in enumerate(index_n.tolist()):
        image_HWC = source[index]["image"]
        versions = [np.asarray(see(image_HWC, place, step)) for step in range(_STEPS)]
        row = rows[index]
        tiles += [shrink(one, _TILE) for one in (image_HWC, *versions)]
        labels += [f"{row['image_id']}\n{row['label']}"]
        labels += [f"step {step}\n" for step in range(_STEPS)]
    title = "Training images and what the train step sees of them"
    figure = image_plots.pictures(tiles, labels, columns=1 + _STEPS, caption=title)
    body = [
        paragraph(DISCLAIMER),
        section("Samples", _samples(draw(out, "augmented", figure, title))),
        section("Settings", _settings(config)),
    ]
    path = out / "augmented.html"
    logs.write_text(path, page("Augmented training images", body))
    return path


def choose(label_N: np.ndarray, num_classes: int, *, most: int, seed: int) -> np.ndarray:
    """At most `most` images at random, of as many classes as there are, ordered by class: int64."""
    index_C = draw_sample(label_N, num_classes, per_class=most, seed=seed)
    order = np.random.default_rng([seed, num_classes]).permutation(num_classes).tolist()
    turns = [(turn, label) for turn in range(most) for label in order]
    chosen = [index_C[label][turn] for turn, label in turns if turn < len(index_C[label])][:most]
    return np.array(sorted(chosen, key=lambda index: (label_N[index], index)), np.int64)


def seen_in_training(config: ConfigDict) -> Callable[[np.ndarray, int, int], jax.Array]:
    """A function that augments and normalises an image as `train_step` does, and undoes the latter.

    It takes an image as prepared, uint8 (H, W, 3) RGB, its place in the global batch, and the
    step's number, and returns uint8 (H, W, 3). Of the config, `seed`, `augment` and `normalize`
    are used.
    """
    key = jax.random.key(config.seed)
    mean, std = (jnp.array(config.normalize[name], jnp.float32) for name in ("mean", "std"))

    @jax.jit
    def see(image_HWC: jax.Array, place: Any, step: Any) -> jax.Array:
        key_B = augment.example_keys(key, step, place, 1)
        image_BHWC = augment.augment(image_HWC[None], key_B, settings=config.augment)
        image_BHWC = image_ops.normalize(image_BHWC, config.normalize.mean, config.normalize.std)
        return jnp.round(255 * jnp.clip(image_BHWC[0] * std + mean, 0, 1)).astype(jnp.uint8)

    return see


def _samples(shown: Html) -> Sequence[Html]:
    text = (
        "The first of each row is the image as prepared. The others went through the train step's "
        "own augmentation and normalisation, with the keys that the run's seed gives this place in "
        "the batch at that step; the normalisation is undone to show them. In training the image "
        "at that place is another one at each step."
    )
    return [note(text), shown]


def _settings(config: ConfigDict) -> Sequence[Html]:
    rows = [["config.seed", f"{config.seed}", ""]]
    for group in ("augment", "normalize"):
        for name, value in sorted(config[group].items()):
            values = value if isinstance(value, tuple | list) else (value,)
            off = group == "augment" and tuple(values) in ((0,), (1, 1))
            text = ", ".join(f"{number:g}" for number in values)
            rows.append([f"config.{group}.{name}", text, "off" if off else ""])
    return [table(["Field", "Value", ""], rows)]
