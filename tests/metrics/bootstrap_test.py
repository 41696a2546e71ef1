"""Resamples of lesions, and the intervals made from them."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skinjax import metrics
from skinjax.metrics import bootstrap, engine

CLASSES = ("a", "b", "c")


def _table(seed: int, num_examples: int, num_classes: int = 3):
    """Probabilities with ties, labels of all classes, and lesions of up to some images."""
    rng = np.random.default_rng(seed)
    label_N = np.arange(num_examples) % num_classes
    logits_NC = rng.normal(size=(num_examples, num_classes)).round(1)
    probability_NC = np.exp(logits_NC + np.eye(num_classes)[label_N])
    lesion_N = [f"lesion{label}_{rng.integers(num_examples // 4)}" for label in label_N]
    return probability_NC / probability_NC.sum(1, keepdims=True), label_N, lesion_N


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 24), st.integers(2, 4))
def test_weighted_is_the_table_with_examples_repeated(seed, num_examples, num_classes):
    rng = np.random.default_rng(seed)
    raw_NC = rng.integers(1, 4, size=(num_examples, num_classes)).astype(float)
    probability_NC = raw_NC / raw_NC.sum(1, keepdims=True)
    label_N = rng.integers(num_classes, size=num_examples)
    weight_NR = rng.integers(0, 3, size=(num_examples, 5))
    weight_NR[0] += weight_NR.sum(axis=0) == 0
    classes = list("abcd")[:num_classes]
    found = engine.Engine(probability_NC, label_N).scores(weight_NR.astype(float))
    for column, weight_N in enumerate(weight_NR.T):
        repeated = metrics.compute(
            np.repeat(probability_NC, weight_N, axis=0), np.repeat(label_N, weight_N), classes
        )
        for name in engine.SCALARS:
            expected = np.nan if repeated[name] is None else repeated[name]
            np.testing.assert_allclose(found[name][column], expected, atol=1e-9, err_msg=name)
        for name, (index, label) in itertools.product(engine.PER_CLASS, enumerate(classes)):
            expected = repeated["per_class"][label][name]
            value = found[f"per_class.{name}"][column, index]
            np.testing.assert_allclose(
                value, np.nan if expected is None else expected, atol=1e-9, err_msg=name
            )


def test_whole_lesions_are_drawn_as_many_of_each_class_as_there_are():
    _, label_N, lesion_N = _table(0, 90)
    (weight_RN,) = metrics.bootstrap.weights(lesion_N, label_N, num_resamples=40, seed=1, chunk=40)
    assert weight_RN.shape == (40, 90)
    assert weight_RN.dtype == np.int64
    first = {lesion: place for place, lesion in reversed(list(enumerate(lesion_N)))}
    np.testing.assert_array_equal(weight_RN, weight_RN[:, [first[lesion] for lesion in lesion_N]])
    drawn_RG = weight_RN[:, list(first.values())]
    label_G = label_N[list(first.values())]
    for label in range(3):
        np.testing.assert_array_equal(
            drawn_RG[:, label_G == label].sum(axis=1), np.sum(label_G == label)
        )
    assert len(np.unique(weight_RN, axis=0)) == 40


def test_resamples_depend_on_the_seed_and_not_on_the_chunk():
    _, label_N, lesion_N = _table(0, 60)

    def drawn(seed, chunk):
        chunks = bootstrap.weights(lesion_N, label_N, num_resamples=10, seed=seed, chunk=chunk)
        return np.concatenate(list(chunks))

    np.testing.assert_array_equal(drawn(0, 10), drawn(0, 3))
    assert not np.array_equal(drawn(0, 10), drawn(1, 10))


def test_examples_without_a_lesion_are_alone_and_a_lesion_goes_by_most_of_its_labels():
    missing = float("nan")
    lesion_N = ["", "", None, None, missing, missing, "x", "x", "x", "y"]
    (weight_RN,) = bootstrap.weights(
        lesion_N, np.array([0] * 6 + [1, 1, 0, 0]), num_resamples=50, seed=0, chunk=50
    )
    # Of class 1 there is lesion x alone, in every resample; of class 0 seven lesions.
    np.testing.assert_array_equal(weight_RN[:, 6:9], 1)
    np.testing.assert_array_equal(weight_RN[:, [0, 1, 2, 3, 4, 5, 9]].sum(axis=1), 7)


def test_intervals_have_computes_structure_and_a_seed():
    probability_NC, label_N, lesion_N = _table(2, 120)
    computed = metrics.compute(probability_NC, label_N, CLASSES)
    found = bootstrap.intervals(probability_NC, label_N, CLASSES, lesion_N, num_resamples=200)
    assert list(found["per_class"]) == list(CLASSES)
    assert set(found) == set(computed) - {"num_examples", "confusion_matrix"}
    for name in engine.SCALARS:
        if computed[name] is None or name == "maximum_calibration_error":
            assert found[name] is None
        else:
            low, high = found[name]
            assert low < high
            assert low <= computed[name] <= high
    for label, name in itertools.product(CLASSES, engine.PER_CLASS):
        low, high = found["per_class"][label][name]
        assert low <= computed["per_class"][label][name] <= high
    again = bootstrap.intervals(probability_NC, label_N, CLASSES, lesion_N, num_resamples=200)
    assert again == found
    other = {"num_resamples": 200, "seed": 1}
    assert bootstrap.intervals(probability_NC, label_N, CLASSES, lesion_N, **other) != found


def test_only_gives_the_same_intervals_of_fewer_metrics():
    table = _table(3, 60)
    options = {"num_resamples": 50}
    everything = bootstrap.intervals(*table[:2], CLASSES, table[2], **options)
    for only in (["accuracy", "log_loss"], ["macro_roc_auc"], ["maximum_calibration_error"]):
        found = bootstrap.intervals(*table[:2], CLASSES, table[2], only=only, **options)
        assert found == {name: everything[name] for name in only}
    found = bootstrap.intervals(*table[:2], CLASSES, table[2], only=["per_class"], **options)
    assert found == {"per_class": everything["per_class"]}


def test_interval_of_an_accuracy_is_that_of_independent_images():
    rng = np.random.default_rng(0)
    right_N = rng.random(2000) < 0.8
    probability_NC = np.where(right_N[:, None], [0.9, 0.1], [0.1, 0.9])
    label_N = np.zeros(2000, np.int64)
    label_N[1000:] = 1
    probability_NC[1000:] = probability_NC[1000:, ::-1]
    only = ["accuracy"]
    alone = bootstrap.intervals(probability_NC, label_N, ("a", "b"), [""] * 2000, only=only)
    width = np.sqrt(0.8 * 0.2 / 2000) * 2 * 1.96
    assert np.diff(alone["accuracy"])[0] == pytest.approx(width, rel=0.08)
    # Four copies of each image say no more than one.
    fourfold = [np.repeat(array, 4, axis=0) for array in (probability_NC, label_N)]
    lesion_N = np.repeat(np.arange(2000), 4)
    found = bootstrap.intervals(*fourfold, ("a", "b"), lesion_N, only=only)
    assert np.diff(found["accuracy"])[0] == pytest.approx(width, rel=0.08)


def test_interval_of_few_lesions_has_the_tails_of_students_t():
    # Class b has 5 lesions, so its recall's interval is that of a mean of 5.
    label_N = np.array([0] * 40 + [1] * 5)
    probability_NC = np.tile([0.9, 0.1], (45, 1))
    probability_NC[[40, 42]] = [0.2, 0.8]
    table = (probability_NC, label_N, ("a", "b"), np.arange(45))
    resampled = bootstrap.resample(*table, num_resamples=20, seed=0)
    stretch, freedom = resampled._small_sample("per_class.recall", 1)
    assert (stretch, freedom) == pytest.approx((np.sqrt(5 / 4), 4))
    # That of class a never varies, and neither tells the other anything.
    assert resampled._small_sample("per_class.recall", 0) == (1.0, np.inf)
    # The mean recall has half of class b's and nothing of class a's variance.
    assert resampled._small_sample("macro_recall") == pytest.approx((np.sqrt(5 / 4), 4))
    low, high = bootstrap.intervals(*table)["per_class"]["b"]["recall"]
    assert low == 0.0  # at 3.1 standard errors, where the normal's 1.96 would give 0.0 to 0.8
    assert high == 1.0


def test_class_of_one_lesion_has_no_interval_and_nor_has_an_undefined_metric():
    probability_NC, label_N, _ = _table(4, 40)
    lesion_N = np.where(label_N == 2, "one", np.arange(40).astype(str))
    found = bootstrap.intervals(probability_NC, label_N, CLASSES, lesion_N, num_resamples=30)
    assert set(found["per_class"]["c"].values()) == {None}
    assert found["per_class"]["a"]["recall"] is not None
    assert found["roc_auc"] is None
    two = np.array([[0.6, 0.4], [0.3, 0.7]] * 5), np.array([0, 0] * 5)
    found = bootstrap.intervals(*two, ("a", "b"), [""] * 10, num_resamples=30)
    assert found["macro_roc_auc"] is None
    assert found["matthews_correlation"] is None
    assert set(found["per_class"]["b"].values()) == {None}


def _wilson_reach(num_lesions):
    return 1.959963984540054**2 / (num_lesions + 1.959963984540054**2)


def test_shares_of_all_right_or_all_wrong_have_the_interval_of_their_lesions():
    # 12, 22 and 8 images of 6, 11 and 4 lesions; two images of a lesion say no more than one.
    label_N = np.repeat([0, 1, 2], [12, 22, 8])
    lesion_N = np.arange(42) // 2
    found = bootstrap.intervals(
        np.eye(3)[label_N] * 0.97 + 0.01, label_N, CLASSES, lesion_N, num_resamples=20
    )
    for name in ("accuracy", "weighted_recall"):
        assert found[name] == pytest.approx([1 - _wilson_reach(21), 1])
    for label, own in (("a", 6), ("b", 11), ("c", 4)):
        of_class = found["per_class"][label]
        assert of_class["recall"] == pytest.approx([1 - _wilson_reach(own), 1])
        assert of_class["precision"] == pytest.approx([1 - _wilson_reach(own), 1])
        assert of_class["specificity"] == pytest.approx([1 - _wilson_reach(21 - own), 1])
        for name in ("f1", "roc_auc", "pr_auc", "partial_roc_auc"):
            assert of_class[name] is None
    for name in ("balanced_accuracy", "macro_roc_auc", "cohen_kappa"):
        assert found[name] is None
    wrong = bootstrap.intervals(
        np.eye(3)[(label_N + 1) % 3], label_N, CLASSES, lesion_N, num_resamples=20, confidence=0.9
    )
    assert wrong["accuracy"] == pytest.approx([0, 1.6448536**2 / (21 + 1.6448536**2)])
    assert wrong["per_class"]["c"]["recall"][0] == 0
    assert wrong["per_class"]["b"]["precision"] == wrong["per_class"]["a"]["recall"]


def test_mean_over_classes_has_no_interval_where_a_class_has_one_lesion():
    probability_NC, label_N, _ = _table(4, 60)
    for lesions_of_c, has in ((1, False), (2, True)):
        lesion_N = np.where(label_N == 2, np.arange(60) // 3 % lesions_of_c, 100 + np.arange(60))
        table = (probability_NC, label_N, CLASSES, lesion_N)
        found = bootstrap.intervals(*table, num_resamples=60)
        for name in ("balanced_accuracy", "macro_recall", "macro_precision", "macro_f1"):
            assert (found[name] is not None) == has
        for name in ("macro_roc_auc", "macro_pr_auc", "macro_partial_roc_auc"):
            assert (found[name] is not None) == has
        assert found["accuracy"] is not None
        assert found["weighted_recall"] is not None
        first = bootstrap.resample(*table, num_resamples=60)
        other = bootstrap.resample(np.roll(probability_NC, 3, 0), *table[1:], num_resamples=60)
        difference = first.less(other)
        for name, index in (("balanced_accuracy", ()), ("per_class.recall", (2,))):
            assert (difference.interval(name, *index, confidence=0.95) is not None) == has


def test_percentile_leaves_out_few_undefined_values_and_gives_up_on_many():
    value_R = np.arange(101, dtype=float)
    assert bootstrap.percentile(value_R, 0.9) == pytest.approx([5, 95])
    value_R[:5] = np.nan
    assert bootstrap.percentile(value_R, 0.9) == pytest.approx([9.75, 95.25])
    value_R[:6] = np.nan
    assert bootstrap.percentile(value_R, 0.9) is None
    assert bootstrap.percentile(np.zeros(0), 0.9) is None


def test_interval_of_a_calibrated_models_error_reaches_down():
    # Right as often as it says: what error there is, is chance, and more so in a resample.
    rng = np.random.default_rng(0)
    confidence_N = rng.uniform(0.5, 1, size=600)
    label_N = (rng.random(600) > confidence_N).astype(np.int64)
    table = (np.stack([confidence_N, 1 - confidence_N], axis=1), label_N, ("a", "b"))
    name = "expected_calibration_error"
    found = bootstrap.intervals(*table, [""] * 600, num_resamples=300, only=[name])
    error = metrics.compute(*table)[name]
    assert found[name][0] < 0.2 * error
    assert error < found[name][1] < 2 * error


@pytest.mark.parametrize(
    ("num_labels", "num_groups", "num_resamples"), [(3, 2, 10), (0, 0, 10), (3, 3, 0)]
)
def test_wrong_arrays_are_refused(num_labels, num_groups, num_resamples):
    with pytest.raises(ValueError, match=r"examples.*groups.*resamples"):
        bootstrap.intervals(
            np.full((num_labels, 2), 0.5),
            np.zeros(num_labels, np.int64),
            ("a", "b"),
            [""] * num_groups,
            num_resamples=num_resamples,
        )
