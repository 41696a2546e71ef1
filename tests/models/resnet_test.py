"""ResNet. Parity with timm and Keras is in the golden tests of all families."""

import json
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.models import resnet
from skinjax.models.backbone import Backbone
from skinjax.models.layers import Mode, Settings

GOLDEN = Path(__file__).parents[1] / "golden"
EVALUATION, TRAINING = Mode(train=False), Mode(train=True)


def tiny(
    depths: tuple[int, ...] = (1, 2),
    *,
    bottleneck: bool = True,
    drop_path: float = 0.0,
    keras: bool = False,
    **settings: Any,
) -> Backbone:
    return resnet.resnet(depths, bottleneck, 4, drop_path, keras, Settings(**settings))


def built(name: str, variant: str = "", width: int = 64) -> Backbone:
    model = ConfigDict({"variant": variant, "drop_path": 0.0, "width": width})
    return resnet.build(name, model, Settings())


def images(batch: int = 2) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((batch, 32, 32, 3), np.float32)


def shapes(module: Backbone) -> Any:
    """Shapes of the network's variables."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return jax.eval_shape(lambda x: module.init(jax.random.key(0), x, EVALUATION), image)


def drawn(module: Backbone) -> Any:
    """Variables with no zero or one left, so that no part of the network is without effect."""
    random = np.random.default_rng(2)

    def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> Any:
        noise = random.standard_normal(shape.shape, np.float32)
        if path[-1].key == "kernel":
            return noise / np.prod(shape.shape[:-1]) ** 0.5
        return 0.1 * np.abs(noise) + (path[-1].key in ("scale", "var"))

    return jax.tree_util.tree_map_with_path(leaf, shapes(module))


def evaluate(model: Backbone, variables: Any, image_BHWC: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(lambda x: model.apply(variables, x, EVALUATION))(image_BHWC))


def train(model: Backbone, variables: Any, image_BHWC: np.ndarray, mode: Mode, key: int = 0) -> Any:
    """Features and updated statistics."""
    rngs = {"dropout": jax.random.key(key)}
    settings: dict[str, Any] = {"rngs": rngs, "mutable": ["batch_stats"]}
    return jax.jit(lambda x: model.apply(variables, x, mode, **settings))(image_BHWC)


def manifest(name: str) -> dict[str, tuple[int, ...]]:
    """Shapes of a timm network's tensors, from its golden file."""
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        about = json.loads(file["about"].tobytes())
    return {tensor[0]: tuple(tensor[1]) for tensor in about["tensors"]}


