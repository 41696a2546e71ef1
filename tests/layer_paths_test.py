"""Tests of the layers of a network and of what selects them."""

import pytest

from skinjax import layer_paths
from skinjax.errors import InputError
from skinjax.layer_paths import Layers

VARIABLES = {
    "params": {
        "head": {"dense_0": {"kernel": 0, "bias": 0}, "logits": {"kernel": 0}},
        "backbone": {
            "block1": {"block0": {"bn_a": {"scale": 0, "bias": 0}, "conv_a": {"kernel": 0}}},
            "stem": {"conv": {"kernel": 0}, "pos_embed": 0},
        },
    },
    "batch_stats": {"backbone": {"block1": {"block0": {"bn_a": {"mean": 0, "var": 0}}}}},
}
LAYERS = Layers.of(VARIABLES, ("stem", "block1", "head"))
CONV, STEM = "backbone/stem/conv", "backbone/stem"
BN_A, CONV_A = "backbone/block1/block0/bn_a", "backbone/block1/block0/conv_a"
DENSE, LOGITS = "head/dense_0", "head/logits"


def test_layers_are_in_the_order_of_the_stages() -> None:
    assert set(LAYERS.names[:2]) == {CONV, STEM}
    assert set(LAYERS.names[2:4]) == {BN_A, CONV_A}
    assert set(LAYERS.names[4:]) == {DENSE, LOGITS}
    assert LAYERS.norms == {BN_A}


@pytest.mark.parametrize(
    ("entries", "chosen"),
    [
        (("*",), set(LAYERS.names)),
        (("head",), {DENSE, LOGITS}),
        (("stem", "head"), {CONV, STEM, DENSE, LOGITS}),
        (("backbone/*/bn_*",), {BN_A}),
        (("backbone/block1",), {BN_A, CONV_A}),
        (("head/logits", "backbone/block1/block?/conv_a"), {CONV_A, LOGITS}),
    ],
)
def test_entries_select_layers(entries: tuple[str, ...], chosen: set[str]) -> None:
    selected = layer_paths.select(entries, LAYERS, origin="config.trainable")
    assert set(selected) == chosen
    assert list(selected) == [layer for layer in LAYERS.names if layer in chosen]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("blok1", r"config.trainable trains 'blok1', .* stem, block1, head, .* mean block1\?$"),
        ("backbone/block2/*", r"trains 'backbone/block2/\*', which the model does not have"),
        ("*/*", r"'\*/\*', which is everything; write \"\*\" for that"),
        ("bn_a", r"does not have"),
        ("stem,head", r"written as \(.stem., .head.\)$"),
    ],
)
def test_entries_that_match_nothing_or_everything_are_errors(entry: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        layer_paths.select((entry,), LAYERS, origin="config.trainable")
    assert "\n" not in str(caught.value)
