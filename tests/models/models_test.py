"""`create`: names, published sizes, and one clear line for what it can't build."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from skinjax.config import default_config
from skinjax.errors import InputError
from skinjax.models import Classifier, create, families, image_size, stages
from skinjax.models.layers import EVALUATION, BatchNorm

# Trainable parameters with 1,000 classes at the published image size, as timm's tables have them;
# of "keras" with batch statistics, as Keras's documentation has them (its 7 constants of
# normalization, which are no parameters here, aside).
PARAMETERS = {
    ("efficientnet_b0", ""): 5_288_548,
    ("efficientnet_b1", ""): 7_794_184,
    ("efficientnet_b2", ""): 9_109_994,
    ("efficientnet_b3", ""): 12_233_232,
    ("efficientnet_b4", ""): 19_341_616,
    ("efficientnet_b5", ""): 30_389_784,
    ("efficientnet_b6", ""): 43_040_704,
    ("efficientnet_b7", ""): 66_347_960,
    ("efficientnet_b0", "keras"): 5_330_571 - 7,
    ("efficientnetv2_s", ""): 21_458_488,
    ("efficientnetv2_m", ""): 54_139_356,
    ("efficientnetv2_l", ""): 118_515_272,
    ("resnet18", ""): 11_689_512,
    ("resnet34", ""): 21_797_672,
    ("resnet50", ""): 25_557_032,
    ("resnet101", ""): 44_549_160,
    ("resnet50", "keras"): 25_636_712,
    ("vgg16", ""): 138_357_544,
    ("vgg16_bn", ""): 138_365_992,
    ("vgg16", "keras"): 138_357_544,
    ("inception_v3", ""): 23_834_568,
    ("inception_v3", "keras"): 23_851_784,
    ("densenet121", ""): 7_978_856,
    ("densenet201", ""): 20_013_928,
    ("convnext_tiny", ""): 28_589_128,
    ("convnext_small", ""): 50_223_688,
    ("convnext_base", ""): 88_591_464,
    ("vit_small_patch16", ""): 22_050_664,
    ("vit_base_patch16", ""): 86_567_656,
}
SIZES = {
    **dict.fromkeys(families(), 224),
    "efficientnet_b1": 240,
    "efficientnet_b2": 260,
    "efficientnet_b3": 300,
    "efficientnet_b4": 380,
    "efficientnet_b5": 456,
    "efficientnet_b6": 528,
    "efficientnet_b7": 600,
    "efficientnetv2_s": 300,
    "efficientnetv2_m": 384,
    "efficientnetv2_l": 384,
    "inception_v3": 299,
}


def config(**fields: Any) -> ConfigDict:
    model = default_config().model
    model.update({"name": "resnet18", "head": (), **fields})
    return model


def variables_of(model: Classifier, size: int = 224) -> Any:
    image_BHWC = jnp.zeros((1, size, size, 3))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), image_BHWC, train=False))


def test_the_table_has_every_network() -> None:
    assert {name for name, _ in PARAMETERS} | {"simple_cnn", "simple_cnn4"} == set(families())


@pytest.mark.parametrize(("name", "variant"), PARAMETERS)
def test_published_parameter_counts_and_stage_names(name: str, variant: str) -> None:
    model = create(
        config(name=name, variant=variant, lowering="xla"), num_classes=1000, axis_name=None
    )
    variables = variables_of(model, SIZES[name])
    counted = variables if variant == "keras" else variables["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(counted)) == PARAMETERS[name, variant]
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    assert set(variables["params"]) == {"backbone", "head"}
    assert set(variables["params"]["backbone"]) <= set(model.stages[:-1])


def test_the_reference_s_simple_cnn() -> None:
    layers = (
        ("dense", 256), ("relu",), ("dropout", 0.7), ("dense", 128), ("relu",), ("dropout", 0.7),
    )  # fmt: skip
    model = create(config(name="simple_cnn", head=layers), num_classes=9, axis_name=None)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables_of(model)["params"]))
    assert parameters == 3_365_065


@pytest.mark.parametrize("name", families())
def test_every_network_says_its_image_size(name: str) -> None:
    assert image_size(name) == SIZES[name]


@pytest.mark.parametrize(
    ("name", "variant", "num_norms", "epsilon", "momentum", "unbiased"),
    [
        ("efficientnet_b0", "", 49, 1e-5, 0.9, True),
        ("efficientnet_b0", "tf", 49, 1e-3, 0.9, True),
        ("efficientnet_b0", "keras", 49, 1e-3, 0.99, False),
        ("resnet18", "timm", 20, 1e-5, 0.9, True),
        ("resnet50", "timm", 53, 1e-5, 0.9, True),
        ("resnet50", "keras", 53, 1.001e-5, 0.99, False),
        ("inception_v3", "", 94, 1e-3, 0.9, True),
        ("inception_v3", "keras", 94, 1e-3, 0.99, False),
    ],
)
def test_batch_norm_has_the_published_settings(
    name: str, variant: str, num_norms: int, epsilon: float, momentum: float, unbiased: bool
) -> None:
    norms: dict[tuple[str, ...], BatchNorm] = {}

    def watch(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, BatchNorm):
            norms[context.module.path] = context.module
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        variables_of(create(config(name=name, variant=variant), num_classes=2, axis_name=None), 96)
    assert len(norms) == num_norms
    settings = {norm.settings.norm for norm in norms.values()}
    assert {(one.epsilon, one.momentum, one.unbiased) for one in settings} == {
        (epsilon, momentum, unbiased)
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("efficientnet_b0", ("stem", *(f"block{n}" for n in range(1, 8)), "top", "head")),
        ("resnet50", ("stem", "layer1", "layer2", "layer3", "layer4", "head")),
        ("convnext_tiny", ("stem", "stage1", "stage2", "stage3", "stage4", "norm", "head")),
        ("vgg16", ("block1", "block2", "block3", "block4", "block5", "fc", "head")),
        ("simple_cnn", ("conv1", "conv2", "dense", "head")),
    ],
)
def test_stages_run_from_the_image_to_the_logits(name: str, expected: tuple[str, ...]) -> None:
    assert stages(config(name=name)) == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_config_fields_reach_the_network(dtype: str) -> None:
    fields = {
        "width": 8, "drop_path": 0.1, "dtype": dtype, "head": (("dropout", 0.2),),
        "lowering": "xla", "remat": True,
    }  # fmt: skip
    model = create(config(**fields), num_classes=7, axis_name="batch")
    settings = model.backbone.settings
    assert (settings.dtype, settings.axis_name) == (jnp.dtype(dtype), "batch")
    assert (settings.lowering, settings.remat) == ("xla", True)
    assert model.head.layers == (("dropout", 0.2),)
    assert model.head.settings == settings
    variables = variables_of(model, 32)
    assert variables["params"]["backbone"]["stem"]["conv1"]["kernel"].shape == (7, 7, 3, 8)
    logits_BC = jax.eval_shape(
        lambda variables: model.apply(variables, jnp.zeros((5, 32, 32, 3)), train=False), variables
    )
    assert (logits_BC.shape, logits_BC.dtype) == ((5, 7), jnp.float32)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "resnet51"}, r"'resnet51'; known are .*, simple_cnn4; did you mean resnet50\?$"),
        ({"name": "EfficientNet"}, r"did you mean efficientnet_b\d\?$"),
        ({"name": "swin"}, r"unknown model.name 'swin'; known are efficientnet_b0, .*, simple_cnn"),
        ({"dtype": "float64"}, r"'float64'; expected one of float32, bfloat16, float16"),
        ({"lowering": "gpu"}, r"model.lowering is 'gpu'; expected one of auto, xla, cpu"),
        ({"variant": "jax"}, r"model.variant is 'jax'; expected one of nothing, timm, tf, keras"),
        ({"variant": "keras"}, r"keras.*resnet18|resnet18.*keras"),
        ({"width": 0}, r"model.width is 0"),
        ({"width": 32, "name": "efficientnet_b0"}, r"efficientnet_b0 has no width to set"),
        ({"fully_connected": False}, r"resnet18 has no fully connected layers"),
        ({"drop_path": 1.0}, r"0 <= drop_path < 1"),
        ({"drop_path": 0.1, "name": "simple_cnn"}, r"drop_path"),
        ({"drop_path": 0.1, "name": "densenet121"}, r"drop_path"),
        ({"head": (("conv", 3),)}, r"\('conv', 3\)"),
    ],
)
def test_what_it_cannot_build_is_one_clear_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        create(config(**fields), num_classes=7, axis_name=None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "variant", "epsilon"),
    [("resnet50", "keras", 1e-3), ("resnet50", "timm", 1e-5), ("inception_v3", "timm", 1e-5)],
)
def test_a_new_head_has_the_constants_of_a_new_layer(
    name: str, variant: str, epsilon: float
) -> None:
    model = create(config(name=name, variant=variant), num_classes=2, axis_name=None)
    assert model.head.settings.norm.epsilon == epsilon


def test_metadata_is_a_second_input_whose_parameters_are_the_head_s() -> None:
    settings = config(name="simple_cnn", head=(("dense", 6), ("relu",)))
    create_one = partial(create, settings, num_classes=3, axis_name=None)
    image_BHWC = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))
    metadata_BM = jnp.array([[0.0, 1.0], [0.0, 0.0]])
    plain, model = create_one(), create_one(metadata_width=16)
    variables = model.init(jax.random.key(0), image_BHWC, metadata_BM, train=False)
    before = jax.eval_shape(lambda: plain.init(jax.random.key(0), image_BHWC, train=False))
    assert set(variables["params"]["head"]) == {*before["params"]["head"], "metadata"}
    assert variables["params"]["head"]["metadata"]["kernel"].shape == (2, 16)
    assert jax.tree.structure(variables["params"]["backbone"]) == jax.tree.structure(
        before["params"]["backbone"]
    )
    assert "metadata" not in before["params"]["head"]
    logits_BC = model.apply(variables, image_BHWC[:1].repeat(2, 0), metadata_BM, train=False)
    assert jnp.isfinite(logits_BC).all()
    assert not jnp.allclose(logits_BC[0], logits_BC[1])  # missing is not the same as the mean


def test_a_model_without_metadata_is_what_it_was() -> None:
    settings = config(name="simple_cnn")
    image_BHWC = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))
    model = create(settings, num_classes=3, axis_name=None, metadata_width=0)
    variables = model.init(jax.random.key(0), image_BHWC, train=False)
    logits_BC = model.apply(variables, image_BHWC, None, train=False)
    assert jnp.array_equal(logits_BC, model.apply(variables, image_BHWC, train=False))
    mode = EVALUATION
    bound = model.bind(variables)
    assert jnp.array_equal(logits_BC, bound.head(bound.backbone(image_BHWC, mode), mode))
    with pytest.raises(InputError, match="takes images alone"):
        model.apply(variables, image_BHWC, jnp.zeros((2, 3)), train=False)