def as_torch(leaf: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """PyTorch's name and shape of a leaf."""
    if leaf == "kernel":
        return "weight", (shape[3], shape[2], *shape[:2])
    names = {"scale": "weight", "mean": "running_mean", "var": "running_var"}
    return names.get(leaf, leaf), shape


def test_a_block_starts_as_the_identity() -> None:
    # With every residual branch at zero, the features are the stem's, pooled after the shortcut.
    model, shorter = tiny((2,), bottleneck=False), tiny((), bottleneck=False)
    variables = jax.jit(lambda x: model.init(jax.random.key(0), x, EVALUATION))(images(1))
    params = variables["params"]["layer1"]
    assert not any(params[block]["bn2"]["scale"].any() for block in ("block0", "block1"))
    stem = {collection: {"stem": leaves["stem"]} for collection, leaves in variables.items()}
    np.testing.assert_allclose(
        evaluate(model, variables, images()), evaluate(shorter, stem, images()), rtol=1e-6
    )


@pytest.mark.parametrize("keras", [False, True])
def test_strides_and_biases(keras: bool) -> None:
    model = tiny(keras=keras)

    def forward(image_BHWC: jax.Array) -> Any:
        variables = model.init(jax.random.key(0), image_BHWC, EVALUATION)
        capture: dict[str, Any] = {"capture_intermediates": lambda module, _: True}
        return variables, model.apply(variables, image_BHWC, EVALUATION, **capture)

    variables, (features_BC, seen) = jax.eval_shape(forward, images(1))
    layers = seen["intermediates"]
    assert model.stages == ("stem", "layer1", "layer2")
    assert layers["stem"]["__call__"][0].shape == (1, 8, 8, 4)
    assert layers["layer1"]["__call__"][0].shape == (1, 8, 8, 16)
    # Keras, as the first paper, has the stride in the first 1x1 convolution, not in the 3x3.
    first = layers["layer2"]["block0"]["conv1"]["__call__"][0].shape
    assert first == ((1, 4, 4, 8) if keras else (1, 8, 8, 8))
    assert layers["layer2"]["block0"]["conv2"]["__call__"][0].shape == (1, 4, 4, 8)
    assert layers["layer2"]["__call__"][0].shape == (1, 4, 4, 32)
    assert (features_BC.shape, features_BC.dtype) == ((1, 32), jnp.float32)
    params = traverse_util.flatten_dict(variables["params"])
    biases = [path for path in params if "conv" in path[-2] and path[-1] == "bias"]
    assert len(biases) == (len([path for path in params if path[-1] == "kernel"]) if keras else 0)


@pytest.mark.parametrize("name", ["resnet18", "resnet101"])
def test_names_and_shapes_are_timms(name: str) -> None:
    variables = traverse_util.flatten_dict(shapes(built(name)))
    found = {}
    for (_, *layer, leaf), array in variables.items():
        torch_leaf, shape = as_torch(leaf, array.shape)
        found[f"{resnet.timm_name('/'.join(layer))}.{torch_leaf}"] = shape
    assert len(found) == len(variables)
    ours = {
        tensor: shape
        for tensor, shape in manifest(name).items()
        if not tensor.endswith("num_batches_tracked") and not tensor.startswith("fc")
    }
    assert found == ours
    stages = [resnet.timm_name(stage) for stage in built(name).stages]
    assert stages == ["maxpool", "layer1", "layer2", "layer3", "layer4"]


def test_names_are_keras() -> None:
    params = traverse_util.flatten_dict(shapes(built("resnet50", "keras"))["params"])
    layers = {path[:-1] for path in params}
    names = {resnet.keras_name("/".join(layer)) for layer in layers}
    assert len(names) == len(layers)
    golden = json.loads((GOLDEN / "keras_layers.json").read_text())["resnet50"]
    assert names == {name for name, _, weights in golden["layers"] if weights}
    assert sum(leaf.size for leaf in params.values()) == golden["parameters"]["trainable"]
    stages = [resnet.keras_name(stage) for stage in ("stem", "layer1", "layer3", "layer4")]
    assert stages == ["pool1_pool", "conv2_block3_out", "conv4_block6_out", "conv5_block3_out"]


def test_timm_architecture() -> None:
    assert resnet.timm_architecture("resnet34") == ("resnet34", "timm")
    for other in ("resnet152", "resnet50d", "resnetv2_50", "wide_resnet50_2"):
        assert resnet.timm_architecture(other) is None
    assert resnet.image_size("resnet34") == 224


@pytest.mark.parametrize(
    ("variant", "norm"),
    [("", (1e-5, 0.9, True)), ("timm", (1e-5, 0.9, True)), ("keras", (1.001e-5, 0.99, False))],
)
def test_variants(variant: str, norm: tuple[float, float, bool]) -> None:
    backbone = built("resnet50", variant)
    for module in (backbone, *backbone.modules, backbone.modules[2].blocks[1]):
        settings = module.settings
        found = settings.norm
        assert (found.epsilon, found.momentum, found.unbiased) == norm
        assert settings.padding == "symmetric"


@pytest.mark.parametrize(
    ("name", "variant", "known"),
    [("resnet18", "keras", "timm;"), ("resnet50", "tf", "timm, keras;")],
)
def test_unknown_variant_is_refused(name: str, variant: str, known: str) -> None:
    with pytest.raises(InputError, match=f"'{variant}', but {name} has only {known}"):
        built(name, variant)


def test_width_is_that_of_the_first_stage() -> None:
    params = shapes(built("resnet18", width=8))["params"]
    assert params["stem"]["conv1"]["kernel"].shape == (7, 7, 3, 8)
    assert params["layer4"]["block1"]["conv2"]["kernel"].shape == (3, 3, 64, 64)


def test_frozen_norms_keep_their_statistics_and_others_do_not() -> None:
    variables = drawn(tiny())
    frozen = frozenset({"stem/bn1", "layer2/block0/downsample_bn"})
    _, updates = train(tiny(), variables, images(4), Mode(True, frozen))
    before = traverse_util.flatten_dict(variables["batch_stats"])
    after = traverse_util.flatten_dict(updates["batch_stats"])
    same = {"/".join(path[:-1]) for path in before if np.array_equal(before[path], after[path])}
    assert same == frozen


def test_freezing_every_norm_is_evaluation() -> None:
    variables = drawn(tiny())
    norms = traverse_util.flatten_dict(variables["batch_stats"])
    frozen = frozenset("/".join(path[:-1]) for path in norms)
    features_BC = evaluate(tiny(), variables, images(4))
    np.testing.assert_allclose(
        train(tiny(), variables, images(4), Mode(True, frozen))[0], features_BC, rtol=1e-5
    )
    # And it matters: with batch statistics the features are others.
    free_BC, _ = train(tiny(), variables, images(4), TRAINING)
    assert not np.allclose(free_BC, features_BC, atol=1e-2)


def test_an_example_alone_is_its_row_in_a_batch() -> None:
    model = tiny(drop_path=0.5)
    variables = drawn(model)
    features_BC = evaluate(model, variables, images(4))
    alone_1C = evaluate(model, variables, images(4)[2:3])
    np.testing.assert_allclose(alone_1C[0], features_BC[2], rtol=1e-5, atol=1e-5)


def test_drop_path_is_linear_in_depth_and_on_in_training() -> None:
    model = tiny((2, 1), drop_path=0.5)
    variables = drawn(model)
    first, second = (train(model, variables, images(8), TRAINING, key)[0] for key in (0, 1))
    assert not np.allclose(first, second)
    rates: list[float] = []

    def watch(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if type(context.module).__name__ == "DropPath":
            rates.append(context.module.rate)
        return next_fun(*args, **kwargs)

    with nn.intercept_methods(watch):
        shapes(model)
    assert rates == [0.0, 0.25, 0.5]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_close_to_single(dtype: str) -> None:
    variables = drawn(tiny())
    half_BC, updates = train(tiny(dtype=jnp.dtype(dtype)), variables, images(4), TRAINING)
    want_BC, _ = train(tiny(), variables, images(4), TRAINING)
    assert half_BC.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(updates))
    assert 0 < np.max(np.abs(half_BC - want_BC)) < 0.1 * np.max(np.abs(want_BC))


def test_batch_statistics_are_over_the_named_axis() -> None:
    alone, model = tiny(), tiny(axis_name="batch")
    variables = drawn(alone)
    want_BC, want = train(alone, variables, images(4), TRAINING)

    def replica(image_BHWC: jax.Array) -> Any:
        return model.apply(variables, image_BHWC, TRAINING, mutable=["batch_stats"])

    split = images(4).reshape(2, 2, 32, 32, 3)
    features_DBC, updates = jax.jit(jax.vmap(replica, axis_name="batch"))(split)
    np.testing.assert_allclose(features_DBC.reshape(4, -1), want_BC, rtol=1e-4, atol=1e-4)
    jax.tree.map(
        lambda got, wanted: np.testing.assert_allclose(got[0], wanted, rtol=1e-4, atol=1e-4),
        updates["batch_stats"],
        want["batch_stats"],
    )


@pytest.fixture(scope="module", params=[False, True], ids=["timm", "keras"])
def gradients(request: pytest.FixtureRequest) -> dict[bool, Any]:
    """Loss and gradients in training, without and with remat."""

    def of(remat: bool) -> Any:
        model = tiny(drop_path=0.3, keras=request.param, remat=remat)
        variables = drawn(model)
        # On running statistics, because batch statistics take a convolution's bias out again.
        norms = traverse_util.flatten_dict(variables["batch_stats"])
        mode = Mode(True, frozenset("/".join(path[:-1]) for path in norms))

        def loss(params: Any) -> jax.Array:
            state = {**variables, "params": params}
            rngs = {"dropout": jax.random.key(2)}
            features_BC: Any = model.apply(state, images(4), mode, rngs=rngs)
            return jnp.cos(features_BC).sum()

        return jax.jit(jax.value_and_grad(loss))(variables["params"])

    return {remat: of(remat) for remat in (False, True)}


def test_gradients_reach_every_parameter(gradients: dict[bool, Any]) -> None:
    for path, leaf in traverse_util.flatten_dict(gradients[False][1], sep="/").items():
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 1e-6, path


def test_remat_keeps_names_and_gradients(gradients: dict[bool, Any]) -> None:
    (value, plain), (remat_value, remat) = gradients[False], gradients[True]
    np.testing.assert_allclose(remat_value, value, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, remat)
