"""A page of augmented training images: what the train step sees, keyed as in training."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from skinjax import augment, image_ops, logs, mixing
from skinjax.data.prepared import PreparedDataset
from skinjax.errors import InputError
from skinjax.explore import image_plots
from skinjax.explore.drawing import draw
from skinjax.explore.sample import draw_sample, shrink
from skinjax.html_page import Html, note, page, paragraph, section, table
from skinjax.plots import DISCLAIMER

_IMAGES, _STEPS = 8, 7
_TILE = 128  # pixels

# Fields that say nothing while another one is 0.
_PART_OF = {
    "erasing_area": ("erasing",),
    "erasing_aspect": ("erasing",),
    "randaugment_magnitude": ("randaugment_operations",),
    "randaugment_magnitude_std": ("randaugment_operations",),
    "mix_probability": ("mixup_alpha", "cutmix_alpha"),
}


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
    source, see = prepared.source(("train",)), seen_in_training(config)
    image_BHWC = np.stack([source[index]["image"] for index in index_n.tolist()])
    seen = [see(image_BHWC, step) for step in range(_STEPS)]
    tiles: list[np.ndarray] = []
    labels: list[str] = []
    for place, index in enumerate(index_n.tolist()):
        versions = [np.asarray(seen_BHWC[place]) for seen_BHWC, _ in seen]
        tiles += [shrink(one, _TILE) for one in (image_BHWC[place], *versions)]
        labels += [f"{rows[index]['image_id']}\n{rows[index]['label']}"]
        shares = [float(share_B[place]) for _, share_B in seen]
        labels += [f"step {step}\n{_own(share)}" for step, share in enumerate(shares)]
    title = "Training images and what the train step sees of them"
    figure = image_plots.pictures(tiles, labels, columns=1 + _STEPS, caption=title)
    body = [
        paragraph(DISCLAIMER),
        section("Samples", _samples(draw(out, "augmented", figure, title), config)),
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


def seen_in_training(
    config: ConfigDict,
) -> Callable[[np.ndarray, int], tuple[jax.Array, jax.Array]]:
    """A function that does to images what `train_step` does, and undoes its normalisation.

    It takes uint8 (B, H, W, 3) RGB images as prepared, at the first places of the global batch, and
    the step's number. It returns them augmented and mixed, uint8, and each image's share in what is
    returned at its place, float32 (B,): 1 without mixing. Of the config, `seed`, `augment` and
    `normalize` are used. Where pairs are mixed and B is odd, the last image's pair is the first.
    """
    key = jax.random.key(config.seed)
    mean, std = (jnp.array(config.normalize[name], jnp.float32) for name in ("mean", "std"))

    @jax.jit
    def see(image_BHWC: jax.Array, step: Any) -> tuple[jax.Array, jax.Array]:
        count = len(image_BHWC)
        if count % 2:
            image_BHWC = jnp.concatenate([image_BHWC, image_BHWC[:1]])
        batch_size = len(image_BHWC)
        key_B = augment.example_keys(key, step, 0, batch_size)
        image_BHWC = augment.augment(image_BHWC, key_B, settings=config.augment)
        own_BB = jnp.eye(batch_size)  # each image a class of its own
        image_BHWC, own_BB, _ = mixing.mix(image_BHWC, own_BB, None, key_B, settings=config.augment)
        image_BHWC = image_ops.normalize(image_BHWC, config.normalize.mean, config.normalize.std)
        seen_BHWC = jnp.round(255 * jnp.clip(image_BHWC * std + mean, 0, 1)).astype(jnp.uint8)
        return seen_BHWC[:count], jnp.diagonal(own_BB)[:count]

    return see


def _own(share: float) -> str:
    return "" if share == 1 else f"{share:.0%} its own"


def _samples(shown: Html, config: ConfigDict) -> Sequence[Html]:
    text = (
        "The first of each row is the image as prepared. The others went through the train step's "
        "own augmentation and normalisation, with the keys that the run's seed gives this place in "
        "the batch at that step; the normalisation is undone to show them. In training the image "
        "at that place is another one at each step."
    )
    if mixing.is_on(config.augment):
        text += (
            " The first row is mixed with the second, the third with the fourth, and so on; the "
            "share is also that of the row's label."
        )
    return [note(text), shown]


def _settings(config: ConfigDict) -> Sequence[Html]:
    rows = [["config.seed", f"{config.seed}", ""]]
    for group in ("augment", "normalize"):
        for name, value in sorted(config[group].items()):
            values = value if isinstance(value, tuple | list) else (value,)
            off = group == "augment" and _is_off(name, config.augment)
            text = ", ".join(f"{number:g}" for number in values)
            rows.append([f"config.{group}.{name}", text, "off" if off else ""])
    return [table(["Field", "Value", ""], rows)]


def _is_off(name: str, settings: ConfigDict) -> bool:
    """Whether a field of `config.augment` has no effect."""
    if name == "cutmix_share":
        return settings.mixup_alpha == 0 or settings.cutmix_alpha == 0
    if name == "crop_scale":
        return tuple(settings.crop_scale) == (1, 1)
    return all(settings[field] == 0 for field in _PART_OF.get(name, (name,)))
