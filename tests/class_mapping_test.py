"""Tests of mapping classes: the published data sets, names, and files that say it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skinjax import class_mapping
from skinjax.data import labels
from skinjax.errors import InputError

HAM, ISIC2019 = labels.HAM10000_CLASSES, labels.ISIC2019_CLASSES
ISIC9, BINARY = labels.ISIC9_CLASSES, labels.BINARY_CLASSES


def groups(mapping: class_mapping.ClassMapping) -> dict[str, tuple[set[str], set[str]]]:
    """Of each evaluated class, the model's and the data's."""
    return {
        name: (
            {m for m, k in zip(mapping.model_classes, mapping.of_model, strict=True) if k == place},
            {d for d, k in zip(mapping.data_classes, mapping.of_data, strict=True) if k == place},
        )
        for place, name in enumerate(mapping.classes)
    }


@pytest.mark.parametrize("classes", [HAM, ISIC2019, ISIC9, BINARY, ("cat", "dog")])
def test_the_same_classes_stay_as_they_are(classes):
    mapping = class_mapping.create(classes, classes)
    assert mapping.classes == classes
    assert mapping.of_model == mapping.of_data == tuple(range(len(classes)))
    assert mapping.lines() == []
    assert not mapping.merges_model


def test_eight_classes_are_tested_on_seven_with_ak_and_scc_added_up():
    mapping = class_mapping.create(ISIC2019, HAM)
    assert mapping.classes == HAM
    assert mapping.of_data == tuple(range(7))
    probability_NC = np.array([[0.1, 0.2, 0, 0, 0.3, 0, 0.4, 0]])  # of ak, bcc, ..., scc, vasc
    np.testing.assert_allclose(mapping.merged(probability_NC), [[0.5, 0.2, 0, 0, 0.3, 0, 0]])
    assert mapping.lines() == ["akiec: the model's ak + scc are added up"]
    assert mapping.merges_model


def test_seven_classes_are_tested_on_eight_with_the_labels_merged():
    mapping = class_mapping.create(HAM, ISIC2019)
    assert mapping.classes == HAM
    assert mapping.of_data == (0, 1, 2, 3, 4, 5, 0, 6)
    probability_NC = np.random.default_rng(0).dirichlet(np.ones(7), 5)
    np.testing.assert_array_equal(mapping.merged(probability_NC), probability_NC)
    assert mapping.lines() == ["akiec: ak and scc of the data"]


def test_folders_of_nine_classes_and_of_their_abbreviations():
    assert groups(class_mapping.create(HAM, ISIC9))["bkl"] == (
        {"bkl"},
        {"pigmented benign keratosis", "seborrheic keratosis"},
    )
    assert groups(class_mapping.create(ISIC9, HAM))["akiec"] == (
        {"actinic keratosis", "squamous cell carcinoma"},
        {"akiec"},
    )
    by_name = class_mapping.create(HAM, ("MEL", "NV"))
    assert groups(by_name)["mel"] == ({"mel"}, {"MEL"})
    assert by_name.absent_from_data == ("akiec", "bcc", "bkl", "df", "vasc")
    assert class_mapping.create(ISIC9, ("Basal_Cell_Carcinoma", "Nevus")).of_data == (1, 4)


@pytest.mark.parametrize("finer", [HAM, ISIC2019, ISIC9])
def test_every_data_set_becomes_benign_and_malignant_in_either_direction(finer):
    mapping = class_mapping.create(finer, BINARY)
    assert mapping.classes == BINARY
    malignant = {name for name, k in zip(finer, mapping.of_model, strict=True) if k == 1}
    # HAM10000's akiec counts, and with it whatever of other data sets it is made of.
    keratoses = {"ak", "akiec", "actinic keratosis"}
    assert malignant == labels.malignant(finer) | (keratoses & set(finer))
    assert class_mapping.create(BINARY, finer).of_data == mapping.of_model


def test_a_class_that_the_model_lacks_is_named_and_has_no_place():
    known = tuple(name for name in HAM if name != "mel")
    mapping = class_mapping.create(known, HAM)
    assert mapping.unknown_to_model == ("mel",)
    assert mapping.of_data[HAM.index("mel")] == -1
    assert "no class for mel of the data: such images are left out" in mapping.lines()[0]


@settings(max_examples=50, deadline=None)
@given(st.sets(st.sampled_from(HAM), min_size=2), st.sets(st.sampled_from(ISIC9), min_size=2))
def test_merging_loses_no_probability_and_no_class(some, others):
    pair = sorted(some), sorted(others)
    for model, data in (pair, pair[::-1]):
        try:
            mapping = class_mapping.create(model, data)
        except InputError:
            continue  # nothing in common
        assert len(set(mapping.classes)) == len(mapping.classes)
        probability_NC = np.random.default_rng(0).dirichlet(np.ones(len(model)), 4)
        np.testing.assert_allclose(mapping.merged(probability_NC).sum(axis=1), 1)
        assert set(mapping.of_model) | set(mapping.of_data) - {-1} == set(
            range(len(mapping.classes))
        )


def test_unknown_names_are_matched_without_case_or_refused():
    assert class_mapping.create(("Cat", "dog"), ("CAT", "DOG")).of_data == (0, 1)
    with pytest.raises(InputError, match=r"'cow' is none of the model's.*--mapping"):
        class_mapping.create(("cat", "dog"), ("cat", "cow"))
    with pytest.raises(InputError, match="no class of the data"):
        class_mapping.create(("akiec", "bcc"), ("df", "vasc"))


FILES = {
    "a.csv": "model_class,data_class\ncat,feline\ndog,canine\ndog,wolf\nfish,\n,bird\n",
    "a.json": '{"cat": "feline", "dog": ["canine", "wolf"], "fish": [], "": "bird"}',
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_it(name, tmp_path):
    path = tmp_path / name
    path.write_text(FILES[name])
    mapping = class_mapping.create(
        ("cat", "dog", "fish"), ("bird", "canine", "feline", "wolf"), path
    )
    assert mapping.classes == ("cat", "dog", "fish")
    assert mapping.of_data == (-1, 1, 0, 1)
    assert mapping.absent_from_data == ("fish",)


def test_a_file_may_merge_both_sides_and_swap_names(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("model_class,data_class\na,x\nb,x\nb,y\nc,z\n")
    mapping = class_mapping.create(("a", "b", "c"), ("x", "y", "z"), path)
    assert mapping.classes == ("x + y", "z")
    assert mapping.of_model == (0, 0, 1)
    path.write_text("model_class,data_class\na,b\nc,b\nb,\n")
    mapping = class_mapping.create(("a", "b", "c"), ("b",), path)
    assert mapping.classes == ("b", "b (of the model)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_class,data_class\ncat,felin\ndog,canine\n", "data has no class 'felin'.*feline"),
        ("model_class,data_class\ncta,feline\ndog,canine\n", "model has no class 'cta'.*cat"),
        ("model_class,data_class\ncat,feline\n,canine\n", "model's class 'dog': add.*'dog,'"),
        ("model_class,data_class\ncat,feline\ndog,\n", "data's class 'canine': add.*',canine'"),
        ("model_class,data_class\ncat,feline\ncat,\ndog,canine\n", "'cat' is said to have no"),
        ("model_class,data_class\ncat,\ndog,\n,feline\n,canine\n", "maps no class"),
        ("model_class,data_class\n,\n", "does not say"),
        ("model,data\ncat,feline\n", "no column model_class"),
        ('model_class,data_class\ncat,"feline\n', "quote"),
        ("", "no column|empty"),
    ],
)
def test_a_wrong_csv_is_refused(text, message, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        class_mapping.create(("cat", "dog"), ("canine", "feline"), path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "no JSON"),
        ('{"cat": "feline", "cat": "canine"}', "twice"),
        ("[1]", "no JSON object"),
        ('{"cat": {"a": 1}}', "expected a class"),
        ('{"cat": 1}', "expected a class"),
        ("\0", "no JSON"),
        (json.dumps({"cat": "x" * (1 << 20)}), "bytes"),
    ],
)
def test_a_wrong_json_is_refused(text, message, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        class_mapping.create(("cat", "dog"), ("canine", "feline"), path)


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_a_pipe_is_not_waited_for(ending, tmp_path):
    os.mkfifo(tmp_path / f"a.{ending}")
    with pytest.raises(InputError, match=r"is no short table \(it is no regular file\)"):
        class_mapping.create(("cat", "dog"), ("canine", "feline"), tmp_path / f"a.{ending}")


def test_a_mapping_into_one_class_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("model_class,data_class\ncat,feline\ndog,feline\n")
    for model, data, file in (
        (("cat", "dog"), ("feline",), path),
        (("mel", "bcc"), BINARY, ""),  # by tables: both are malignant
        (("cat", "CAT"), ("Cat",), ""),  # by name
    ):
        with pytest.raises(InputError, match=r"joins all classes .* into one.*two or more.*--map"):
            class_mapping.create(model, data, file)


def test_no_file_is_said():
    with pytest.raises(InputError, match=r"nowhere\.csv can't be read"):
        class_mapping.create(("cat", "dog"), ("a", "b"), Path("nowhere.csv"))
