"""The drawn data set: layout on disk, determinism, and what it takes to tell its classes."""

import csv
from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinjax.data import synthetic
from skinjax.data.labels import HAM10000_CLASSES
from skinjax.data.lesion_appearance import APPEARANCES
from skinjax.data.lesion_drawing import paint
from skinjax.data.lesion_photograph import photograph
from skinjax.errors import InputError

NUM_LESIONS, SIZE = 250, 48


@pytest.fixture(scope="module")
def raw_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("raw") / "synthetic"
    synthetic.write(directory, num_lesions=NUM_LESIONS, image_size=SIZE, seed=0)
    return directory


@pytest.fixture(scope="module")
def rows(raw_dir):
    with (raw_dir / "HAM10000_metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def image_NHWC(raw_dir, rows):
    paths = {path.stem: path for path in raw_dir.glob("*/*.jpg")}
    images = [cv2.imread(str(paths[row["image_id"]])) for row in rows]
    return np.stack(images)[..., ::-1] / np.float32(255)


def files(directory):
    return {
        path.relative_to(directory): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_layout_is_that_of_ham10000(raw_dir, rows):
    columns = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
    assert list(rows[0]) == columns
    folders = [
        {path.stem for path in (raw_dir / f"HAM10000_images_part_{part}").iterdir()}
        for part in (1, 2)
    ]
    ids = [row["image_id"] for row in rows]
    assert len(set(ids)) == len(ids)
    assert folders[0] | folders[1] == set(ids)
    assert not folders[0] & folders[1]
    assert min(len(folder) for folder in folders) > len(ids) / 3
    assert ids[0] == "SYN_0000001"


def test_a_lesion_has_one_class_one_patient_and_up_to_four_images(rows):
    images = Counter(row["lesion_id"] for row in rows)
    assert len(images) == NUM_LESIONS
    assert set(images.values()) == {1, 2, 3, 4}
    facts = {tuple(row.values())[:1] + tuple(row.values())[2:] for row in rows}
    assert len(facts) == NUM_LESIONS


def test_metadata_holds_to_ham10000s_vocabulary_with_gaps(rows):
    lesions = list({row["lesion_id"]: row for row in rows}.values())
    assert {row["sex"] for row in lesions} == {"male", "female", "unknown"}
    assert {"", "50"} < {row["age"] for row in lesions}
    assert all(row["age"] == "" or int(row["age"]) % 5 == 0 for row in lesions)
    assert {"unknown", "back", "face"} < {row["localization"] for row in lesions}
    follow_ups = {row["dx"] for row in lesions if row["dx_type"] == "follow_up"}
    assert follow_ups == {"nv"}


def test_every_lesion_counts_in_the_class_sizes(rows):
    lesions = {row["lesion_id"]: row["dx"] for row in rows}
    assert Counter(lesions.values()) == synthetic.class_sizes(NUM_LESIONS)


@given(st.integers(7, 5000))
def test_class_sizes_are_unbalanced_and_no_class_is_left_out(num_lesions):
    sizes = synthetic.class_sizes(num_lesions)
    assert tuple(sizes) == HAM10000_CLASSES
    assert sum(sizes.values()) == num_lesions
    assert min(sizes.values()) >= (8 if num_lesions >= 100 else 1)
    if num_lesions >= 100:
        assert 0.4 <= sizes["nv"] / num_lesions <= 0.56


def test_the_same_seed_draws_the_same_files_and_another_seed_others(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        synthetic.write(tmp_path / name, num_lesions=30, image_size=16, seed=seed)
    first, again, other = (files(tmp_path / name) for name in "abc")
    assert first == again
    assert not set(first.values()) & set(other.values())


def test_neither_folder_nor_order_tells_the_class(raw_dir, rows):
    folder = raw_dir / "HAM10000_images_part_1"
    inside = [row["dx"] for row in rows if (folder / f"{row['image_id']}.jpg").exists()]
    assert set(inside) == set(HAM10000_CLASSES)
    assert 0.3 < inside.count("nv") / len(inside) < 0.7


def test_a_lesion_is_painted_from_its_own_random_stream():
    def draw(dx, seed):
        rng = np.random.default_rng(seed)
        return photograph(rng, paint(rng, APPEARANCES[dx], SIZE), SIZE)

    expected = {dx: draw(dx, 3) for dx in APPEARANCES}
    for dx in reversed(APPEARANCES):
        np.testing.assert_array_equal(draw(dx, 3), expected[dx])


@pytest.mark.parametrize("dx", sorted(APPEARANCES))
def test_every_class_can_be_drawn_at_any_size(dx):
    for seed in range(12):
        size = (16, 33, 64)[seed % 3]
        rng = np.random.default_rng(seed)
        painting_HWC = paint(rng, APPEARANCES[dx], size)
        assert np.isfinite(painting_HWC).all()
        assert 0 <= painting_HWC.min() <= painting_HWC.max() <= 1
        image_HWC = photograph(rng, painting_HWC, size)
        assert (image_HWC.shape, image_HWC.dtype) == ((size, size, 3), np.uint8)
        assert image_HWC.std() > 3


def test_a_lesion_too_small_to_have_a_centre_is_drawn():
    # 17 px: no pixel is as deep as the scar wants to lie.
    painting_HWC = paint(np.random.default_rng(29), APPEARANCES["df"], 17)
    assert painting_HWC.shape == (25, 25, 3)


def test_images_of_a_lesion_differ_in_view_but_less_than_lesions_do(image_NHWC, rows):
    # Of the whole image only brightness and tint are compared, so that rotation does not matter.
    mean_NC = image_NHWC.mean((1, 2))
    lesions = np.array([row["lesion_id"] for row in rows])
    pairs = [(i, i + 1) for i in range(len(rows) - 1)]
    same = [np.abs(mean_NC[i] - mean_NC[j]).mean() for i, j in pairs if lesions[i] == lesions[j]]
    other = [np.abs(mean_NC[i] - mean_NC[j]).mean() for i, j in pairs if lesions[i] != lesions[j]]
    assert 0.01 < np.mean(same) < 0.85 * np.mean(other)


def test_mean_colour_does_not_tell_the_class_and_its_place_tells_more(image_NHWC, rows):
    # What a network makes of it takes minutes to measure; here only that there is something to see.
    label_N = np.array([HAM10000_CLASSES.index(row["dx"]) for row in rows])
    group_N = np.array([row["lesion_id"] for row in rows])
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    ring_HW = (np.hypot(x, y) * 6).astype(int)
    detail_NHW = np.stack([np.abs(cv2.Laplacian(image, cv2.CV_32F)) for image in image_NHWC])
    features = {
        "mean colour": image_NHWC.mean((1, 2)),
        "rings": np.concatenate(
            [a[:, ring_HW == r].mean(1) for a in (image_NHWC, detail_NHW) for r in range(6)], 1
        ),
    }
    scores = {}
    for name, feature_NF in features.items():
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500)
        )
        folds = StratifiedGroupKFold(4, shuffle=True, random_state=0)
        predicted_N = cross_val_predict(model, feature_NF, label_N, groups=group_N, cv=folds)
        scores[name] = balanced_accuracy_score(label_N, predicted_N)
    assert scores["mean colour"] < 0.27
    assert scores["rings"] > scores["mean colour"] + 0.1


def test_a_second_call_leaves_the_files_alone(tmp_path):
    settings = {"num_lesions": 7, "image_size": 16, "seed": 5}
    synthetic.write(tmp_path, **settings)
    image = next(tmp_path.glob("*/*.jpg"))
    image.write_bytes(b"changed")
    synthetic.write(tmp_path, **settings)
    assert image.read_bytes() == b"changed"
    with pytest.raises(InputError, match=r"other settings.*\"seed\": 5.*name another folder"):
        synthetic.write(tmp_path, **settings | {"seed": 6})


def test_files_of_another_version_are_refused_by_name(tmp_path, monkeypatch):
    settings = {"num_lesions": 7, "image_size": 16, "seed": 5}
    synthetic.write(tmp_path, **settings)
    monkeypatch.setattr(synthetic, "VERSION", synthetic.VERSION + 1)
    with pytest.raises(InputError, match=r"\"version\": 1}; expected .*\"version\": 2}"):
        synthetic.write(tmp_path, **settings)


def test_a_folder_in_use_is_refused_and_kept(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="holds no complete synthetic data set"):
        synthetic.write(tmp_path, num_lesions=7, image_size=16, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_lesions": 6}, "num_lesions is 6; it must be 7 or more"),
        ({"image_size": 15}, "image_size is 15; it must be 16"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_settings_write_nothing(tmp_path, change, message):
    settings = {"num_lesions": 7, "image_size": 16, "seed": 0} | change
    with pytest.raises(InputError, match=message):
        synthetic.write(tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()
