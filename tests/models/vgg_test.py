"""VGG. Parity with timm and Keras is in the golden tests of all families."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.models import vgg
from skinjax.models.backbone import Backbone
from skinjax.models.layers import KERAS, TORCH, Mode, Settings

EVALUATION = Mode(train=False)
# Compiles in a fraction of the time.
QUICK: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def tiny(norm: bool = True, **settings: Any) -> Backbone:
    return vgg.vgg((4, 6), (1, 2), norm, 8, Settings(lowering="xla", **settings))


def published(name: str, **fields: Any) -> Backbone:
    model = {"variant": "", "drop_path": 0.0, "fully_connected": True, **fields}
    return vgg.build(name, ConfigDict(model), Settings())


def images(size: int = 32, number: int = 4) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(number, size, size, 3)).astype(np.float32)


def shapes(module: nn.Module, *inputs: Any) -> Any:
    """Shapes of the module's variables."""
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs, EVALUATION))


def drawn(module: nn.Module, *inputs: Any) -> Any:
    """Variables drawn from a seed, none of them zero or one."""
    random = np.random.default_rng(0)

    def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        noise = random.uniform(-1, 1, shape.shape).astype(np.float32)
        if path[-1].key == "kernel":
            return noise * np.float32((6 / np.prod(shape.shape[:-1])) ** 0.5)
        return 0.2 * noise + np.float32(path[-1].key in ("scale", "var"))

    return jax.tree_util.tree_map_with_path(leaf, shapes(module, *inputs))


def test_stages() -> None:
    backbone = published("vgg16")
    assert backbone.stages == ("block1", "block2", "block3", "block4", "block5", "fc")
    image = jax.ShapeDtypeStruct((2, 260, 224, 3), jnp.float32)
    features_BC, variables = jax.eval_shape(
        lambda image: backbone.init_with_output(
            jax.random.key(0),
            image,
            EVALUATION,
            capture_intermediates=lambda module, _: module.name in backbone.stages,
        ),
        image,
    )
    assert set(variables) == {"params", "intermediates"}
    outputs = {
        stage: variables["intermediates"][stage]["__call__"][0].shape for stage in backbone.stages
    }
    # The last window takes 7 of 8 rows, then 7 of the rest: two outputs, which are averaged.
    assert outputs == {
        "block1": (2, 130, 112, 64),
        "block2": (2, 65, 56, 128),
        "block3": (2, 32, 28, 256),
        "block4": (2, 16, 14, 512),
        "block5": (2, 8, 7, 512),
        "fc": (2, 2, 1, 4096),
    }
    assert features_BC.shape == (2, 4096)
    assert vgg.image_size("vgg16") == 224


