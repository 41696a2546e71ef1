"""The normalisations of published weights: mean and std per channel, of RGB images in [0, 1]."""

from dataclasses import dataclass

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Normalization:
    """(image - mean) / std, red first, on images in [0, 1].

    Attributes:
      origin: where it was found, in words.
    """

    mean: Channels
    std: Channels
    origin: str


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "ImageNet's")
INCEPTION = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "Inception's")


def usual(name: str, variant: str) -> Normalization:
    """What most of timm's checkpoints of a network have (timm 1.0.31's `default_cfgs`)."""
    halves = name == "inception_v3" or name.startswith("vit_")
    if halves or (name.startswith("efficientnetv2_") and variant == "tf"):
        return INCEPTION
    return IMAGENET
