"""Writes the golden files of timm's networks: what timm computes with seeded weights.

README.md in this folder says what PEER and TOOLS are. Command (4 minutes on 2 cores, 6 GB):

    PYTHONPATH=TOOLS PEER/bin/python scripts/golden/timm_models.py [file's name ...]

The computation is in float64, so that the reference has no rounding of its own; the error of
timm's own float32 computation is recorded beside it.
"""

import copy
import pathlib
import sys

import numpy as np
import timm_on_cpu  # noqa: F401

# isort: split
import timm
import torch

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"
sys.path.insert(0, str(GOLDEN))
import golden_file  # noqa: E402
import seeded_weights  # noqa: E402

SEED = 4
# Neither square nor a power of two: rows are not columns, and strides meet odd sizes.
SMALL = (2, 72, 64, 3)
FULL = (2, 224, 224, 3)
EFFICIENTNET = {"stem": "bn1", **{f"block{i + 1}": f"blocks.{i}" for i in range(7)}, "top": "bn2"}
EFFICIENTNET_6 = {key: path for key, path in EFFICIENTNET.items() if key != "block7"}
RESNET = {"stem": "maxpool", **{f"layer{i}": f"layer{i}" for i in range(1, 5)}}
INCEPTION = {
    "stem": "Pool2",
    **{f"mixed_5{letter}": f"Mixed_5{letter}" for letter in "bcd"},
    **{f"mixed_6{letter}": f"Mixed_6{letter}" for letter in "abcde"},
    **{f"mixed_7{letter}": f"Mixed_7{letter}" for letter in "abc"},
}
DENSENET = {
    "stem": "features.pool0",
    **{f"dense{i}": f"features.transition{i}" for i in range(1, 4)},
    "dense4": "features.denseblock4",
    "top": "features.norm5",
}
CONVNEXT = {"stem": "stem", **{f"stage{i + 1}": f"stages.{i}" for i in range(4)}}
CONVNEXT["norm"] = "head.norm"
VIT = {"stem": "norm_pre", **{f"block{i + 1}": f"blocks.{i}" for i in range(12)}, "norm": "norm"}


def stages_and_image(architecture: str) -> tuple[dict[str, str], tuple[int, int, int, int]]:
    """Returns the modules whose outputs are the stages' feature maps, and the image's shape."""
    if architecture.startswith("vgg"):
        ends = (6, 13, 23, 33, 43) if architecture.endswith("bn") else (4, 9, 16, 23, 30)
        blocks = {f"block{i + 1}": f"features.{end}" for i, end in enumerate(ends)}
        # Below 224 pixels the last map is stretched for the first dense layer.
        return {**blocks, "fc": "pre_logits"}, SMALL if architecture.endswith("bn") else FULL
    if architecture.startswith("vit"):
        return VIT, FULL
    if architecture.startswith("inception"):
        # Batch norm needs a last map of some size, or one step's rounding errors grow too large.
        return INCEPTION, (2, 171, 155, 3)
    for start, stages in {
        "tf_efficientnetv2_s": EFFICIENTNET_6,
        "tf_efficientnetv2": EFFICIENTNET,
        "efficientnet": EFFICIENTNET,
        "tf_efficientnet": EFFICIENTNET,
        "resnet": RESNET,
        "densenet": DENSENET,
        "convnext": CONVNEXT,
    }.items():
        if architecture.startswith(start):
            return stages, SMALL
    raise ValueError(f"no stages are known for {architecture}")


def networks() -> dict[str, str]:
    """Returns timm's architecture for each golden file."""
    return {
        "efficientnet_b0-tf": "tf_efficientnet_b0",
        **{f"efficientnet_b{i}": f"efficientnet_b{i}" for i in range(6)},
        **{f"efficientnet_b{i}-tf": f"tf_efficientnet_b{i}" for i in (6, 7)},
        **{f"efficientnetv2_{size}-tf": f"tf_efficientnetv2_{size}" for size in "sml"},
        **{f"resnet{depth}": f"resnet{depth}" for depth in (18, 34, 50, 101)},
        **{name: name for name in ("vgg16", "vgg16_bn", "inception_v3")},
        **{f"densenet{depth}": f"densenet{depth}" for depth in (121, 201)},
        **{f"convnext_{size}": f"convnext_{size}" for size in ("tiny", "small", "base")},
        **{f"vit_{size}_patch16": f"vit_{size}_patch16_224" for size in ("small", "base")},
    }


def main(wanted: list[str]) -> None:
    """Writes the files named, or all."""
    torch.set_grad_enabled(False)
    for name, architecture in networks().items():
        if not wanted or name in wanted:
            golden = compute(architecture)
            golden.write(GOLDEN / f"{name}.npz")
            size = (GOLDEN / f"{name}.npz").stat().st_size
            print(f"{name}: {size / 1000:.0f} kB, {golden.contrast:.2f} contrast,", end=" ")
            print({key: f"{error:.0e}" for key, error in golden.float32_error.items()}, flush=True)