def test_without_fully_connected_layers() -> None:
    backbone = published("vgg16_bn", fully_connected=False)
    assert backbone.stages == ("block1", "block2", "block3", "block4", "block5")
    params = shapes(backbone, images())["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 14_714_688 + 8448


@pytest.mark.parametrize(
    ("name", "convs"),
    [
        ("vgg16", (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
        ("vgg16_bn", (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)),
    ],
)
def test_names_are_timms(name: str, convs: tuple[int, ...]) -> None:
    variables = shapes(published(name), images())
    flat = traverse_util.flatten_dict(
        {**variables["params"], "/": variables.get("batch_stats", {})}
    )
    names = [(vgg.timm_name("/".join(layer).lstrip("/")), leaf) for *layer, leaf in flat]
    norms = [number + 1 for number in convs] if name == "vgg16_bn" else []
    assert sorted(names) == sorted(
        [
            *((f"features.{n}", leaf) for n in convs for leaf in ("kernel", "bias")),
            *((f"features.{n}", leaf) for n in norms for leaf in ("scale", "bias", "mean", "var")),
            *((f"pre_logits.{fc}", leaf) for fc in ("fc1", "fc2") for leaf in ("kernel", "bias")),
        ]
    )
    assert (vgg.timm_name(""), vgg.timm_name("fc")) == ("", "pre_logits")
    with pytest.raises(ValueError, match="block1"):
        vgg.timm_name("block1")  # its number depends on the batch norm


def test_names_are_keras_s() -> None:
    flat = traverse_util.flatten_dict(shapes(published("vgg16", variant="keras"), images()))
    names = {vgg.keras_name("/".join(layer)) for _, *layer, _ in flat}
    convs = {f"block{b + 1}_conv{c + 1}" for b in range(5) for c in range((2, 2, 3, 3, 3)[b])}
    assert names == convs | {"fc1", "fc2"}
    assert vgg.keras_name("block5") == "block5_pool"
    assert vgg.keras_name("fc") == "fc2"


def test_variants() -> None:
    assert vgg.timm_architecture("vgg16_bn") == ("vgg16_bn", "timm")
    assert [vgg.timm_architecture(other) for other in ("vgg19", "repvgg_a0")] == [None, None]
    assert published("vgg16").settings.norm == TORCH
    assert published("vgg16", variant="keras").settings.norm == KERAS  # of the head's


def test_keras_matrices_become_kernels() -> None:
    random = np.random.default_rng(2)
    module = vgg.FullyConnected(3)
    x_BHWC = random.normal(size=(2, 7, 7, 5)).astype(np.float32)
    params = drawn(module, x_BHWC)["params"]
    first, second = random.normal(size=(245, 3)), random.normal(size=(3, 3))
    for name, matrix in (("fc1", first), ("fc2", second)):
        kernel = params[name]["kernel"]
        params[name]["kernel"] = vgg.adapt(f"fc/{name}/kernel", matrix, kernel.shape)
        assert params[name]["kernel"].shape == kernel.shape
    got_BHWC: Any = module.apply({"params": params}, x_BHWC, EVALUATION)
    hidden_BF = np.maximum(x_BHWC.reshape(2, -1) @ first + params["fc1"]["bias"], 0)
    want_BF = np.maximum(hidden_BF @ second + params["fc2"]["bias"], 0)
    np.testing.assert_allclose(got_BHWC[:, 0, 0], want_BF, rtol=1e-4, atol=1e-4)
    # What doesn't fit is left to the loader, which names it.
    assert vgg.adapt("fc/fc1/kernel", first, (7, 7, 6, 3)).shape == (245, 3)
    assert vgg.adapt("block1/conv1/kernel", first, (7, 7, 5, 3)).shape == (245, 3)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
def test_small_maps_are_stretched_by_averages(size: int) -> None:
    x_BHWC = np.random.default_rng(3).normal(size=(1, size, 9, 2)).astype(np.float32)
    rows = []
    for i in range(7):
        start, end = int(np.floor(i * size / 7)), int(np.ceil((i + 1) * size / 7))
        rows.append(x_BHWC[0, start:end].mean(0))
    got_BHWC = vgg.stretch(jnp.asarray(x_BHWC), 7)
    assert got_BHWC.shape == (1, 7, 9, 2)
    np.testing.assert_allclose(got_BHWC[0], np.stack(rows), rtol=1e-5, atol=1e-6)
    turned_BHWC = vgg.stretch(jnp.asarray(x_BHWC.swapaxes(1, 2)), 7)
    np.testing.assert_allclose(turned_BHWC.swapaxes(1, 2), got_BHWC, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def training() -> dict[bool, Any]:
    """Gradients and running statistics without and with remat; one batch norm is frozen."""
    mode = Mode(train=True, frozen=frozenset({"block2/unit1/bn"}))

    def of(remat: bool) -> Any:
        backbone = tiny(remat=remat)
        variables, x_BHWC = drawn(backbone, images()), images()

        def loss(params: Any, batch_stats: Any) -> Any:
            features_BC, state = backbone.apply(
                {"params": params, "batch_stats": batch_stats},
                x_BHWC,
                mode,
                mutable=["batch_stats"],
            )
            return jnp.cos(3 * features_BC).sum(), state["batch_stats"]

        run = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=QUICK)
        (_, after), gradient = run(variables["params"], variables["batch_stats"])
        return gradient, variables["batch_stats"], after

    return {remat: of(remat) for remat in (False, True)}


def test_gradients_reach_every_parameter(training: dict[bool, Any]) -> None:
    for path, leaf in traverse_util.flatten_dict(training[False][0], sep="/").items():
        assert np.isfinite(leaf).all(), path
        # A bias before batch norm has no effect, but for a frozen one's.
        if not path.endswith("conv/bias") or path == "block2/unit1/conv/bias":
            assert np.abs(leaf).max() > 1e-4, path


def test_remat_keeps_gradients(training: dict[bool, Any]) -> None:
    (plain, _, after), (remat, _, remat_after) = training[False], training[True]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, remat)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), after, remat_after)


