"""The steps from an image as published to one of the size that models take."""

import dataclasses
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from ml_collections import ConfigDict

from skinjax.data import dermoscopy, images
from skinjax.errors import InputError

# In the order in which they are applied: the border goes first, since its black would count as
# shadow for the others; colours and contrast come after the hair, which they would bring out.
STEPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "crop_border": dermoscopy.crop_border,
    "remove_hair": dermoscopy.remove_hair,
    "color_constancy": dermoscopy.color_constancy,
    "clahe": dermoscopy.clahe,
}
RESIZES = ("squash", "crop", "pad")
MIN_SIZE, MAX_SIZE = 2, 4096
_MAX_ASPECT = 16


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """What is done to every image, in training as in prediction.

    Attributes:
      crop_border: crop the black border (`dermoscopy.crop_border`).
      remove_hair: paint over hair (`dermoscopy.remove_hair`).
      color_constancy: take the light's colour out (`dermoscopy.color_constancy`).
      clahe: even out the contrast (`dermoscopy.clahe`).
      resize: how the image becomes a square: "squash" changes its aspect, "crop" cuts out the
        centre and "pad" adds bars of black.
      short_side: of "crop", in pixels, before the crop; 0 is `image_size`.
      image_size: side of the result, in pixels.
    """

    crop_border: bool = False
    remove_hair: bool = False
    color_constancy: bool = False
    clahe: bool = False
    resize: str = "squash"
    short_side: int = 0
    image_size: int = 224

    @classmethod
    def from_config(cls, data: ConfigDict) -> "Preprocess":
        """Takes `config.data`.

        Raises:
          InputError: naming the field, its value and what is allowed.
        """
        if data.resize not in RESIZES:
            raise InputError(
                f"config.data.resize is {data.resize!r}; it must be one of {', '.join(RESIZES)}"
            )
        if data.image_size == 0:
            raise InputError(
                "config.data.image_size is 0, for the model's own size, and nothing has filled it"
                " in: set it, or call skinjax.models.pretrained.resolve(config) first"
            )
        if not MIN_SIZE <= data.image_size <= MAX_SIZE:
            raise InputError(
                f"config.data.image_size is {data.image_size}; it must be {MIN_SIZE} to {MAX_SIZE}"
                " pixels"
            )
        if data.short_side and not data.image_size <= data.short_side <= MAX_SIZE:
            raise InputError(
                f"config.data.short_side is {data.short_side}; it must be 0, which is image_size,"
                f" or {data.image_size} (image_size) to {MAX_SIZE} pixels"
            )
        if data.short_side and data.resize != "crop":
            raise InputError(
                f"config.data.short_side is {data.short_side}, and config.data.resize is"
                f" {data.resize!r}; only 'crop' has a short side, so set it to 0"
            )
        return cls(
            **{name: data.preprocess[name] for name in STEPS},
            resize=data.resize,
            short_side=data.short_side,
            image_size=data.image_size,
        )

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> "Preprocess":
        """Takes back what `settings` gave.

        Raises:
          InputError: another version of this package wrote it: a setting is unknown or missing.
        """
        expected = [field.name for field in dataclasses.fields(cls)]
        if sorted(settings) != sorted(expected):
            raise InputError(
                f"the preprocessing has the settings {', '.join(sorted(settings))}; expected"
                f" {', '.join(sorted(expected))}: use the version of skinjax that wrote it"
            )
        return cls(**settings)

    def settings(self) -> dict[str, Any]:
        """Returns every setting, for JSON."""
        return dataclasses.asdict(self)

    def steps(self) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
        """Returns the steps that are on, by name and in order, without the resizing."""
        return {name: step for name, step in STEPS.items() if getattr(self, name)}

    def __call__(self, image_HWC: np.ndarray) -> np.ndarray:
        """Applies the steps that are on, then resizes.

        Args:
          image_HWC: uint8 (H, W, 3), RGB, any size; not modified.

        Returns:
          uint8 (image_size, image_size, 3); the input itself if there is nothing to do.
        """
        for step in self.steps().values():
            image_HWC = step(image_HWC)
        return self.resized(image_HWC)

    def resized(self, image_HWC: np.ndarray) -> np.ndarray:
        """Applies the resizing alone."""
        if self.resize == "squash":
            return images.resize(image_HWC, self.image_size)
        if self.resize == "crop":
            return crop(image_HWC, self.image_size, self.short_side or self.image_size)
        return pad(image_HWC, self.image_size)


def crop(image_HWC: np.ndarray, image_size: int, short_side: int) -> np.ndarray:
    """Resizes to a short side of `short_side`, aspect kept, and cuts out the centre."""
    # What is far off the centre is cut first: a line of 1 x 60,000 would be of Gbytes, resized.
    image_HWC = _centre(image_HWC, _MAX_ASPECT * min(image_HWC.shape[:2]))
    height, width = image_HWC.shape[:2]
    scale = short_side / min(height, width)
    image_HWC = images.resize_to(image_HWC, round(height * scale), round(width * scale))
    return np.ascontiguousarray(_centre(image_HWC, image_size))


def pad(image_HWC: np.ndarray, image_size: int) -> np.ndarray:
    """Resizes to a long side of `image_size`, aspect kept, between two bars of black."""
    scale = image_size / max(image_HWC.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image_HWC.shape[:2])
    image_HWC = images.resize_to(image_HWC, height, width)
    top, left = (image_size - height) // 2, (image_size - width) // 2
    bottom, right = image_size - height - top, image_size - width - left
    return cv2.copyMakeBorder(image_HWC, top, bottom, left, right, cv2.BORDER_CONSTANT, value=0)


def _centre(image_HWC: np.ndarray, most: int) -> np.ndarray:
    """The middle of the image, of at most `most` pixels a side."""
    height, width = (min(side, most) for side in image_HWC.shape[:2])
    top, left = (image_HWC.shape[0] - height) // 2, (image_HWC.shape[1] - width) // 2
    return image_HWC[top : top + height, left : left + width]
