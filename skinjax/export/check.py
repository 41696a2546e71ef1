"""An export, read back, against the model that it is of, on real images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from skinjax.data import images
from skinjax.errors import InputError
from skinjax.export.network import Network, rebuild, run
from skinjax.predict import image_files

NUM_IMAGES = 16
LIMIT = 1e-4  # of a probability, from the resized image

_SIZES = 3  # different sizes among the images: each is compiled for


class Export(Protocol):
    """What the formats' `load` give."""

    @property
    def call(self) -> Any:
        """From images, and metadata where the model takes it, to probabilities and logits."""


def find_images(folders: Sequence[Path | str]) -> list[np.ndarray]:
    """Up to `NUM_IMAGES` images of the folders, spread over the names in order.

    Raises:
      InputError: there is none that can be read.
    """
    advice = "an export is checked on real images: pass some by --images=FOLDER"
    try:
        paths = list(image_files.find(folders))
    except InputError as error:
        raise InputError(f"{error}; {advice}") from None
    wanted = paths[:: max(1, len(paths) // (4 * NUM_IMAGES))]
    found: list[np.ndarray] = []
    sizes: set[tuple[int, ...]] = set()
    # Every fourth of them first: the others stand in for what can't be read.
    for path in [path for start in range(4) for path in wanted[start::4]]:
        if len(found) == NUM_IMAGES:
            break
        try:
            image_HWC = images.decode(path)
        except InputError:
            continue
        if len(sizes) < _SIZES or image_HWC.shape in sizes:
            sizes.add(image_HWC.shape)
            found.append(image_HWC)
    if not found:
        raise InputError(f"no image can be read in {', '.join(map(str, folders))}; {advice}")
    return found


def compare(
    export: Export, network: Network, image_list: Sequence[np.ndarray], *, resizes: bool
) -> dict[str, Any]:
    """The greatest differences between an export and its model, as JSON types.

    Args:
      export: read back from its file.
      network: what was exported.
      image_list: images as published, uint8 (H, W, 3) each.
      resizes: whether the export takes images of any size.

    Returns:
      `from_resized`, on images that were resized before, against the network with the export's
      weights; and `from_originals`, on the images as they are, against the trained model as
      `predict` has it, so that the resizing and the rounding of weights count.

    Raises:
      InputError: from the resized images a probability differs by more than `LIMIT`.
    """
    model = network.model
    resized_NSSC = np.stack([model.preprocess(image_HWC) for image_HWC in image_list])
    metadata = _metadata(network, len(image_list))
    found = export.call(resized_NSSC, *metadata)
    probability_NC, logits_NC = _outputs(network, network.variables, resized_NSSC, metadata)
    from_resized = {
        "probabilities": _greatest(found["probabilities"], probability_NC),
        "logits": _greatest(found["logits"], logits_NC),
        "limit": LIMIT,
    }
    if not from_resized["probabilities"] <= LIMIT:
        raise InputError(
            f"the export, read back, differs from the model by {from_resized['probabilities']:.2g}"
            f" in a probability, more than {LIMIT}; nothing was written: report it, with"
            " config.json"
        )
    originals = image_list if resizes else list(resized_NSSC)
    # One at a time, each in its own size.
    each = []
    for number, image_HWC in enumerate(originals):
        one = [rows[number : number + 1] for rows in metadata]
        each.append(np.asarray(export.call(image_HWC[None], *one)["probabilities"])[0])
    trained_NC = _trained(network, resized_NSSC, metadata)
    difference_NC = np.abs(np.stack(each) - trained_NC)
    same_N = np.stack(each).argmax(axis=1) == trained_NC.argmax(axis=1)
    return {
        "num_images": len(image_list),
        "image_sizes": sorted({f"{one.shape[1]}x{one.shape[0]}" for one in image_list}),
        "from_resized": from_resized,
        "from_originals": {
            "greatest": float(difference_NC.max()),
            "mean": float(difference_NC.mean()),
            "same_class": float(same_N.mean()),
        },
    }


def _trained(
    network: Network, resized_NSSC: np.ndarray, metadata: tuple[np.ndarray, ...]
) -> np.ndarray:
    """Calibrated probabilities of the model as it was trained, in its own dtype."""
    model = network.model
    if model.config.model.dtype == "float32":
        return _outputs(network, model.variables, resized_NSSC, metadata)[0]
    logits_NC = jax.jit(model.forward())(model.variables, resized_NSSC, *metadata)["logits_BC"]
    return network.calibration.apply(np.asarray(jax.nn.softmax(logits_NC)))


def _outputs(
    network: Network, variables: Any, resized_NSSC: np.ndarray, metadata: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities and logits by other ways than the export's."""
    module = rebuild(network.model, lowering="auto")
    # As float32 before it is compiled: once for all dtypes.
    variables = jax.tree.map(lambda array: np.asarray(array, np.float32), variables)
    forward = jax.jit(lambda variables, *inputs: run(network.model, module, variables, *inputs))
    logits_NC = forward(variables, jnp.asarray(resized_NSSC), *metadata)
    probability_NC = np.asarray(jax.nn.softmax(logits_NC))
    return network.calibration.apply(probability_NC), np.asarray(logits_NC)


def _metadata(network: Network, count: int) -> tuple[np.ndarray, ...]:
    """Encoded metadata: half of it missing, the rest made up."""
    encoder = network.model.encoder
    if encoder is None:
        return ()
    rows = [
        {"age": 10.0 * (number % 9) if number % 2 else None, "sex": "female", "site": "back"}
        for number in range(count)
    ]
    return (encoder.encode(rows),)


def _greatest(one: Any, other: Any) -> float:
    return float(np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)).max())