def test_frozen_batch_norm_keeps_its_statistics(training: dict[bool, Any]) -> None:
    for _, before, after in training.values():
        for path, leaf in traverse_util.flatten_dict(after, sep="/").items():
            was = traverse_util.flatten_dict(before, sep="/")[path]
            assert np.array_equal(leaf, was) == path.startswith("block2/unit1/"), path


def test_a_block_computed_by_hand() -> None:
    block, x_BHWC = vgg.Block(2, 1, False), images(4)
    variables = drawn(block, x_BHWC)
    conv = variables["params"]["conv1"]
    padded = np.pad(x_BHWC, ((0, 0), (1, 1), (1, 1), (0, 0)))
    want_BHWC = np.zeros((4, 2, 2, 2))
    for i, j in np.ndindex(4, 4):
        window = padded[:, i : i + 3, j : j + 3]
        value_BC = np.einsum("bhwc,hwcn->bn", window, conv["kernel"]) + conv["bias"]
        # From zero on: the maximum of a ReLU.
        want_BHWC[:, i // 2, j // 2] = np.maximum(want_BHWC[:, i // 2, j // 2], value_BC)
    got_BHWC: Any = block.apply(variables, x_BHWC, EVALUATION)
    np.testing.assert_allclose(got_BHWC, want_BHWC, rtol=1e-4, atol=1e-5)
    assert (want_BHWC == 0).any()


def test_remat_of_every_block() -> None:
    jaxpr = jax.make_jaxpr(tiny(remat=True).apply, static_argnums=2)(
        shapes(tiny(), images()), images(), EVALUATION
    )
    names = [equation.primitive.name for equation in jaxpr.eqns]
    assert len([name for name in names if name.startswith(("remat", "checkpoint"))]) == 3


def test_bfloat16_is_close() -> None:
    variables, x_BHWC = drawn(tiny(False), images()), images()

    def features(dtype: Any) -> jax.Array:
        backbone = tiny(False, dtype=dtype)
        return jax.jit(lambda: backbone.apply(variables, x_BHWC, EVALUATION, mutable=["none"])[0])()

    float32_BC, bfloat16_BC = features(jnp.float32), features(jnp.bfloat16)
    np.testing.assert_allclose(bfloat16_BC, float32_BC, rtol=0.05, atol=0.05)
    assert not np.array_equal(bfloat16_BC, float32_BC)


def test_what_it_refuses() -> None:
    with pytest.raises(InputError, match=r"1 x 1 pixels are left at block5; set data.image_size"):
        shapes(published("vgg16"), images(31))
    with pytest.raises(InputError, match=r"'keras', but vgg16_bn has only 'timm'"):
        published("vgg16_bn", variant="keras")
    with pytest.raises(InputError, match=r"'tf', but vgg16 has only 'timm' and 'keras'"):
        published("vgg16", variant="tf")
    with pytest.raises(InputError, match=r"drop_path is 0.1, but vgg16 has no residual branch"):
        published("vgg16", drop_path=0.1)
