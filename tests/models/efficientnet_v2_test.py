"""EfficientNetV2. Parity with timm is in the golden tests of all families."""

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
from skinjax.models import efficientnet_v2
from skinjax.models.backbone import Backbone
from skinjax.models.efficientnet_v2 import FusedBlock
from skinjax.models.layers import Mode, Settings

GOLDEN = Path(__file__).parents[1] / "golden"
EVALUATION = Mode(train=False)
# Of the image's side, after each stage.
REDUCTIONS = (2, 4, 8, 16, 16, 32, 32)


def tiny(drop_path: float = 0.0, **settings: Any) -> Backbone:
    """One convolution with a skip, two fused blocks, and one block with squeeze-and-excite."""
    return efficientnet_v2.efficientnet_v2(
        (1, 2, 0, 1), (4, 6, 6, 8), 10, drop_path, Settings(**settings)
    )


def built(name: str, variant: str = "") -> Backbone:
    model = ConfigDict({"variant": variant, "drop_path": 0.0})
    return efficientnet_v2.build(name, model, Settings())


def images(batch: int = 2) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((batch, 32, 32, 3), np.float32)


def shapes(module: nn.Module, size: int = 32) -> Any:
    """Shapes of the network's variables."""
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(lambda x: module.init(jax.random.key(0), x, EVALUATION), image)


def drawn(module: nn.Module) -> Any:
    """Variables with no zero or one left, so that no part of the network is without effect."""
    random = np.random.default_rng(2)

    def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> Any:
        noise = random.standard_normal(shape.shape, np.float32)
        if path[-1].key == "kernel":
            return noise / np.prod(shape.shape[:-1]) ** 0.5
        return 0.1 * np.abs(noise) + (path[-1].key in ("scale", "var"))

    return jax.tree_util.tree_map_with_path(leaf, shapes(module))


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


def test_stages_of_the_tiny_network() -> None:
    def forward(image_BHWC: jax.Array) -> Any:
        variables = tiny().init(jax.random.key(0), image_BHWC, EVALUATION)
        return variables, tiny().apply(variables, image_BHWC, EVALUATION, **capture)

    capture: dict[str, Any] = {"capture_intermediates": lambda module, _: True}
    variables, (features_BC, seen) = jax.eval_shape(forward, images(1))
    stages = tiny().stages
    assert stages == ("stem", "block1", "block2", "block3", "block4", "top")
    outputs = [
        seen["intermediates"][stage]["__call__"][0].shape
        for stage in ("stem", "block1", "block2", "block4", "top")
    ]
    assert outputs == [
        *((1, 16, 16, 4), (1, 16, 16, 4), (1, 8, 8, 6), (1, 4, 4, 8), (1, 4, 4, 10)),
    ]
    assert (features_BC.shape, features_BC.dtype) == ((1, 10), jnp.float32)
    params = variables["params"]
    assert set(params["block1"]["block0"]) == {"conv", "bn"}
    assert params["block2"]["block0"]["conv_expand"]["kernel"].shape == (3, 3, 4, 16)
    assert params["block4"]["block0"]["se"]["conv_reduce"]["kernel"].shape == (1, 1, 24, 1)


@pytest.mark.parametrize(
    ("name", "blocks", "last", "size"),
    [
        ("efficientnetv2_s", 40, "block6", 300),
        ("efficientnetv2_m", 57, "block7", 384),
        ("efficientnetv2_l", 79, "block7", 384),
    ],
)
def test_sizes(name: str, blocks: int, last: str, size: int) -> None:
    # The numbers of blocks are those of timm 1.0.31's networks.
    backbone = built(name)
    assert backbone.stages[-2:] == (last, "top")
    stages: Any = backbone.modules[1:-1]
    assert sum(len(stage.blocks) for stage in stages) == blocks
    strides = np.array([[block.strides for block in stage.blocks[:2]] for stage in stages])
    np.testing.assert_array_equal(2 * strides[:, 0].cumprod(), REDUCTIONS[: len(stages)])
    np.testing.assert_array_equal(strides[:, 1], 1)
    assert efficientnet_v2.image_size(name) == size


