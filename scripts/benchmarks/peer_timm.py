"""The timm side of `compare.py`, which starts it in timm's own environment and asks it in lines.

A request {"model", "kind", "batch", "size", "dtype", "mode", "augment", "steps"} is answered with
the seconds of that many steps; one seen for the first time is built, compiled and warmed up before.
{"forget": true} frees all. `kind` is as in `network_step.py`; `mode` is "eager", "compiled"
(`torch.compile`) or another of its modes ("reduce-overhead", "max-autotune"); `augment` is
skinjax's `config.augment`. Where `timm_on_cpu` can be imported, it is, before timm.

The work is that of skinjax's steps, as somebody who knows PyTorch would write it: uint8 images on
the device, augmented there as one batch; channels_last; autocast for bfloat16; AdamW (fused) on two
groups of parameters, gradients clipped by their norm, dropout of 0.2 before the last layer. It
differs in what does not show: a constant learning rate for a cosine, PyTorch's Gaussian noise for a
faster one that is nearly normal, and no probabilities nor sums of the loss kept for the log.
On a CPU glibc is tuned as skinjax's is (`peer.keep_freed_memory`), unless the benchmark asks for
PyTorch as it comes, which is slower.
"""
# ruff: noqa: E402 - glibc is tuned between the imports

import contextlib
import functools
import gc
import time
from collections.abc import Callable, Mapping
from typing import Any

import peer

MALLOC = peer.keep_freed_memory()  # before PyTorch's threads


with contextlib.suppress(ImportError):
    import timm_on_cpu  # noqa: F401
import timm
import timm.optim
import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NUM_CLASSES = 7
LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM, DROPOUT = 1e-3, 1e-4, 1.0, 0.2
MEAN = torch.tensor([0.485, 0.456, 0.406], device=DEVICE).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225], device=DEVICE).view(1, 3, 1, 1)

# BT.601 luma and NTSC's chroma axes, as skinjax turns hue.
YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], device=DEVICE
)
RGB = torch.linalg.inv(YIQ)


def augment(image_BCHW: torch.Tensor, settings: Mapping[str, Any]) -> torch.Tensor:
    """uint8 to [0, 1]: colour, flips with rotation and crop in one sampling, noise; as skinjax."""
    image_BCHW = image_BCHW.float()
    batch = len(image_BCHW)
    if any(settings[name] for name in ("brightness", "contrast", "saturation", "hue")):
        matrix_B33, offset_B1 = draw_colour(image_BCHW, settings)
        pixel_B3N = torch.baddbmm(offset_B1[:, :, None], matrix_B33, image_BCHW.flatten(2))
        image_BCHW = pixel_B3N.view(image_BCHW.shape)
    theta_B23 = draw_affine(batch, settings)
    grid_BHW2 = torch.nn.functional.affine_grid(
        theta_B23, list(image_BCHW.shape), align_corners=False
    )
    image_BCHW = torch.nn.functional.grid_sample(
        image_BCHW, grid_BHW2, padding_mode="reflection", align_corners=False
    )
    image_BCHW = image_BCHW / 255 + settings["noise_std"] * torch.randn_like(image_BCHW)
    return image_BCHW.clamp(0, 1)


