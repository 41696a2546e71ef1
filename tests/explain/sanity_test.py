"""The sanity check: the correlation, and that the same weights are the same maps and others not."""

from typing import Any

import jax
import numpy as np
import pytest
from scipy.stats import spearmanr

from skinjax.explain import Explainer, sanity


def test_the_rank_correlation_is_spearmans_and_0_or_undefined_for_even_maps() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 9, (2, 5, 8, 8)).astype(np.float32)
    second[1] = first[1] ** 3
    second[2] = first[3] = 0
    first[4] = second[4] = 3
    got = sanity.rank_correlation(first, second)
    np.testing.assert_allclose(got[0], spearmanr(first[0].ravel(), second[0].ravel()).statistic)
    np.testing.assert_allclose(got[1], 1)
    np.testing.assert_array_equal(got[2:], [0, 0, np.nan])


@pytest.mark.parametrize("method", ["grad_cam", "saliency"])
def test_new_weights_change_the_maps_and_the_same_do_not(
    method: str, tiny_classifier: Any, make_model: Any, images: Any, monkeypatch: Any
) -> None:
    model = make_model(tiny_classifier(3).backbone, image_size=16)
    other = make_model(tiny_classifier(3).backbone, image_size=16, seed=1)
    explainer = Explainer(model, method, batch_size=4)
    image_NHWC, class_N = images(4, 16), np.array([0, 1, 2, 0])
    rows = {}
    for name, drawn in (("same", model), ("other", other)):
        monkeypatch.setattr(sanity, "draw", lambda *_, drawn=drawn: drawn.variables)
        rows[name] = sanity.cascade(explainer, image_NHWC, class_N, key=jax.random.key(0))
    assert [row.stage for row in rows["other"]] == ["head", "block1", "stem"]
    np.testing.assert_allclose([row.correlation for row in rows["same"]], 1)
    # The changes add up: the head alone leaves most of the map as it was.
    correlations = [row.correlation for row in rows["other"]]
    assert correlations[-1] < sanity.SUSPICIOUS
    assert correlations[-1] < correlations[0] < 0.999
    assert [row.count for row in rows["other"]] == [4, 4, 4]
    resolution = explainer.resolution()
    assert "passed" in sanity.report(rows["other"], resolution)
    assert "FAILED" in sanity.report(rows["same"], resolution)
    assert "(mean of 4 images)" in sanity.report(rows["same"], resolution)
    assert "too coarse to tell" in sanity.report(rows["other"], (4, 3))


def test_maps_that_become_0_everywhere_have_changed(
    tiny_classifier: Any, make_model: Any, images: Any, monkeypatch: Any
) -> None:
    model = make_model(tiny_classifier(3).backbone, image_size=16)
    zeros = jax.tree.map(np.zeros_like, model.variables)
    monkeypatch.setattr(sanity, "draw", lambda *_: zeros)
    explainer = Explainer(model, batch_size=4)
    arguments = (explainer, images(4, 16), np.array([0, 1, 2, 0]))
    (head, *_) = sanity.cascade(*arguments, key=jax.random.key(0))
    assert (head.correlation, head.count) == (0, 4)
    model.variables.update(zeros)
    rows = sanity.cascade(Explainer(model, batch_size=4), *arguments[1:], key=jax.random.key(0))
    assert (rows[-1].correlation, rows[-1].count) == (None, 0)
    assert "not decided" in sanity.report(rows, (4, 4))


def test_what_is_drawn_anew_has_the_networks_shapes_and_only_named_stages_are_taken(
    tiny_classifier: Any, make_model: Any
) -> None:
    model = make_model(tiny_classifier(3).backbone, image_size=16, with_age=True)
    drawn = sanity.draw(model, jax.random.key(0))
    assert jax.tree.map(np.shape, drawn) == jax.tree.map(np.shape, model.variables)
    mixed = sanity.mixed(model.variables, drawn, ("head", "stem"))
    assert (
        mixed["params"]["head"]["logits"]["kernel"] is drawn["params"]["head"]["logits"]["kernel"]
    )
    backbone, own = mixed["params"]["backbone"], model.variables["params"]["backbone"]
    assert backbone["block1"]["conv"]["kernel"] is own["block1"]["conv"]["kernel"]
    assert backbone["stem"]["conv"]["kernel"] is not own["stem"]["conv"]["kernel"]
    statistics = mixed["batch_stats"]["backbone"]["stem"]["bn"]
    assert statistics["var"] is drawn["batch_stats"]["backbone"]["stem"]["bn"]["var"]