def compute(architecture: str) -> golden_file.Golden:
    """Returns what timm computes."""
    stages, image_shape = stages_and_image(architecture)
    golden = golden_file.Golden(f"timm {timm.__version__}", architecture, SEED, image_shape)
    model = timm.create_model(architecture, pretrained=False)
    pixels = seeded_weights.images(image_shape, SEED)
    image = torch.from_numpy(seeded_weights.normalised(pixels)).permute(0, 3, 1, 2)
    golden.tensors = calibrated(model, image)

    single = outputs(model.eval(), stages, image)
    exact = outputs(copy.deepcopy(model).double(), stages, image.double())
    golden.float32_error["eval"] = max(relative(single[key], exact[key]) for key in exact)
    golden.contrast = golden_file.contrast(exact["logits"])
    for key, values in exact.items():
        golden_file.check_spread(f"{architecture}: {key}", values)
        golden.add(f"eval/{key}", values)

    if norms(model):
        golden.share = 1 - norms(model)[0][1].momentum
        wide = copy.deepcopy(model).double()
        single = outputs(model.train(), {}, image)
        exact = outputs(wide.train(), {}, image.double())
        golden.float32_error["train"] = relative(single["logits"], exact["logits"])
        golden.add("train/logits", exact["logits"])
        state = wide.state_dict()
        after = {key: state[key].numpy() for key in golden.statistics_names}
        golden.arrays["train/statistics"] = golden_file.sample_statistics(after)
    return golden


def calibrated(model: torch.nn.Module, image: torch.Tensor) -> list[seeded_weights.Tensor]:
    """Fills `model` and returns its tensors, with a scale for each.

    Every batch norm's running variance is scaled, from the first to the last, to the variance that
    the image gives it, and the last norm of a residual branch is made small. Without both, the
    activations grow from block to block until float32 has no right digits left. What the first
    norm sees is small, so that its epsilon shows.
    """
    state = model.state_dict()
    scales = {f"{name}.weight": 0.3 for name in last_norms(model)}
    scales |= dict.fromkeys(before_first_norm(model), 2**-5)
    kinds = {key: str(tensor.dtype).removeprefix("torch.") for key, tensor in state.items()}
    tensors = [
        seeded_weights.Tensor(key, tuple(tensor.shape), kinds[key], scales.get(key, 1.0))
        for key, tensor in state.items()
    ]
    load(model, tensors)

    def calibrate(name, norm, inputs):
        variance = inputs[0].var((0, 2, 3), unbiased=False)
        scale = float(f"{(variance / norm.running_var).mean().item():.3g}")
        scales[f"{name}.running_var"] = scale
        scales[f"{name}.running_mean"] = float(f"{scale**0.5:.3g}")
        norm.running_var.mul_(scale)
        norm.running_mean.mul_(scales[f"{name}.running_mean"])

    hooks = [
        norm.register_forward_pre_hook(lambda norm, x, name=name: calibrate(name, norm, x))
        for name, norm in norms(model)
    ]
    model.eval()(image)
    for hook in hooks:
        hook.remove()
    tensors = [tensor._replace(scale=scales.get(tensor.name, 1.0)) for tensor in tensors]
    load(model, tensors)
    return tensors


def load(model: torch.nn.Module, tensors: list[seeded_weights.Tensor]) -> None:
    """Fills a model with seeded weights."""
    filled = seeded_weights.fill(tensors, SEED)
    model.load_state_dict({key: torch.from_numpy(values) for key, values in filled.items()})


def norms(model: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """Returns the names and modules of all batch norms."""
    kind = torch.nn.modules.batchnorm._BatchNorm
    return [(name, module) for name, module in model.named_modules() if isinstance(module, kind)]


def last_norms(model: torch.nn.Module) -> list[str]:
    """Returns the names of the batch norms just before a residual addition."""
    last = {"BasicBlock": "bn2", "Bottleneck": "bn3", "InvertedResidual": "bn3"}
    last |= {"DepthwiseSeparableConv": "bn2", "EdgeResidual": "bn2", "ConvBnAct": "bn1"}
    return [
        f"{name}.{last[type(module).__name__]}"
        for name, module in model.named_modules()
        if type(module).__name__ in last and getattr(module, "has_skip", True)
    ]


def before_first_norm(model: torch.nn.Module) -> list[str]:
    """Returns the tensors to make small so that the epsilon of the first norm matters."""
    layer, first = next(
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Conv2d)
    )
    names = [f"{layer}.{name}" for name, _ in first.named_parameters()]
    tokens = [name for name in ("cls_token", "pos_embed") if hasattr(model, name)]
    has_norm = norms(model) or any(isinstance(m, torch.nn.LayerNorm) for m in model.modules())
    return names + tokens if has_norm else []


def outputs(
    model: torch.nn.Module, stages: dict[str, str], image: torch.Tensor
) -> dict[str, np.ndarray]:
    """Returns the logits and the stages' feature maps, (B, H, W, C), (B, tokens, D) or (B, C)."""
    found = {}

    def keep(stage, values):
        if values.ndim == 4:
            values = values.permute(0, 2, 3, 1)
        if stage in ("fc", "norm"):
            values = values.squeeze()
        found[stage] = values.numpy().copy()

    hooks = [
        model.get_submodule(path).register_forward_hook(
            lambda module, inputs, result, stage=stage: keep(stage, result)
        )
        for stage, path in stages.items()
    ]
    found["logits"] = model(image).numpy()
    for hook in hooks:
        hook.remove()
    return found


def relative(found: np.ndarray, exact: np.ndarray) -> float:
    """Returns the largest difference over the largest value."""
    return float(f"{np.abs(found - exact).max() / np.abs(exact).max():.1e}")


if __name__ == "__main__":
    main(sys.argv[1:])