def draw_colour(
    image_BCHW: torch.Tensor, settings: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Brightness, contrast, saturation and hue as one map of RGB: (B, 3, 3) and (B, 1)."""
    draw_4B = 2 * torch.rand(4, len(image_BCHW), device=DEVICE) - 1
    brightness_B, contrast_B, saturation_B = (
        1 + settings[name] * draw_B
        for name, draw_B in zip(("brightness", "contrast", "saturation"), draw_4B[:3], strict=True)
    )
    angle_B = -2 * torch.pi * settings["hue"] * draw_4B[3]
    cos_B, sin_B = saturation_B * angle_B.cos(), saturation_B * angle_B.sin()
    zero_B, one_B = torch.zeros_like(cos_B), torch.ones_like(cos_B)
    turn_B33 = torch.stack(
        [one_B, zero_B, zero_B, zero_B, cos_B, -sin_B, zero_B, sin_B, cos_B], 1
    ).view(-1, 3, 3)
    matrix_B33 = RGB @ turn_B33 @ YIQ * (brightness_B * contrast_B)[:, None, None]
    grey_B = image_BCHW.mean((2, 3)) @ YIQ[0]
    return matrix_B33, ((1 - contrast_B) * brightness_B * grey_B)[:, None]


def draw_affine(batch: int, settings: Mapping[str, Any]) -> torch.Tensor:
    """Flips, rotation and crop of square images as `affine_grid` takes them: (B, 2, 3)."""
    draw_6B = torch.rand(6, batch, device=DEVICE)
    low, high = settings["crop_scale"]
    side_B = (low + (high - low) * draw_6B[3]).sqrt()
    angle_B = settings["rotation_degrees"] * torch.pi / 180 * (2 * draw_6B[2] - 1)
    cos_B, sin_B = angle_B.cos(), angle_B.sin()
    left_B, top_B = ((1 - side_B) * (2 * draw_B - 1) for draw_B in draw_6B[4:])
    row_x = [cos_B * side_B, -sin_B * side_B, cos_B * left_B - sin_B * top_B]
    row_y = [sin_B * side_B, cos_B * side_B, sin_B * left_B + cos_B * top_B]
    flip_2B = torch.stack(
        [draw_6B[0] < settings["flip_horizontal"], draw_6B[1] < settings["flip_vertical"]]
    )
    theta_23B = torch.stack([torch.stack(row_x), torch.stack(row_y)])
    return (theta_23B * (1 - 2 * flip_2B.float())[:, None]).permute(2, 0, 1)


def normalize(image_BCHW: torch.Tensor) -> torch.Tensor:
    """By ImageNet's mean and standard deviation, to channels_last."""
    return ((image_BCHW - MEAN) / STD).contiguous(memory_format=torch.channels_last)


@functools.cache
def make_step(
    name: str, kind: str, batch: int, size: int, dtype: str, mode: str, settings: Any
) -> tuple[Callable[[], Any], int, float]:
    """What takes one step, how many parameters there are, and the seconds to compile and warm up.

    Args:
      name, kind, batch, size, dtype, mode: as in a request.
      settings: its "augment" as a tuple of pairs.
    """
    torch.manual_seed(0)
    known = name if timm.is_model(name) else f"{name}_{size}"
    if not timm.is_model(known):
        known = f"{name}_224"
    more = {"img_size": size} if "vit_" in known else {}
    model = timm.create_model(known, num_classes=NUM_CLASSES, drop_rate=DROPOUT, **more)
    model = model.to(DEVICE, memory_format=torch.channels_last).train(kind != "infer")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, device=DEVICE)
    if kind != "train":  # else the sampling wants whole channels
        images = images.contiguous(memory_format=torch.channels_last)
    inputs = functools.partial(_inputs, settings=dict(settings) if kind == "train" else None)
    if mode != "eager":
        torch_mode = None if mode == "compiled" else mode
        model = torch.compile(model, mode=torch_mode)
        inputs = torch.compile(inputs, mode=torch_mode)
    autocast = torch.autocast(DEVICE.type, torch.bfloat16, enabled=dtype == "bfloat16")
    make = _forward if kind == "infer" else _training
    step = make(model, inputs, images, autocast)
    start = time.perf_counter()
    for _ in range(3):
        step()
    synchronize()
    return step, parameters, time.perf_counter() - start


def _inputs(image_BCHW: torch.Tensor, settings: Mapping[str, Any] | None) -> torch.Tensor:
    return normalize(image_BCHW / 255 if settings is None else augment(image_BCHW, settings))


def _training(
    model: Any, inputs: Callable[..., torch.Tensor], images: torch.Tensor, autocast: Any
) -> Callable[[], Any]:
    labels = torch.arange(len(images), device=DEVICE) % NUM_CLASSES
    parameters = list(model.parameters())
    groups = timm.optim.param_groups_weight_decay(model, WEIGHT_DECAY)
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with torch.no_grad():
            image_BCHW = inputs(images)
        with autocast:
            loss = torch.nn.functional.cross_entropy(model(image_BCHW), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()

    return step


def _forward(
    model: Any, inputs: Callable[..., torch.Tensor], images: torch.Tensor, autocast: Any
) -> Callable[[], Any]:
    def step() -> torch.Tensor:
        with torch.inference_mode(), autocast:
            return model(inputs(images)).float().softmax(1)

    return step


def synchronize() -> None:
    """Waits for the GPU, where there is one."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def answer(*, forget: bool = False, **request: Any) -> dict[str, Any]:
    """The seconds of a request's steps."""
    if forget:
        make_step.cache_clear()
        torch._dynamo.reset()
        gc.collect()
        torch.cuda.empty_cache()
        return {}
    steps, settings = request.pop("steps"), request.pop("augment")
    frozen = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in settings.items())
    names = ("model", "kind", "batch", "size", "dtype", "mode")
    step, parameters, warm_up = make_step(*(request[name] for name in names), frozen)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    synchronize()
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else None
    return {"seconds": seconds, "warm_up": warm_up, "parameters": parameters, "peak_memory": peak}


def main() -> None:
    """Answers until stdin ends."""
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as JAX has it
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu"
    versions = {"timm": timm.__version__, "torch": torch.__version__, "device": device}
    peer.serve(versions | {"threads": torch.get_num_threads(), "malloc": MALLOC}, answer)


if __name__ == "__main__":
    main()
