"""`create`: names, published sizes, and one clear line for what it can't build."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.models import Classifier, create

SIMPLE_HEAD = (
    ("dense", 256),
    ("relu",),
    ("dropout", 0.7),
    ("dense", 128),
    ("relu",),
    ("dropout", 0.7),
)


def config(**fields: Any) -> ConfigDict:
    defaults = {
        "name": "resnet18",
        "width": 64,
        "drop_path": 0.0,
        "head": (),
        "dtype": "float32",
        "pretrained": "",
    }
    return ConfigDict({**defaults, **fields})


def variables_of(model: Classifier, size: int = 224) -> Any:
    image_BHWC = jnp.zeros((1, size, size, 3))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), image_BHWC, train=False))


@pytest.mark.parametrize(
    ("name", "num_classes", "head", "parameters"),
    [
        ("efficientnet_b0", 1000, (), 5_288_548),
        ("resnet18", 1000, (), 11_689_512),
        ("resnet34", 1000, (), 21_797_672),
        ("resnet50", 1000, (), 25_557_032),
        ("simple_cnn", 9, SIMPLE_HEAD, 3_365_065),
    ],
)
def test_published_parameter_counts_and_stage_names(
    name: str, num_classes: int, head: Any, parameters: int
) -> None:
    model = create(config(name=name, head=head), num_classes=num_classes, axis_name=None)
    variables = variables_of(model)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    assert set(variables["params"]) == {"backbone", "head"}
    assert set(variables["params"]["backbone"]) == set(model.stages[:-1])
    assert model.stages[-1] == "head"
    if name != "simple_cnn":
        assert set(variables["batch_stats"]["backbone"]) == set(model.stages[:-1])


@pytest.mark.parametrize(
    ("name", "num_norms"), [("efficientnet_b0", 49), ("resnet18", 20), ("resnet50", 53)]
)
def test_batch_norm_has_the_published_settings(name: str, num_norms: int) -> None:
    # timm's efficientnet_b0.ra_in1k and resnet*: PyTorch's defaults, eps 1e-5 and momentum 0.1,
    # which is Flax's 0.9. (The TensorFlow port tf_efficientnet_b0 has 1e-3 and 0.01.)
    norms: dict[tuple[str, ...], nn.BatchNorm] = {}

    def watch(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, nn.BatchNorm):
            norms[context.module.path] = context.module
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        variables_of(create(config(name=name), num_classes=2, axis_name=None), 32)
    assert len(norms) == num_norms
    assert {(norm.epsilon, norm.momentum) for norm in norms.values()} == {(1e-5, 0.9)}


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("efficientnet_b0", ("stem", *(f"block{n}" for n in range(1, 8)), "top", "head")),
        ("resnet50", ("stem", "layer1", "layer2", "layer3", "layer4", "head")),
        ("simple_cnn", ("conv1", "conv2", "dense", "head")),
    ],
)
def test_stages_run_from_the_image_to_the_logits(name: str, stages: tuple[str, ...]) -> None:
    assert create(config(name=name), num_classes=2, axis_name=None).stages == stages


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_config_fields_reach_the_network(dtype: str) -> None:
    fields = {"width": 8, "drop_path": 0.1, "dtype": dtype, "head": (("dropout", 0.2),)}
    model = create(config(**fields), num_classes=7, axis_name="batch")
    assert (model.backbone.width, model.backbone.drop_path) == (8, 0.1)
    assert (model.backbone.dtype, model.backbone.axis_name) == (jnp.dtype(dtype), "batch")
    assert model.head.layers == (("dropout", 0.2),)
    assert (model.head.dtype, model.head.axis_name) == (jnp.dtype(dtype), "batch")
    variables = variables_of(model, 32)
    logits_BC = jax.eval_shape(
        lambda variables: model.apply(variables, jnp.zeros((5, 32, 32, 3)), train=False), variables
    )
    assert (logits_BC.shape, logits_BC.dtype) == ((5, 7), jnp.float32)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "resnet51"}, r"'resnet51'; known are .*, simple_cnn; did you mean resnet50\?$"),
        ({"name": "EfficientNet"}, r"did you mean efficientnet_b0\?$"),
        ({"name": "vgg"}, r"unknown model.name 'vgg'; known are efficientnet_b0, .*, simple_cnn$"),
        ({"pretrained": "timm"}, r"'timm', but published weights arrive in a later version"),
        ({"dtype": "float64"}, r"'float64'; expected one of float32, bfloat16, float16"),
        ({"width": 0}, r"model.width is 0"),
        ({"width": 32, "name": "efficientnet_b0"}, r"efficientnet_b0 has no width to set"),
        ({"drop_path": 1.0}, r"0 <= drop_path < 1"),
        ({"drop_path": 0.1, "name": "simple_cnn"}, r"no residual branch"),
        ({"head": (("conv", 3),)}, r"\('conv', 3\)"),
    ],
)
def test_what_it_cannot_build_is_one_clear_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        create(config(**fields), num_classes=7, axis_name=None)
    assert "\n" not in str(caught.value)


def test_unknown_stage_to_freeze_is_named_with_the_known_ones() -> None:
    model = create(config(width=4), num_classes=2, axis_name=None)
    with pytest.raises(InputError, match="no stage 'layer5' to freeze; stages: stem, layer1"):
        model.apply({}, jnp.zeros((1, 32, 32, 3)), train=True, frozen=("stem", "layer5"))
