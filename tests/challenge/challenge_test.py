"""Tests of challenge files: what is written, what is refused, and the organisers' scores."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from skinjax import challenge
from skinjax.challenge import scoring as challenge_score
from skinjax.data import labels
from skinjax.errors import InputError
from skinjax.verbs import score as verb

ISIC2018, ISIC2019 = challenge.get("isic2018"), challenge.get("isic2019")
HEADER = {
    "isic2018": "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC",
    "isic2019": "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK",
}


def write_truth(path: Path, one: challenge.Challenge, label_N: np.ndarray, **more: list) -> None:
    """A ground truth of images ISIC_0000000 and on; `more` are further columns."""
    lines = [",".join((HEADER[one.name], *more))]
    for number, label in enumerate(label_N):
        hot = ["1.0" if place == label else "0.0" for place in range(len(one.columns))]
        lines.append(
            ",".join([f"ISIC_{number:07d}", *hot, *(str(c[number]) for c in more.values())])
        )
    path.write_text("\n".join(lines) + "\n")


def write_both(folder: Path, one: challenge.Challenge, confidence_NK: np.ndarray, label_N, **more):
    ids = [f"ISIC_{number:07d}" for number in range(len(label_N))]
    challenge.write_submission(folder / "sent.csv", one, ids, confidence_NK)
    write_truth(folder / "truth.csv", one, label_N, **more)
    return folder / "sent.csv", folder / "truth.csv", one


@pytest.mark.parametrize("one", [ISIC2018, ISIC2019], ids=lambda one: one.name)
def test_a_submission_is_written_as_published_and_read_back(one, tmp_path):
    confidence_NK = np.random.default_rng(0).random((3, len(one.columns)))
    path = tmp_path / "sent.csv"
    challenge.write_submission(
        path, one, ["ISIC_0000002", "b_downsampled", "ISIC_1"], confidence_NK
    )
    assert path.read_text().splitlines()[0] == HEADER[one.name]
    read = challenge.read_submission(path, one)
    assert read.image_ids == ("ISIC_0000002", "ISIC_1", "b_downsampled")
    np.testing.assert_array_equal(read.confidence_NK, confidence_NK[[0, 2, 1]])


def test_models_of_the_classes_of_either_challenge_are_mapped():
    probability_NC = np.random.default_rng(0).dirichlet(np.ones(8), 4)
    mapping = challenge.mapping_to(ISIC2018, labels.ISIC2019_CLASSES)
    confidence_NK = challenge.confidences(ISIC2018, mapping, probability_NC)
    place = labels.ISIC2019_CLASSES.index
    np.testing.assert_allclose(
        confidence_NK[:, ISIC2018.columns.index("AKIEC")],
        probability_NC[:, place("ak")] + probability_NC[:, place("scc")],
    )
    np.testing.assert_allclose(
        confidence_NK[:, ISIC2018.columns.index("MEL")], probability_NC[:, place("mel")]
    )
    assert challenge.lines(ISIC2018, mapping) == ["AKIEC: the model's ak + scc"]
    with pytest.raises(InputError, match="akiec is ak and scc in ISIC 2019"):
        challenge.mapping_to(ISIC2019, labels.HAM10000_CLASSES)
    with pytest.raises(InputError, match="benign is nv and bkl and df and vasc"):
        challenge.mapping_to(ISIC2018, labels.BINARY_CLASSES)


def test_a_file_decides_what_a_coarser_model_submits(tmp_path):
    path = tmp_path / "a.csv"
    rest = "".join(f"{name},{name}\n" for name in labels.HAM10000_CLASSES if name != "akiec")
    path.write_text(f"model_class,data_class\nakiec,ak\n,scc\n{rest}")
    mapping = challenge.mapping_to(ISIC2019, labels.HAM10000_CLASSES, path)
    probability_NC = np.random.default_rng(0).dirichlet(np.ones(7), 2)
    confidence_NK = challenge.confidences(ISIC2019, mapping, probability_NC)
    np.testing.assert_array_equal(confidence_NK[:, 3], probability_NC[:, 0])
    assert not confidence_NK[:, [7, 8]].any()
    assert challenge.lines(ISIC2019, mapping) == [
        "AK: the model's akiec",
        "SCC: 0.0 for every image, since the model has no such class",
    ]


def test_abstaining_makes_unk_the_only_answer():
    mapping = challenge.mapping_to(ISIC2019, labels.ISIC2019_CLASSES)
    probability_NC = np.eye(8)[[4, 4]]
    sent_NK = challenge.confidences(ISIC2019, mapping, probability_NC, np.array([True, False]))
    assert sent_NK[0].argmax() == 8
    assert list(sent_NK[0] > 0.5) == [False] * 8 + [True]
    assert (sent_NK[1].argmax(), sent_NK[1, 8]) == (0, 0)


@pytest.mark.parametrize("name", ["../x", "", "a b", "a,b", "=1+1", "a\nb"])
def test_ids_that_are_no_names_are_not_written(name, tmp_path):
    with pytest.raises(InputError, match="image id"):
        challenge.write_submission(tmp_path / "a.csv", ISIC2018, [name], np.zeros((1, 7)))
    assert not (tmp_path / "a.csv").exists()


def test_confidences_that_are_none_and_images_given_twice_are_not_written(tmp_path):
    for bad in (np.full((1, 7), np.nan), np.full((1, 7), 1.1), np.zeros((1, 9))):
        with pytest.raises(ValueError, match="confidence"):
            challenge.write_submission(tmp_path / "a.csv", ISIC2018, ["a"], bad)
    with pytest.raises(InputError, match="image a is given 2 times"):
        challenge.write_submission(tmp_path / "a.csv", ISIC2018, ["a", "a"], np.zeros((2, 7)))


GOOD = f"{HEADER['isic2018']}\na.jpg,0.1,0.2,0.3,0.4,0.5,0.6,0.7\nb,1,0,1e-3,.5,1.0,0.0,0.5\n"


def test_other_orders_and_endings_are_taken_as_the_organisers_do(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(GOOD)
    read = challenge.read_submission(path, ISIC2018)
    assert read.image_ids == ("a", "b")
    np.testing.assert_array_equal(read.confidence_NK[1], [1, 0, 1e-3, 0.5, 1, 0, 0.5])
    path.write_text("NV,MEL,BCC,AKIEC,BKL,DF,VASC,image\n0.5,0.25,0.1,0.1,0.1,0.1,0.1,a.JPG\n")
    assert challenge.read_submission(path, ISIC2018).confidence_NK[0, :2].tolist() == [0.25, 0.5]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.7\n", "nan\n", r"line 2: VASC is 'nan'; expected numbers from 0.0 to 1.0"),
        ("0.7\n", "\n", "line 2: VASC is ''"),
        ("0.7\n", "1.01\n", "line 2: VASC is '1.01'"),
        ("0.7\n", "-0.1\n", "VASC is '-0.1'"),
        ("0.7\n", "inf\n", "VASC is 'inf'"),
        ("0.7\n", "True\n", "VASC is 'True'"),
        ("0.7\n", "0.7,0.1\n", "line 2: expected 8 values"),
        ("0.7\n", "__import__('os')\n", "VASC is"),
        ("a.jpg", "b.jpg", "b is already on line 2"),
        ("a.jpg", "../a", "image id '../a'"),
        ("VASC", "UNK", "expected for ISIC 2018 Task 3, split by commas"),
        ("VASC", "VASC,UNK", "has the columns"),
        ("VASC", "VASC,VASC", "more than once"),
        ("image", "id", "has the columns id"),
        (",", ";", "split by commas"),
        ("0.7\nb,1,0,1e-3,.5,1.0,0.0,0.5\n", "1\n", "VASC holds whole numbers only"),
        (GOOD, "", "has the columns"),
        (GOOD, f"{HEADER['isic2018']}\n", "is empty"),
        ("a.jpg", "\0", "zero byte"),
        ("a.jpg", '"a', "quote"),
        ("image", f'"{"x" * 200_000}"', "columns|field larger"),
    ],
)
def test_a_wrong_submission_is_refused(old, new, message, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(InputError, match=message):
        challenge.read_submission(path, ISIC2018)


def test_what_is_no_table_is_refused(tmp_path):
    for name in ("nowhere.csv", "folder"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        with pytest.raises(InputError, match="can't be read"):
            challenge.read_submission(tmp_path / name, ISIC2018)
    (tmp_path / "a.csv").write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(InputError, match=r"a\.csv"):
        challenge.read_submission(tmp_path / "a.csv", ISIC2018)
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(InputError, match="has 1073741824 bytes"):
        challenge.read_submission(tmp_path / "large.csv", ISIC2018)
    with pytest.raises(InputError, match="isic2020 is none of isic2018, isic2019"):
        challenge.get("isic2020")


def test_scores_of_a_table_worked_by_hand(tmp_path):
    # MEL: one hit, one tie with NV, which is no decision; NV: both right; BCC: taken for MEL.
    label_N = np.array([0, 0, 1, 1, 2])
    confidence_NK = np.zeros((5, 7))
    confidence_NK[:, :3] = [[0.9, 0.2, 0], [0.6, 0.6, 0], [0.1, 0.5, 0], [0, 0.8, 0], [0.7, 0, 0.2]]
    scored = challenge_score.score(*write_both(tmp_path, ISIC2018, confidence_NK + 0.01, label_N))
    assert scored["balanced_accuracy"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert scored["num_undecided"] == 1
    assert scored["without_images"] == ["AKIEC", "BKL", "DF", "VASC"]
    mel = scored["per_class"]["MEL"]
    assert (mel["recall"], mel["sensitivity"]) == (0.5, 1)  # both are above 0.5
    assert mel["specificity"] == pytest.approx(2 / 3)
    assert mel["dice"] == pytest.approx(4 / 5)
    assert mel["roc_auc"] == pytest.approx(5 / 6)
    # The curve goes up to 1/2, right by 1/3, up to 1, right to the end: above 0.8 from 1/3 on.
    assert mel["roc_auc_above_80"] == pytest.approx(2 / 3)
    assert scored["per_class"]["DF"]["roc_auc"] is None
    assert scored["macro_roc_auc"] == pytest.approx((5 / 6 + 1 * 5 / 6 + 1) / 3)


def test_scores_are_those_of_the_organisers_program(tmp_path):
    # What isic-challenge-scoring at cf264bc printed for this table, with a weight of 2 for the
    # first ten images and of 0 for the last five.
    rng = np.random.default_rng(7)
    label_N = rng.integers(0, 9, 60)
    confidence_NK = np.round(0.6 * rng.random((60, 9)) + 0.4 * np.eye(9)[label_N], 1)
    weight = [2.0] * 10 + [1.0] * 45 + [0.0] * 5
    files = write_both(
        tmp_path, ISIC2019, confidence_NK, label_N, score_weight=weight, validation_weight=weight
    )
    scored = challenge_score.score(*files)
    assert scored["num_scored"] == 55
    golden = json.loads((Path(__file__).parent.parent / "golden" / "isic_scores.json").read_text())
    assert scored["balanced_accuracy"] == pytest.approx(golden["balanced_accuracy"], abs=1e-12)
    names = {"roc_auc": "auc", "roc_auc_above_80": "auc_sens_80", "average_precision": "ap"}
    for column, one in scored["per_class"].items():
        for name, value in one.items():
            if name not in ("num_images", "recall"):
                expected = golden["per_category"][names.get(name, name)][column]
                assert value == pytest.approx(expected, abs=1e-12), (column, name)


@pytest.mark.parametrize("seed", range(12))
def test_scores_agree_with_scikit_learn(seed, tmp_path):
    rng = np.random.default_rng(seed)
    num_images, rounded = 2 + 3 * seed, seed % 2 == 1
    label_N = rng.integers(0, 7, num_images)
    confidence_NK = rng.dirichlet(np.ones(7), num_images)
    confidence_NK = np.round(confidence_NK, 1) if rounded else confidence_NK
    scored = challenge_score.score(*write_both(tmp_path, ISIC2018, confidence_NK, label_N))
    tied_N = np.sum(confidence_NK == confidence_NK.max(1, keepdims=True), axis=1) > 1
    predicted_N = np.where(tied_N, 7, confidence_NK.argmax(axis=1))
    present = np.unique(label_N)
    expected = recall_score(label_N, predicted_N, labels=present, average="macro")
    assert scored["balanced_accuracy"] == pytest.approx(expected, abs=1e-9)
    for place, (name, one) in enumerate(scored["per_class"].items()):
        positive_N = label_N == place
        if not positive_N.any() or positive_N.all():
            assert one["roc_auc"] is None, name
        else:
            expected = roc_auc_score(positive_N, confidence_NK[:, place])
            assert one["roc_auc"] == pytest.approx(expected, abs=1e-9)


def test_an_image_that_the_organisers_leave_out_weighs_nothing(tmp_path):
    label_N = np.array([0, 0, 1])
    files = write_both(tmp_path, ISIC2018, np.eye(7)[[0, 1, 1]] * 0.9 + 0.01, label_N)
    for path in files[:2]:
        path.write_text(path.read_text().replace("ISIC_0000001", "ISIC_0035068"))
    scored = challenge_score.score(*files)
    assert (scored["balanced_accuracy"], scored["num_scored"], scored["num_images"]) == (1, 2, 3)


def test_other_images_or_a_wrong_truth_are_refused(tmp_path):
    sent, truth, one = write_both(tmp_path, ISIC2018, np.full((3, 7), 0.1), np.arange(3))
    text = truth.read_text()
    truth.write_text(text.replace("ISIC_0000002", "other"))
    with pytest.raises(InputError, match=r"lacks 1 images \(other\)"):
        challenge_score.score(sent, truth, one)
    truth.write_text("".join(text.splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match=r"has 1 images \(ISIC_0000002\)"):
        challenge_score.score(sent, truth, one)
    truth.write_text(text.replace("1.0", "0.5"))
    with pytest.raises(InputError, match="not of one class"):
        challenge_score.score(sent, truth, one)
    for weight in ("-1", "inf", "nan", "x"):
        write_truth(truth, one, np.arange(3), score_weight=["1", weight, "1"])
        with pytest.raises(InputError, match=r"line 3 has the weight"):
            challenge_score.score(sent, truth, one)


def test_the_verb_checks_and_scores(tmp_path, capsys):
    sent, truth, _ = write_both(tmp_path, ISIC2018, np.eye(7) * 0.9 + 0.01, np.arange(7))
    parser = argparse.ArgumentParser()
    verb.add_flags(parser)
    arguments = [f"--submission={sent}", "--challenge=isic2018"]
    verb.run(parser.parse_args(arguments), [])
    assert "7 images, a right file for ISIC 2018 Task 3" in capsys.readouterr().out
    output = tmp_path / "score.json"
    verb.run(parser.parse_args([*arguments, f"--truth={truth}", f"--output={output}"]), [])
    assert "balanced accuracy 1.0000, macro AUC 1.0000, 7 of 7" in capsys.readouterr().out
    assert json.loads(output.read_text())["per_class"]["MEL"]["recall"] == 1
    with pytest.raises(InputError, match="need --truth"):
        verb.run(parser.parse_args([*arguments, f"--output={output}"]), [])
    with pytest.raises(InputError, match="score does not know --split"):
        verb.run(parser.parse_args(arguments), ["--split=test"])