def test_names_and_shapes_are_timms() -> None:
    variables = traverse_util.flatten_dict(shapes(built("efficientnetv2_s", "tf")))
    found = {}
    for (_, *layer, leaf), array in variables.items():
        name, shape = as_torch(leaf, array.shape)
        found[f"{efficientnet_v2.timm_name('/'.join(layer))}.{name}"] = shape
    assert len(found) == len(variables)
    ours = {
        name: shape
        for name, shape in manifest("efficientnetv2_s-tf").items()
        if not name.endswith("num_batches_tracked") and not name.startswith("classifier")
    }
    assert found == ours
    stages = [efficientnet_v2.timm_name(stage) for stage in ("stem", "block1", "block6", "top")]
    assert stages == ["bn1", "blocks.0", "blocks.5", "bn2"]


def test_timm_architecture() -> None:
    known = efficientnet_v2.timm_architecture
    assert known("efficientnetv2_l") == ("efficientnetv2_l", "timm")
    assert known("tf_efficientnetv2_m") == ("efficientnetv2_m", "tf")
    for other in ("efficientnetv2_rw_s", "tf_efficientnetv2_b0", "efficientnetv2_xl"):
        assert known(other) is None


@pytest.mark.parametrize(
    ("variant", "epsilon", "padding"),
    [("", 1e-5, "symmetric"), ("timm", 1e-5, "symmetric"), ("tf", 1e-3, "same")],
)
def test_variants(variant: str, epsilon: float, padding: str) -> None:
    backbone = built("efficientnetv2_s", variant)
    for module in (backbone, *(stage.blocks[0] for stage in backbone.modules[1:-1])):
        settings = module.settings
        assert (settings.norm.epsilon, settings.norm.momentum, settings.norm.unbiased) == (
            *(epsilon, 0.9, True),
        )
        assert settings.padding == padding


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(InputError, match="'keras', but efficientnetv2_s has only timm, tf"):
        built("efficientnetv2_s", "keras")


def test_a_plain_block_adds_its_input_after_the_activation() -> None:
    block = FusedBlock(1, 1, 3, 0.0)
    x_BHWC = images(1)
    variables = drawn(block)
    y_BHWC: Any = block.apply(variables, x_BHWC, EVALUATION)
    # SiLU is never below -0.2785; without the skip, or with the activation last, more is.
    branch_BHWC = y_BHWC - x_BHWC
    assert np.min(branch_BHWC) > -0.2786
    assert np.min(y_BHWC) < -1


def test_drop_path_is_linear_in_depth() -> None:
    rates: list[float] = []

    def watch(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if type(context.module).__name__ == "DropPath":
            rates.append(context.module.rate)
        return next_fun(*args, **kwargs)

    with nn.intercept_methods(watch):
        shapes(tiny(drop_path=0.4))
    # Of blocks 0 to 3; 1 and 3 change the number of channels and have no residual branch.
    np.testing.assert_allclose(rates, [0.0, 0.2])


def test_bfloat16_is_close() -> None:
    variables = drawn(tiny())

    def features(dtype: Any) -> np.ndarray:
        model = tiny(dtype=dtype)
        return np.asarray(jax.jit(lambda x: model.apply(variables, x, EVALUATION))(images()))

    half_BC, want_BC = features(jnp.bfloat16), features(jnp.float32)
    assert 0 < np.max(np.abs(half_BC - want_BC)) < 0.05 * np.max(np.abs(want_BC))


@pytest.fixture(scope="module")
def gradients() -> dict[bool, Any]:
    """Loss and gradients in training, without and with remat."""

    def of(remat: bool) -> Any:
        model = tiny(0.3, remat=remat)
        variables = drawn(model)

        # On running statistics, because batch statistics take the bias of a norm before out again.
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
