"""InceptionV3. Parity with timm and Keras is in the golden tests of all families."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.models import inception
from skinjax.models.backbone import Backbone
from skinjax.models.inception import Branch, Mix, Unit
from skinjax.models.layers import Mode, Norm, Settings

EVALUATION, TRAINING = Mode(train=False), Mode(train=True)
# Compiles in a fraction of the time.
QUICK: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
# One stage of each kind of pooling, with a chain and a fork, narrow.
MIXES = {
    "mixed_5b": Mix(
        (
            Branch(
                (Unit("branch3x3_1", 3, (1, 1)),),
                (Unit("branch3x3_2a", 4, (1, 3)), Unit("branch3x3_2b", 2, (3, 1))),
            ),
        ),
        pool=5,
    ),
    "mixed_6a": Mix((Branch((Unit("branch3x3", 3, (3, 3), 2, "valid"),)),)),
}


def tiny(keras: bool = False, **settings: Any) -> Backbone:
    return inception.inception(MIXES, keras, Settings(lowering="xla", **settings))


def published(**fields: Any) -> Backbone:
    model = ConfigDict({"variant": "", "drop_path": 0.0, **fields})
    return inception.build("inception_v3", model, Settings())


def images(size: int = 75, number: int = 2) -> np.ndarray:
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
    backbone = published()
    features_BC, variables = jax.eval_shape(
        lambda: backbone.init_with_output(
            jax.random.key(0),
            images(299),
            EVALUATION,
            capture_intermediates=lambda module, _: module.name in backbone.stages,
        )
    )
    outputs = {
        stage: variables["intermediates"][stage]["__call__"][0].shape[1:]
        for stage in backbone.stages
    }
    # The table 1 of the paper.
    assert outputs == {
        "stem": (35, 35, 192),
        "mixed_5b": (35, 35, 256),
        "mixed_5c": (35, 35, 288),
        "mixed_5d": (35, 35, 288),
        **dict.fromkeys(("mixed_6a", "mixed_6b", "mixed_6c", "mixed_6d"), (17, 17, 768)),
        "mixed_6e": (17, 17, 768),
        "mixed_7a": (8, 8, 1280),
        "mixed_7b": (8, 8, 2048),
        "mixed_7c": (8, 8, 2048),
    }
    assert features_BC.shape == (2, 2048)
    assert inception.image_size("inception_v3") == 299


@pytest.fixture(scope="module")
def keras_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of the leaves of Keras's variant by their paths inside the backbone."""
    variables = shapes(published(variant="keras"), images())
    flat = [traverse_util.flatten_dict(tree, sep="/") for tree in variables.values()]
    return {path: leaf.shape for tree in flat for path, leaf in tree.items()}


def test_names_are_timms(keras_shapes: dict[str, tuple[int, ...]]) -> None:
    layers = {path.rsplit("/", 1)[0] for path in keras_shapes}
    names = {inception.timm_name(layer) for layer in layers}
    assert len(names) == len(layers) == 2 * 94
    assert {name.split(".")[-1] for name in names} == {"conv", "bn"}
    assert {
        "Conv2d_1a_3x3.conv",
        "Conv2d_4a_3x3.bn",
        "Mixed_5b.branch1x1.conv",
        "Mixed_6a.branch3x3dbl_3.bn",
        "Mixed_6e.branch7x7dbl_5.conv",
        "Mixed_7a.branch7x7x3_4.conv",
        "Mixed_7c.branch3x3dbl_3b.bn",
        "Mixed_7c.branch_pool.conv",
    } <= names
    assert inception.timm_name("stem") == "Pool2"
    assert inception.timm_name("mixed_6a") == "Mixed_6a"
    assert inception.timm_name("") == ""


def test_names_are_keras_s(keras_shapes: dict[str, tuple[int, ...]]) -> None:
    kernels = {
        inception.keras_name(path.removesuffix("/kernel")): shape
        for path, shape in keras_shapes.items()
        if path.endswith("kernel")
    }
    assert set(kernels) == {"conv2d", *(f"conv2d_{n}" for n in range(1, 94))}
    # As `keras.applications.InceptionV3(weights=None).summary()` has them.
    known = {
        "conv2d": (3, 3, 3, 32),
        "conv2d_4": (3, 3, 80, 192),
        "conv2d_7": (5, 5, 48, 64),
        "conv2d_26": (3, 3, 288, 384),
        "conv2d_32": (1, 7, 128, 128),
        "conv2d_36": (1, 7, 128, 128),
        "conv2d_70": (1, 1, 768, 192),
        "conv2d_87": (1, 3, 384, 384),
        "conv2d_88": (3, 1, 384, 384),
        "conv2d_89": (1, 1, 2048, 448),
        "conv2d_93": (1, 1, 2048, 192),
    }
    assert {name: kernels[name] for name in known} == known
    assert inception.keras_name("stem/conv2d_1a_3x3/bn") == "batch_normalization"
    assert inception.keras_name("mixed_7c/branch_pool/bn") == "batch_normalization_93"
    stages = ("stem", "mixed_5b", "mixed_6a", "mixed_7c")
    assert [inception.keras_name(stage) for stage in stages] == [
        *("max_pooling2d_1", "mixed0", "mixed3", "mixed10")
    ]


