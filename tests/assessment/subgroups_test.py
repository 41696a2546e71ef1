"""The main metrics by subgroup, and the gaps between them."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from skinjax.assessment import subgroups

CLASSES = ("bkl", "mel", "nv")


def _table(num_examples, *, seed=0):
    """Rows of made-up patients, and predictions that are better for women."""
    rng = np.random.default_rng(seed)
    label_N = rng.integers(3, size=num_examples)
    probability_NC = rng.dirichlet(np.ones(3), num_examples)
    female_N = rng.random(num_examples) < 0.5
    probability_NC[np.arange(num_examples), label_N] += np.where(female_N, 1.5, 0.0)
    probability_NC /= probability_NC.sum(axis=1, keepdims=True)
    rows = [
        {
            "lesion_id": f"L{index // 2}",
            "age": float(rng.integers(10, 90)),
            "sex": "female" if female_N[index] else "male",
            "site": ("back", "face", "unknown")[index % 3],
            "source": "",
        }
        for index in range(num_examples)
    ]
    return rows, probability_NC, label_N


def _by(num_examples=400, num_resamples=200, **options):
    return subgroups.by(*_table(num_examples), CLASSES, num_resamples=num_resamples, **options)


@pytest.mark.parametrize(
    ("age", "band"),
    [
        *((0.0, "0-29"), (29.9, "0-29"), (30.0, "30-49"), (49.0, "30-49"), (50.0, "50-69")),
        *((69.9, "50-69"), (70.0, "70+"), (110.0, "70+"), (None, "unknown"), (-1.0, "unknown")),
        (float("nan"), "unknown"),
    ],
)
def test_age_bands(age, band):
    assert subgroups.age_band(age) == band


def test_metrics_of_a_group_are_scikit_learns_of_its_rows():
    rows, probability_NC, label_N = _table(300)
    found = subgroups.by(rows, probability_NC, label_N, CLASSES, num_resamples=0)
    for column, name in (("sex", "female"), ("site", "back"), ("age", "50-69")):
        group = found["columns"][column]["groups"][name]
        of_group_N = np.array([own == name for own in subgroups.group_names(rows, column)])
        own_NC, own_N = probability_NC[of_group_N], label_N[of_group_N]
        predicted_N = own_NC.argmax(axis=1)
        assert group["num_examples"] == of_group_N.sum()
        assert group["accuracy"] == pytest.approx(accuracy_score(own_N, predicted_N))
        assert group["balanced_accuracy"] == pytest.approx(
            balanced_accuracy_score(own_N, predicted_N)
        )
        assert group["macro_roc_auc"] == pytest.approx(
            roc_auc_score(own_N, own_NC, multi_class="ovr")
        )
        found_N = predicted_N[own_N == 1] == 1
        assert group["malignant_sensitivity"] == pytest.approx(found_N.mean())
        assert group["num_malignant"] == np.sum(own_N == 1)
        assert group["intervals"] is None
        lesions = {rows[index]["lesion_id"] for index in np.flatnonzero(of_group_N)}
        assert group["num_lesions"] == len(lesions)


def test_a_malignant_class_taken_for_another_one_counts_as_found():
    rows = [{"lesion_id": "", "age": None, "sex": "male", "site": "", "source": ""}] * 2
    classes = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    probability_NC = np.eye(7)[[1, 2]]  # bcc, bkl
    label_N = np.array([4, 4])  # mel
    found = subgroups.by(rows, probability_NC, label_N, classes, num_resamples=0)
    group = found["columns"]["sex"]["groups"]["male"]
    assert (group["accuracy"], group["malignant_sensitivity"]) == (0.0, 0.5)
    assert group["num_lesions"] == 2  # without ids each image is one
    assert found["malignant"] == ["akiec", "bcc", "mel"]
    assert found["overall"]["malignant_sensitivity"] == 0.5


def test_an_empty_column_is_not_available_and_unknown_comes_last():
    found = _by(num_resamples=0)
    assert found["columns"]["source"] is None
    assert list(found["columns"]["site"]["groups"]) == ["back", "face", "unknown"]
    assert list(found["columns"]["age"]["groups"]) == ["0-29", "30-49", "50-69", "70+"]


def test_classes_unknown_to_the_tables_have_no_malignant_sensitivity():
    found = subgroups.by(*_table(60), ("a", "b", "c"), num_resamples=20)
    assert found["malignant"] == []
    group = found["columns"]["sex"]["groups"]["male"]
    assert group["malignant_sensitivity"] is group["intervals"]["malignant_sensitivity"] is None
    assert found["columns"]["sex"]["gaps"]["malignant_sensitivity"] is None


def test_absent_classes_are_named():
    rows, probability_NC, label_N = _table(90)
    label_N[[row["site"] == "face" for row in rows]] = 2
    groups = subgroups.by(rows, probability_NC, label_N, CLASSES, num_resamples=20)["columns"][
        "site"
    ]["groups"]
    assert groups["face"]["absent_classes"] == ["bkl", "mel"]
    assert groups["face"]["macro_roc_auc"] is groups["face"]["intervals"]["macro_roc_auc"] is None
    assert groups["back"]["absent_classes"] == []


def test_small_groups_have_no_interval_and_no_gap():
    rows, probability_NC, label_N = _table(400)
    for row in rows[:19]:
        row["site"] = "ear"
    unknown_N = [row["site"] == "unknown" for row in rows]
    probability_NC[unknown_N] = np.eye(3)[(label_N[unknown_N] + 1) % 3]  # all wrong
    found = subgroups.by(rows, probability_NC, label_N, CLASSES, num_resamples=50)
    groups, gaps = found["columns"]["site"]["groups"], found["columns"]["site"]["gaps"]
    assert groups["ear"]["num_examples"] == 19
    assert set(groups["ear"]["intervals"].values()) == {None}
    assert groups["back"]["intervals"]["accuracy"] is not None
    ends = {gap[end] for gap in gaps.values() for end in ("high", "low")}
    assert ends == {"back", "face"}  # nor the unknown ones
    rows[19]["site"] = "ear"
    found = subgroups.by(rows, probability_NC, label_N, CLASSES, num_resamples=50)
    assert found["columns"]["site"]["groups"]["ear"]["intervals"]["accuracy"] is not None


def test_the_largest_gap_is_named_with_its_interval():
    found = _by()
    gap = found["largest_gap"]
    assert (gap["column"], gap["high"], gap["low"]) == ("sex", "female", "male")
    every = [g for c in found["columns"].values() if c for g in c["gaps"].values() if g]
    assert gap["difference"] == max(one["difference"] for one in every)
    low, high = gap["interval"]
    assert 0 < low < gap["difference"] < high < 1
    gap = found["columns"]["sex"]["gaps"]["accuracy"]
    groups = found["columns"]["sex"]["groups"]
    difference = groups["female"]["accuracy"] - groups["male"]["accuracy"]
    assert gap["difference"] == pytest.approx(difference)
    accuracy = [group["accuracy"] for group in found["columns"]["age"]["groups"].values()]
    of_age = found["columns"]["age"]["gaps"]["accuracy"]
    assert of_age["difference"] == pytest.approx(max(accuracy) - min(accuracy))
    # Two groups are independent: the interval is as wide as theirs together.
    half = [np.diff(groups[one]["intervals"]["accuracy"])[0] / 2 for one in ("female", "male")]
    assert np.diff(gap["interval"])[0] / 2 == pytest.approx(np.hypot(*half), rel=0.2)


def test_means_over_classes_are_compared_over_the_classes_of_both():
    rows, probability_NC, label_N = _table(400)
    face_N = np.array([row["site"] == "face" for row in rows])
    label_N[face_N & (label_N == 0)] = 2
    label_N[np.flatnonzero(face_N)[:4]] = 0  # one fewer than counts
    found = subgroups.by(rows, probability_NC, label_N, CLASSES, num_resamples=50)
    gap = found["columns"]["site"]["gaps"]["balanced_accuracy"]
    assert gap["classes"] == ["mel", "nv"]
    for end in ("high", "low"):
        own_N = np.array([row["site"] == gap[end] for row in rows])
        hit_N = probability_NC.argmax(axis=1) == label_N
        recalls = [hit_N[own_N & (label_N == label)].mean() for label in (1, 2)]
        assert gap[f"{end}_value"] == pytest.approx(np.mean(recalls))


@pytest.mark.parametrize("num_lesions", [4, 5])
def test_means_over_classes_have_intervals_where_each_class_has_lesions_enough(num_lesions):
    rows, probability_NC, label_N = _table(400)
    back_N = np.flatnonzero([row["site"] == "back" for row in rows])
    label_N[back_N] = 1 + label_N[back_N] % 2
    few_N = back_N[:20]  # many images of few lesions
    label_N[few_N] = 0
    for place, index in enumerate(few_N):
        rows[index]["lesion_id"] = f"few {place % num_lesions}"
    found = subgroups.by(rows, probability_NC, label_N, CLASSES, num_resamples=60)
    back, face = (found["columns"]["site"]["groups"][name] for name in ("back", "face"))
    for metric in ("balanced_accuracy", "macro_roc_auc"):
        assert back[metric] is not None
        assert (back["intervals"][metric] is not None) == (num_lesions == 5)
        assert face["intervals"][metric] is not None
        gap = found["columns"]["site"]["gaps"][metric]
        assert gap["classes"] == list(CLASSES[num_lesions == 4 :])
    assert back["intervals"]["accuracy"] is not None
    # The same without resamples: a page is made of such a table and intervals from a file.
    again = subgroups.by(rows, probability_NC, label_N, CLASSES, num_resamples=0)
    for metric, gap in again["columns"]["site"]["gaps"].items():
        assert gap["classes"] == found["columns"]["site"]["gaps"][metric]["classes"]


def test_groups_are_drawn_each_for_itself():
    rows, probability_NC, label_N = _table(120)
    twice = [
        {**row, "sex": sex, "lesion_id": f"{sex}{row['lesion_id']}"}
        for sex in ("female", "male")
        for row in rows
    ]
    table = (twice, np.tile(probability_NC, (2, 1)), np.tile(label_N, 2), CLASSES)
    found = subgroups.by(*table, num_resamples=100)["columns"]["sex"]
    gap = found["gaps"]["accuracy"]
    assert gap["difference"] == 0  # and yet it is not known to be
    width = np.diff(found["groups"]["male"]["intervals"]["accuracy"])[0]
    assert np.diff(gap["interval"])[0] == pytest.approx(np.sqrt(2) * width, rel=0.2)


def test_a_gap_between_groups_that_are_all_right_has_no_interval():
    rows, _, label_N = _table(120)
    found = subgroups.by(rows, np.eye(3)[label_N], label_N, CLASSES, num_resamples=30)
    gap = found["columns"]["sex"]["gaps"]["accuracy"]
    assert (gap["difference"], gap["interval"]) == (0, None)


def test_groups_beyond_the_twenty_largest_go_together():
    rows, probability_NC, label_N = _table(100)
    for index, row in enumerate(rows):
        row["site"] = f"site {index % 25:02}" if index < 95 else "site 24"
    groups = subgroups.by(rows, probability_NC, label_N, CLASSES, num_resamples=0)["columns"][
        "site"
    ]["groups"]
    assert len(groups) == subgroups.MOST_GROUPS + 1
    assert list(groups)[-1] == subgroups.OTHERS
    assert "site 24" in groups
    assert sum(group["num_examples"] for group in groups.values()) == 100


def test_the_seed_and_nothing_else_decides():
    assert _by(120, 30, seed=3) == _by(120, 30, seed=3)
    assert _by(120, 30, seed=3) != _by(120, 30, seed=4)


def test_no_rows_are_no_groups():
    found = subgroups.by([], np.empty((0, 3)), np.empty(0, int), CLASSES, num_resamples=10)
    assert set(found["columns"].values()) == {None}
    assert found["largest_gap"] is None
    assert found["overall"]["accuracy"] is None
