"""PyTorch's side of `pipeline.py`: a DataLoader over JPEG files, asked in lines by `peer.py`.

A request {"folder", "batch", "workers", "augment", "seconds"} is answered with how many images came
in batches in how many seconds. `augment` is skinjax's `config.augment`, done by torchvision's v2
transforms on uint8 tensors as its documentation advises, then to float32 and normalised; {} is to
decode and stack uint8 alone. Decoded by whichever is faster here, torchvision's own decoder (which
needs its compiled operators) or Pillow. Where `timm_on_cpu` can be imported, it is: it lets
torchvision be imported beside a PyTorch without CUDA.

The work differs in what v2 has no transform for: rotation and crop are two samplings here and one
in skinjax. On a CPU glibc is tuned as skinjax's is (`peer.keep_freed_memory`), unless the benchmark
asks for PyTorch as it comes, which is slower.
"""
# ruff: noqa: E402 - glibc is tuned between the imports

import contextlib
import functools
import io
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import peer

MALLOC = peer.keep_freed_memory()  # before PyTorch's threads

import torch
from PIL import Image

with contextlib.suppress(ImportError):
    import timm_on_cpu  # noqa: F401
import torchvision
from torchvision import io as torchvision_io
from torchvision.transforms import v2

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TRIED = 50  # files, to choose the decoder


class Files(torch.utils.data.Dataset):
    """JPEG files: uint8 (3, H, W), or what the transform makes of it, and a label."""

    def __init__(
        self,
        paths: list[str],
        decode: Callable[[bytes], torch.Tensor],
        transform: Callable[[torch.Tensor], torch.Tensor] | None,
    ) -> None:
        self._paths, self._decode, self._transform = paths, decode, transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image_CHW = self._decode(Path(self._paths[index]).read_bytes())
        if self._transform is not None:
            image_CHW = self._transform(image_CHW)
        return image_CHW, index % 7


def decode_pillow(data: bytes) -> torch.Tensor:
    """By Pillow."""
    return v2.functional.pil_to_tensor(Image.open(io.BytesIO(data)).convert("RGB"))


def decode_torchvision(data: bytes) -> torch.Tensor:
    """By torchvision's libjpeg-turbo."""
    buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return torchvision_io.decode_jpeg(buffer, mode=torchvision_io.ImageReadMode.RGB)


def transforms(settings: Mapping[str, Any], size: int) -> v2.Transform:
    """The same draws from the same ranges as skinjax's augmentation."""
    jitter = {name: settings[name] for name in ("brightness", "contrast", "saturation", "hue")}
    chain = [
        v2.RandomHorizontalFlip(settings["flip_horizontal"]),
        v2.RandomVerticalFlip(settings["flip_vertical"]),
        v2.RandomRotation(
            settings["rotation_degrees"], interpolation=v2.InterpolationMode.BILINEAR
        ),
        v2.RandomResizedCrop(size, scale=tuple(settings["crop_scale"]), ratio=(1, 1)),
        v2.ColorJitter(**jitter),
        v2.ToDtype(torch.float32, scale=True),
        v2.GaussianNoise(sigma=settings["noise_std"]),
        v2.Normalize(MEAN, STD),
    ]
    if not settings["flip_vertical"]:
        del chain[1]
    return v2.Compose(chain)


@functools.cache
def fastest_decoder(folder: str) -> Callable[[bytes], torch.Tensor]:
    """Whichever of the two decodes some of the files sooner; one that can't is out."""
    files = [path.read_bytes() for path in sorted(Path(folder).iterdir())[:_TRIED]]
    seconds = {}
    for decode in (decode_torchvision, decode_pillow):
        try:
            decode(files[0])
        except (RuntimeError, AttributeError):  # no compiled operators
            continue
        start = time.perf_counter()
        for data in files:
            decode(data)
        seconds[decode] = time.perf_counter() - start
    return min(seconds, key=lambda decode: seconds[decode])


@functools.cache
def batches(
    folder: str, batch: int, workers: int, augment: tuple[tuple[str, Any], ...]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Shuffled batches without end; the workers stay."""
    paths = sorted(str(path) for path in Path(folder).iterdir())
    decode = fastest_decoder(folder)
    size = decode(Path(paths[0]).read_bytes()).shape[-1]
    loader = torch.utils.data.DataLoader(
        Files(paths, decode, transforms(dict(augment), size) if augment else None),
        batch_size=batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
        pin_memory=torch.cuda.is_available(),
    )

    def endless() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield from loader

    return endless()


def answer(
    folder: str, batch: int, workers: int, augment: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """Takes batches for some seconds, after as many as were read ahead."""
    frozen = tuple(
        (name, tuple(value) if isinstance(value, list) else value)
        for name, value in augment.items()
    )
    iterator = batches(folder, batch, workers, frozen)
    for _ in range(2 * workers + 1):
        next(iterator)
    start, images = time.perf_counter(), 0
    while (taken := time.perf_counter() - start) < seconds or not images:
        images += len(next(iterator)[0])
    return {
        "images": images,
        "seconds": taken,
        "decoder": fastest_decoder(folder).__name__,
    }


if __name__ == "__main__":
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    peer.serve(versions | {"malloc": MALLOC}, answer)
