"""Tests of evaluation: every example once, whatever the batch size and the number of devices."""

from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from skinjax import evaluate, parallel
from skinjax.experiment import Experiment


class Images:
    """Random images in memory."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        self._image = rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
        self._label = rng.integers(0, 3, count).astype(np.int32)

    def __len__(self) -> int:
        return len(self._label)

    def __getitem__(self, index: Any, /) -> dict[str, Any]:
        return {"image": self._image[index], "label": self._label[index]}

    def __getitems__(self, indices: Any, /) -> list[dict[str, Any]]:
        return [self[index] for index in indices]


def predict(
    config: ConfigDict, classifier: Any, count: int, batch_size: int, devices: int
) -> evaluate.SplitPredictions:
    config.evaluate.batch_size = batch_size
    experiment = Experiment(
        config,
        ("a", "b", "c"),
        np.array([1, 2, 3], np.float32),
        classifier(num_classes=3),
        parallel.Mapper("pmap", jax.devices()[:devices]),
    )
    variables = experiment.mapper.replicate(experiment.init_variables())
    return evaluate.predict_split(experiment, experiment.eval_step(), variables, Images(count))


@pytest.mark.parametrize(("count", "batch_size", "devices"), [(21, 8, 1), (21, 8, 8), (3, 8, 8)])
def test_batch_size_and_devices_do_not_matter(
    config: ConfigDict, tiny_classifier: Any, count: int, batch_size: int, devices: int
) -> None:
    whole = predict(config, tiny_classifier, count, count, 1)
    parts = predict(config, tiny_classifier, count, batch_size, devices)
    np.testing.assert_array_equal(parts.label_N, Images(count)[slice(None)]["label"])
    np.testing.assert_allclose(parts.probability_NC, whole.probability_NC, atol=1e-6)
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-5)
    np.testing.assert_allclose(parts.probability_NC.sum(1), 1, atol=1e-6)


def test_the_loss_is_the_weighted_mean_over_the_split(
    config: ConfigDict, tiny_classifier: Any
) -> None:
    config.loss.reduction = "weights"
    predicted = predict(config, tiny_classifier, 21, 8, 1)
    label_N = predicted.label_N
    weight_N = np.array([1, 2, 3])[label_N]
    loss_N = -np.log(predicted.probability_NC[np.arange(21), label_N])
    assert predicted.loss == pytest.approx((weight_N * loss_N).sum() / weight_N.sum(), rel=1e-5)
