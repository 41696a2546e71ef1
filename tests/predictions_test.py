"""Writing and reading the table of predictions."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skinjax import metrics
from skinjax.errors import InputError
from skinjax.predictions import COLUMNS, read_predictions, write_predictions

CLASSES = ("actinic keratosis", "mel, maybe", "nv")


def _rows(num_examples: int, label_N: np.ndarray) -> list[dict[str, object]]:
    return [
        {
            "image_id": f"ISIC_{i:07d}",
            "lesion_id": f"HAM_{i // 2}",
            "split": "test",
            "age": None if i % 3 == 0 else 45.0 + i % 80,
            "sex": ["male", "female", ""][i % 3],
            "site": 'lower extremity, "left"' if i % 2 else "",
            "source": "vidir_modern",
            "label": CLASSES[label_N[i]],
        }
        for i in range(num_examples)
    ]


def _softmax(seed: int, num_examples: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probability_NC = np.exp(3 * rng.normal(size=(num_examples, 3)))
    probability_NC /= probability_NC.sum(1, keepdims=True)
    return probability_NC, rng.integers(3, size=num_examples)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_metric_is_recomputed_exactly_from_the_file(tmp_path, dtype):
    probability_NC, label_N = _softmax(0, 200)
    probability_NC = probability_NC.astype(dtype)
    path = tmp_path / "predictions_test.csv"
    written = _rows(200, label_N)
    write_predictions(path, written, probability_NC, CLASSES)
    rows, read_NC, read_N, classes = read_predictions(path)
    assert rows == written
    assert classes == CLASSES
    np.testing.assert_array_equal(read_NC, probability_NC.astype(np.float64))
    np.testing.assert_array_equal(read_N, label_N)
    assert metrics.compute(read_NC, read_N, classes) == (
        metrics.compute(probability_NC, label_N, CLASSES)
    )


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=8)


@settings(deadline=None, max_examples=60)
@given(text=TEXT, age=st.none() | st.floats(0, 120), first=st.floats(0, 1))
def test_any_text_and_any_float_come_back(tmp_path_factory, text, age, first):
    path = tmp_path_factory.mktemp("predictions") / "p.csv"
    row = dict.fromkeys(COLUMNS, text) | {"image_id": f"i{text}", "age": age, "label": "nv"}
    write_predictions(path, [row], np.array([[first, 1 - first]]), ("mel", "nv"))
    rows, probability_NC, label_N, _ = read_predictions(path)
    assert rows == [row]
    assert probability_NC.tolist() == [[first, 1 - first]]
    assert label_N.tolist() == [1]


def test_carriage_return_does_not_end_the_line(tmp_path):
    row = dict.fromkeys(COLUMNS, "a\rb") | {"age": None, "label": "nv"}
    write_predictions(tmp_path / "p.csv", [row], np.array([[0.0, 1.0]]), ("mel", "nv"))
    assert read_predictions(tmp_path / "p.csv")[0][0]["site"] == "a b"


def test_columns_stand_in_the_published_order(tmp_path):
    probability_NC, label_N = _softmax(1, 2)
    write_predictions(tmp_path / "p.csv", _rows(2, label_N), probability_NC, CLASSES)
    first = (tmp_path / "p.csv").read_text().splitlines()[0]
    assert first == (
        "image_id,lesion_id,split,age,sex,site,source,label,"
        'prob_actinic keratosis,"prob_mel, maybe",prob_nv'
    )


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    probability_NC, label_N = _softmax(2, 3)
    path = tmp_path / "p.csv"
    write_predictions(path, _rows(3, label_N), probability_NC, CLASSES)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_predictions(path, [], np.zeros((0, 3)), CLASSES)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.csv"]


@pytest.mark.parametrize(
    ("probability_NC", "label", "message"),
    [
        ([[0.5, 0.5, 0.0]] * 2, "nv", "1 rows and 3 classes"),
        ([[np.nan, 0.5, 0.5]], "nv", "not finite"),
        ([[0.5, 0.5, 0.0]], "scc", r"labels \['scc'\] are not among"),
    ],
)
def test_wrong_values_are_not_written(tmp_path, probability_NC, label, message):
    row = dict.fromkeys(COLUMNS, "") | {"age": None, "label": label}
    with pytest.raises(ValueError, match=message):
        write_predictions(tmp_path / "p.csv", [row], np.array(probability_NC), CLASSES)
    assert not list(tmp_path.iterdir())


HEADER = "image_id,lesion_id,split,age,sex,site,source,label,prob_mel,prob_nv\n"
GOOD = "i,l,test,50,male,back,rosendahl,nv,0.25,0.75\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column image_id"),
        (HEADER.replace("lesion_id,", "") + GOOD, "no column lesion_id"),
        (HEADER.replace("prob_mel,prob_nv", "a,b") + GOOD, "no column prob_<class>"),
        (HEADER.replace("prob_mel", "prob_nv") + GOOD, "column prob_nv twice"),
        (
            HEADER.replace("prob_mel", "other") + GOOD,
            "line 1 .*expected .*two or more",
        ),
        (HEADER.replace("prob_mel", "prob_") + GOOD, "line 1 has .*classes with names"),
        (HEADER + GOOD + GOOD, "line 3 has .* one image twice: 'i' is in line 2"),
        (HEADER + GOOD.replace("i,l", ",l"), "line 2 has no image_id"),
        (HEADER + GOOD.replace("50", "-1"), "line 2: age is '-1', expected years"),
        (HEADER + GOOD.replace("50", "8_0"), "line 2: age is '8_0', expected a finite number"),
        (HEADER + GOOD.replace("0.75", "0.7_5"), "prob_nv is '0.7_5'"),
        (HEADER + GOOD + GOOD.replace("i,", "j,").replace("0.25", "x"), "line 3: prob_mel is 'x'"),
        (HEADER + GOOD.replace("0.25", "nan"), "line 2: prob_mel is 'nan'"),
        (HEADER + GOOD.replace("0.25", "inf"), "prob_mel is 'inf'"),
        (HEADER + GOOD.replace("0.25", ""), "prob_mel is ''"),
        (HEADER + GOOD.replace("50", "old"), "age is 'old'"),
        (HEADER + GOOD.replace(",nv,", ",scc,"), "label 'scc' is none of the classes mel, nv"),
        (HEADER + GOOD.replace("0.25", "0.5"), "line 2: the probabilities sum to 1.25"),
        (HEADER + GOOD.replace("0.25,0.75", "-0.25,1.25"), "no negative"),
        (HEADER + GOOD.replace(",0.75", ""), "line 2 has 9 fields, expected 10"),
        (HEADER + '"i' + GOOD, "not readable as CSV"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "predictions_test.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_predictions(path)
    assert "\n" not in str(caught.value)
    assert "predictions_test.csv" in str(caught.value)
    assert "run `skinjax evaluate` again" in str(caught.value)


def test_a_table_without_rows_is_one(tmp_path):
    (tmp_path / "p.csv").write_text(HEADER)
    rows, probability_NC, label_N, classes = read_predictions(tmp_path / "p.csv")
    assert (rows, probability_NC.shape, label_N.shape) == ([], (0, 2), (0,))
    assert classes == ("mel", "nv")


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="missing: run `skinjax evaluate` first"):
        read_predictions(tmp_path / "none.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match=r"pipe.csv is not readable.*no regular file"):
        read_predictions(tmp_path / "pipe.csv")
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate((1 << 30) + 1)  # takes no place on the disk
    with pytest.raises(InputError, match=r"large.csv is not readable.*1073741824 at most"):
        read_predictions(tmp_path / "large.csv")
    (tmp_path / "image.csv").write_bytes(b"\xff\xd8\xff\xe0\x00")
    with pytest.raises(InputError, match="not readable as CSV"):
        read_predictions(tmp_path / "image.csv")


def test_a_spreadsheets_byte_order_mark_and_further_columns_do_no_harm(tmp_path):
    path = tmp_path / "p.csv"
    extra = HEADER.replace("\n", ",note\n") + GOOD.replace("\n", ",x\n") + "\n"
    path.write_text(extra, encoding="utf-8-sig")
    rows, probability_NC, _, classes = read_predictions(path)
    assert rows[0]["age"] == 50.0
    assert set(rows[0]) == set(COLUMNS)
    assert classes == ("mel", "nv")
    assert probability_NC.tolist() == [[0.25, 0.75]]