def test_variants(keras_shapes: dict[str, tuple[int, ...]]) -> None:
    assert not any(path.endswith("scale") for path in keras_shapes)
    assert published().settings.norm == Norm(1e-3, 0.9, unbiased=True)
    assert published(variant="keras").settings.norm == Norm(1e-3, 0.99, unbiased=False)
    for name in ("inception_v3", "tf_inception_v3", "gluon_inception_v3"):
        assert inception.timm_architecture(name) == ("inception_v3", "timm")
    assert inception.timm_architecture("inception_v4") is None


@pytest.mark.parametrize(("keras", "share"), [(False, 4 / 9), (True, 1.0)])
def test_padding_counts_in_timms_average_pool_only(keras: bool, share: float) -> None:
    mixed = inception.Mixed(Mix((), pool=2), keras, Settings(norm=Norm(epsilon=0.0)))
    x_BHWC = np.ones((1, 5, 5, 3), np.float32)
    ones = {"kernel", "scale", "var"}
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.full(leaf.shape, float(path[-1].key in ones), np.float32),
        shapes(mixed, x_BHWC),
    )
    y_BHWC: Any = mixed.apply(variables, x_BHWC, EVALUATION)
    np.testing.assert_allclose(y_BHWC[0, 2, 2], 3.0, rtol=1e-6)
    np.testing.assert_allclose(y_BHWC[0, 0, 4], 3.0 * share, rtol=1e-6)


@pytest.fixture(scope="module")
def gradients() -> dict[bool, Any]:
    """Loss and gradients without and with remat."""

    def of(remat: bool) -> Any:
        backbone = tiny(remat=remat)
        variables, x_BHWC = drawn(backbone, images()), images()

        def loss(params: Any) -> jax.Array:
            features_BC, _ = backbone.apply(
                {**variables, "params": params}, x_BHWC, TRAINING, mutable=["batch_stats"]
            )
            return jnp.cos(3 * features_BC).sum()

        run = jax.jit(jax.value_and_grad(loss), compiler_options=QUICK)
        return run(variables["params"])

    return {remat: of(remat) for remat in (False, True)}


def test_gradients_reach_every_parameter(gradients: dict[bool, Any]) -> None:
    flat = traverse_util.flatten_dict(gradients[False][1], sep="/")
    assert len(flat) == 3 * (5 + 5)
    for path, leaf in flat.items():
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 1e-4, path


def test_remat_keeps_gradients(gradients: dict[bool, Any]) -> None:
    (value, plain), (remat_value, remat) = gradients[False], gradients[True]
    np.testing.assert_allclose(remat_value, value, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), plain, remat)


def test_remat_of_every_mixed_stage() -> None:
    jaxpr = jax.make_jaxpr(tiny(remat=True).apply, static_argnums=2)(
        shapes(tiny(), images()), images(), EVALUATION
    )
    names = [equation.primitive.name for equation in jaxpr.eqns]
    assert len([name for name in names if name.startswith(("remat", "checkpoint"))]) == 3


def test_bfloat16_is_close() -> None:
    variables, x_BHWC = drawn(tiny(), images()), images()

    def features(dtype: Any) -> jax.Array:
        return jax.jit(lambda: tiny(dtype=dtype).apply(variables, x_BHWC, EVALUATION))()

    float32_BC, bfloat16_BC = features(jnp.float32), features(jnp.bfloat16)
    np.testing.assert_allclose(bfloat16_BC, float32_BC, rtol=0.05, atol=0.05)
    assert not np.array_equal(bfloat16_BC, float32_BC)


def test_what_it_refuses() -> None:
    with pytest.raises(InputError, match=r"74 x 74 pixels are too small for Inception.*75 or more"):
        shapes(published(), images(74))
    with pytest.raises(InputError, match=r"'tf', but inception_v3 has only 'timm' and 'keras'"):
        published(variant="tf")
    with pytest.raises(InputError, match=r"drop_path is 0.1, but inception_v3 has no residual"):
        published(drop_path=0.1)
