"""PyTorch's side of `end_to_end.py`: the same training, asked in lines by `peer.py`.

A request {"folder", "model", "classes", "batch", "epochs", "dtype", "mode", "workers", "augment"}
is answered with the seconds of each epoch, its training and its validation, and how many images
each had. `folder` holds train/ and val/ of JPEG files named <number>_<label>.jpg; `augment` is
skinjax's `config.augment`; `mode` is "eager" or "compiled" (`torch.compile`).

It is what somebody who knows PyTorch would write: a DataLoader with worker processes that stay,
decoding and torchvision's v2 transforms in them on uint8 (as in `peer_loader.py`), pinned memory
and copies that don't wait; timm's network with dropout of 0.2, channels_last, autocast for
bfloat16; AdamW (fused) on two groups of parameters with the gradients' norm clipped, and the loss
read one step behind. It differs in what takes no time: a constant learning rate for a warm-up and a
cosine, and no files of logs and checkpoints. Rotation and crop are two samplings. On a
CPU glibc is tuned as skinjax's is (`peer.keep_freed_memory`), unless the benchmark asks for PyTorch
as it comes, which is slower.
"""
# ruff: noqa: E402 - glibc is tuned between the imports

import contextlib
import functools
import gc
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peer

MALLOC = peer.keep_freed_memory()  # before PyTorch's threads

import peer_loader
import torch
from torchvision.transforms import v2

with contextlib.suppress(ImportError):
    import timm_on_cpu  # noqa: F401
import timm
import timm.optim

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM, DROPOUT = 1e-3, 1e-4, 1.0, 0.2


class Images(torch.utils.data.Dataset):
    """Files of a split: what the transform makes of uint8 (3, H, W), and the label."""

    def __init__(self, folder: Path, decode: Any, transform: Any) -> None:
        self._paths = sorted(folder.iterdir())
        self._decode, self._transform = decode, transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path = self._paths[index]
        image_CHW = self._decode(path.read_bytes())
        return self._transform(image_CHW), int(path.stem.rsplit("_", 1)[1])


def make_loader(folder: Path, batch: int, workers: int, augment: Mapping[str, Any] | None) -> Any:
    """Batches of a split: shuffled and augmented, or in order without."""
    decode = peer_loader.fastest_decoder(str(folder))
    size = decode(next(iter(sorted(folder.iterdir()))).read_bytes()).shape[-1]
    if augment is None:
        plain = [v2.ToDtype(torch.float32, scale=True)]
        transform = v2.Compose([*plain, v2.Normalize(peer_loader.MEAN, peer_loader.STD)])
    else:
        transform = peer_loader.transforms(augment, size)
    return torch.utils.data.DataLoader(
        Images(folder, decode, transform),
        batch_size=batch,
        shuffle=augment is not None,
        drop_last=augment is not None,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=DEVICE.type == "cuda",
    )


class Training:
    """The network, its optimizer, and an epoch of each kind."""

    def __init__(self, name: str, classes: int, dtype: str, mode: str) -> None:
        """Takes `model`, `classes`, `dtype` and `mode` of a request."""
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=classes, drop_rate=DROPOUT)
        self._model = model.to(DEVICE, memory_format=torch.channels_last)
        groups = timm.optim.param_groups_weight_decay(self._model, WEIGHT_DECAY)
        self._optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, fused=True)
        self._run = torch.compile(self._model) if mode == "compiled" else self._model
        self._autocast = functools.partial(
            torch.autocast, DEVICE.type, torch.bfloat16, enabled=dtype == "bfloat16"
        )

    def train(self, loader: Any) -> int:
        """One epoch; returns how many images it had."""
        self._model.train()
        images, pending = 0, None
        for image_BCHW, label_B in loader:
            self._optimizer.zero_grad()
            loss = self._loss(image_BCHW, label_B)[0]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), CLIP_NORM)
            self._optimizer.step()
            if pending is not None:
                pending.item()
            pending = loss.detach()
            images += len(label_B)
        synchronize()
        return images

    def validate(self, loader: Any) -> int:
        """One pass; returns how many images it had."""
        self._model.eval()
        images, kept = 0, []
        with torch.inference_mode():
            for image_BCHW, label_B in loader:
                kept.append(self._loss(image_BCHW, label_B)[1].float().softmax(1))
                images += len(label_B)
        torch.cat(kept).cpu()
        return images

    def _loss(self, image_BCHW: torch.Tensor, label_B: torch.Tensor) -> tuple[Any, Any]:
        image_BCHW = image_BCHW.to(DEVICE, memory_format=torch.channels_last, non_blocking=True)
        with self._autocast():
            logits_BC = self._run(image_BCHW)
            label_B = label_B.to(DEVICE, non_blocking=True)
            return torch.nn.functional.cross_entropy(logits_BC, label_B), logits_BC


def synchronize() -> None:
    """Waits for the GPU, where there is one."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def answer(
    folder: str, model: str, classes: int, batch: int, epochs: int, dtype: str, mode: str,
    workers: int, augment: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Trains from new parameters."""
    began = time.perf_counter()
    training = Training(model, classes, dtype, mode)
    train = make_loader(Path(folder, "train"), batch, workers, augment)
    val = make_loader(Path(folder, "val"), batch, workers, None)
    seconds, images = [], 0
    for _ in range(epochs):
        start = time.perf_counter()
        images = training.train(train) + training.validate(val)
        seconds.append(time.perf_counter() - start)
    total = time.perf_counter() - began
    del training, train, val
    gc.collect()
    return {"epochs": seconds, "images": images, "seconds": total}


def main() -> None:
    """Answers until stdin ends."""
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as JAX has it
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu"
    versions = {"timm": timm.__version__, "torch": torch.__version__, "device": device}
    peer.serve(versions | {"threads": torch.get_num_threads(), "malloc": MALLOC}, answer)


if __name__ == "__main__":
    main()
