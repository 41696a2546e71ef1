import json
import logging

import numpy as np
import pytest

from skinjax.data import splits

CLASSES = ("mel", "nv", "vasc")


def made(fractions=(0.5, 0.25, 0.25)):
    """Eight images of mel and four of nv; one patient has a lesion of each."""
    label_N = np.array([0] * 8 + [1] * 4 + [1])
    lesion_N = ["l0", "l0", "l1", "l2", "l3", "l4", "l5", "l6", "n0", "n1", "n2", "n2", "n3"]
    group_N = ["p0", "p0", "p0", "l2", "l3", "l4", "l5", "l6", "p0", "n1", "n2", "n2", "n3"]
    split_N = np.array(
        ["train"] * 5 + ["val"] + ["test"] * 2 + ["train"] + ["val"] + ["test"] * 2 + [""]
    )
    return splits.statistics(label_N, group_N, lesion_N, split_N, CLASSES, fractions)


def test_counts_images_groups_and_lesions():
    found = made()
    assert found["images"] == {"train": 6, "val": 2, "test": 4}
    assert found["groups"] == {"train": 3, "val": 2, "test": 3}
    assert found["lesions"] == {"train": 5, "val": 2, "test": 3}
    assert found["groups_of_several_classes"] == 1
    assert found["images_by_class"]["train"] == {"mel": 5, "nv": 1, "vasc": 0}
    assert json.loads(json.dumps(found)) == found


def test_says_how_far_off_the_fractions_are():
    found = made()
    assert found["fractions_wanted"] == [0.5, 0.25, 0.25]
    assert found["fraction_by_class"] == {
        "mel": {"train": 0.625, "val": 0.125, "test": 0.25},
        "nv": {"train": 0.25, "val": 0.25, "test": 0.5},
    }
    assert found["off_by_class"]["mel"] == {"train": 0.125, "val": -0.125, "test": 0.0}
    assert found["most_off"] == {"class": "nv", "split": "train", "fraction": 0.25, "off": -0.25}


def test_without_wanted_fractions_nothing_is_off(caplog):
    found = made(None)
    assert (found["fractions_wanted"], found["off_by_class"], found["most_off"]) == (None, {}, None)
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert not splits.log_fractions(found)
    assert caplog.messages == []


def test_no_images_have_statistics_too():
    found = splits.statistics(np.zeros(0, int), [], [], np.empty(0, "<U5"), CLASSES, (1, 0, 0))
    assert found["images"] == {"train": 0, "val": 0, "test": 0}
    assert found["most_off"] is None


@pytest.mark.parametrize(("tolerance", "warned"), [(0.02, 1), (0.13, 1), (0.26, 0)])
def test_warns_in_one_line_of_fractions_far_off(caplog, tolerance, warned):
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert splits.log_fractions(made(), tolerance) == bool(warned)
    assert len(caplog.messages) == warned
    if warned:
        assert "0.250 of the images of class nv are in the train split" in caplog.text
        assert "0.500 was wanted" in caplog.text
        assert f"({2 if tolerance < 0.1 else 1} of 2 classes" in caplog.text
