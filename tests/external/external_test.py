"""Tests of external tests: layouts, mapped classes, images already seen, the report beside."""

import argparse
import csv
import dataclasses
import itertools
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy.special import softmax

from skinjax import (
    calibration,
    challenge,
    class_mapping,
    evaluate,
    external,
    metrics,
    models,
    parallel,
    report,
    trained,
)
from skinjax.calibration import Calibration
from skinjax.config import default_config
from skinjax.data import builder, images, labels
from skinjax.errors import InputError
from skinjax.external import data as external_data
from skinjax.external import report as external_report
from skinjax.external import seen_images, selection
from skinjax.predict import outputs
from skinjax.predictions import read_predictions
from skinjax.train import train
from skinjax.verbs import submit as submit_verb

pytestmark = pytest.mark.usefixtures("fast_compilation")

HAM = labels.HAM10000_CLASSES


def make_config(raw_dir: Path, prepared_dir: Path) -> ConfigDict:
    """A run of seconds: as the fixture `config`, for one epoch."""
    config = default_config()
    config.data.raw_dir = str(raw_dir)
    config.data.prepared_dir = str(prepared_dir)
    config.data.image_size = 16
    # Lesions of 32 pixels are so alike that they would count as one photograph.
    config.data.near_duplicates = False
    config.epochs = 1
    config.batch_size = 32
    config.normalize.update(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    config.model.name = "simple_cnn"
    config.model.head = (("dense", 8), ("relu",))
    config.parallel.num_devices = 1
    config.parallel.keep_freed_memory = False
    config.log.tensorboard = False
    config.log.progress = False
    return config


@pytest.fixture(autouse=True)
def _freed_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeping it would last for all tests."""
    monkeypatch.setattr(parallel, "keep_freed_memory", lambda: None)


@pytest.fixture(scope="module")
def run(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run of seven classes, evaluated."""
    folder = tmp_path_factory.mktemp("external")
    train(make_config(synthetic_dir, folder / "prepared"), folder / "run")
    save_calibration(folder / "run", HAM)
    evaluate.evaluate(folder / "run", num_resamples=0)
    return folder / "run"


def save_calibration(workdir: Path, classes: Sequence[str]) -> None:
    """A temperature of 2."""
    own = Calibration("temperature", (0.5,) * len(classes), (0.0,) * len(classes))
    calibration.save(workdir, trained.load(workdir).step, own, classes, 10)


@pytest.fixture(scope="module")
def test_rows(run: Path) -> list[dict[str, Any]]:
    """The run's own test split."""
    return read_predictions(run / "evaluation" / "test" / "predictions_test.csv")[0]


@pytest.fixture(scope="module")
def isic2018(test_rows: Any, synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official test set's layout, of the run's test images under new names."""
    folder = tmp_path_factory.mktemp("isic2018")
    (folder / "ISIC2018_Task3_Test_Input").mkdir()
    lines = ["image,MEL,NV,BCC,AKIEC,BKL,DF,VASC"]
    for number, row in enumerate(test_rows):
        name = f"ISIC_{34524 + number:07d}"
        target = folder / "ISIC2018_Task3_Test_Input" / f"{name}.jpg"
        shutil.copyfile(find_image(synthetic_dir, row["image_id"]), target)
        columns = ("mel", "nv", "bcc", "akiec", "bkl", "df", "vasc")
        lines.append(",".join([name, *("1.0" if row["label"] == c else "0.0" for c in columns)]))
    (folder / "ISIC2018_Task3_Test_GroundTruth.csv").write_text("\n".join(lines) + "\n")
    return folder


def find_image(folder: Path, image_id: str) -> Path:
    return next(folder.glob(f"*/{image_id}.jpg"))


def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves pictures out of the comparison: drawn lesions of 32 px are too alike for it."""
    monkeypatch.setattr(seen_images, "_by_pictures", lambda *_: {})


def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the report on one evaluation, which is tested by itself."""
    monkeypatch.setattr(report, "write_evaluation", lambda *_, **__: [])


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_official_test_set_gives_what_evaluate_gives_for_its_images(
    run, isic2018, test_rows, monkeypatch
):
    without_pictures(monkeypatch)
    result = external.evaluate(run, isic2018, name="official test", num_resamples=20)
    folder = run / "evaluation" / "external_official_test"
    rows, probability_NC, label_N, classes = read_predictions(
        folder / "predictions_external_official_test.csv"
    )
    _, internal_NC, internal_N, _ = read_predictions(
        run / "evaluation" / "test" / "predictions_test.csv"
    )
    assert classes == HAM
    assert rows[0]["image_id"] == "ISIC_0034524"
    np.testing.assert_allclose(probability_NC, internal_NC, atol=1e-5)
    np.testing.assert_array_equal(label_N, internal_N)
    assert result["external"]["num_predicted"] == len(test_rows)
    assert result["calibrated"]["temperature"] == pytest.approx(2)
    compared = json.loads((folder / "external.json").read_text())
    for name, (value, interval) in compared["external"]["scalars"].items():
        assert value == pytest.approx(result[name], abs=1e-9), name
        assert value == pytest.approx(compared["internal"]["scalars"][name][0], abs=1e-4)
        if interval:  # a share that all resamples agree on may have none
            assert interval[0] <= interval[1]
    assert compared["external"]["scalars"]["log_loss"][1]
    page = (folder / "external.md").read_text()
    assert "For research and education, not for diagnosis." in page
    n = len(test_rows)
    assert f"| Metric | Internal test, n={n} | External test, n={n} | Difference |" in page
    assert "Log loss (nats), calibrated" in page
    assert "Intervals are at 95 %" in page
    # The official table names no lesions.
    assert "Checked by id and picture. NOT CHECKED by lesion: the data names none\n" in page
    assert "lesion and picture" not in page
    for found in (compared, result["external"]):
        assert found["lesions_unchecked"] == "the data names none"
        assert found["num_without_lesion"] == n
    assert result["external"]["uncalibrated"] == ""
    assert (folder / "report.md").exists()


def test_what_was_trained_on_is_left_out_by_id(run, synthetic_dir, test_rows, monkeypatch):
    without_pictures(monkeypatch)
    test = selection.choose(run, trained.load(run), str(synthetic_dir), "", "")
    kept = {test.found.rows[place]["image_id"] for place in test.places}
    assert kept == {row["image_id"] for row in test_rows}
    assert list(test.counts()) == ["seen in training or validation"]


def test_other_images_of_a_lesion_and_copies_of_a_picture_are_left_out(
    run, synthetic_dir, test_rows, tmp_path
):
    everything = read_csv(synthetic_dir / "HAM10000_metadata.csv")
    tested = {row["image_id"] for row in test_rows}
    seen = next(row for row in everything if row["image_id"] not in tested)
    (tmp_path / "HAM10000_images_part_1").mkdir()
    rng = np.random.default_rng(0)
    new = rng.integers(0, 256, (3, 8, 8, 3), np.uint8)
    pictures = {
        "ISIC_0000001": cv2.resize(new[0], (64, 64)),  # of a lesion that was seen
        "ISIC_0000002": cv2.resize(new[1], (64, 64)),
        # Compressed anew, larger and under another name.
        "ISIC_0000003": images.resize(
            images.decode(find_image(synthetic_dir, seen["image_id"])), 80
        ),
    }
    lines = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    for name, picture in pictures.items():
        cv2.imwrite(str(tmp_path / "HAM10000_images_part_1" / f"{name}.jpg"), picture[:, :, ::-1])
        lesion = seen["lesion_id"] if name == "ISIC_0000001" else f"HAM_{name}"
        lines.append(f"{lesion},{name},nv,histo,50,male,back")
    (tmp_path / "HAM10000_metadata.csv").write_text("\n".join(lines) + "\n")
    test = selection.choose(run, trained.load(run), str(tmp_path), "", "")
    assert {test.found.rows[place]["image_id"]: why for place, why in test.reasons.items()} == {
        "ISIC_0000001": "seen in training or validation: another image of the lesion",
        "ISIC_0000003": "seen in training or validation: the same picture under another name",
    }


def test_ids_count_across_data_sets_only_where_they_are_isics():
    seen = [
        {"image_id": "ISIC_0000001_downsampled", "lesion_id": "BCN_0000001"},
        {"image_id": "IMG_1", "lesion_id": "1"},
    ]
    rows = [
        {"image_id": "ISIC_0000001.2", "lesion_id": "ISIC_0000001.2"},
        {"image_id": "IMG_1", "lesion_id": "IMG_1"},
        {"image_id": "x", "lesion_id": "BCN_0000001"},
        {"image_id": "y", "lesion_id": "1"},
        {"image_id": "ISIC_0000002", "lesion_id": "ISIC_0000002"},
    ]
    assert set(seen_images._by_names(seen, rows, same_layout=False)) == {0, 2}
    assert set(seen_images._by_names(seen, rows, same_layout=True)) == {0, 1, 2, 3}


def test_without_the_runs_records_it_says_that_nothing_was_checked(run, isic2018, tmp_path):
    prepared = run.parent / "prepared"
    prepared.rename(tmp_path / "elsewhere")
    try:
        test = selection.choose(run, trained.load(run), str(isic2018), "", "")
    finally:
        (tmp_path / "elsewhere").rename(prepared)
    assert "the run's prepared data set is not in" in test.unchecked
    assert not test.reasons
    assert any(line.startswith("NOT CHECKED") for line in test.lines())
    assert "not checked" in test.note()


def with_eight_classes(model: trained.TrainedModel) -> trained.TrainedModel:
    """The model with ISIC 2019's classes: squamous cell carcinoma gets weights of its own."""
    classes = labels.ISIC2019_CLASSES
    module = models.create(model.config.model, num_classes=8, axis_name=None)
    place = classes.index("scc")

    def grown(array: np.ndarray) -> np.ndarray:
        if array.shape[-1] != 7:
            return array
        return np.insert(array, place, 0.5 * array[..., 0] - 0.1, axis=-1)

    variables = jax.tree.map(lambda array: grown(np.asarray(array)), model.variables)
    return dataclasses.replace(model, classes=classes, module=module, variables=variables)


def test_eight_classes_are_tested_on_seven(run, isic2018, tmp_path, monkeypatch):
    without_pictures(monkeypatch)
    without_plots(monkeypatch)
    model = with_eight_classes(trained.load(run))
    shutil.copytree(run, tmp_path / "run")
    save_calibration(tmp_path / "run", model.classes)
    shutil.rmtree(tmp_path / "run" / "evaluation")
    monkeypatch.setattr(trained, "load", lambda *_: model)
    result = external.evaluate(tmp_path / "run", isic2018, name="x", num_resamples=0)
    folder = tmp_path / "run" / "evaluation" / "external_x"
    _, merged_NK, _, classes = read_predictions(folder / "predictions_external_x.csv")
    assert classes == HAM
    test = selection.choose(run, model, str(isic2018), "", "")
    probability_NC = external._predict(model, test, "none", 32)
    ak, scc, mel = (model.classes.index(name) for name in ("ak", "scc", "mel"))
    expected_N = probability_NC[:, ak] + probability_NC[:, scc]
    assert np.all(probability_NC[:, scc] > 0)
    np.testing.assert_allclose(merged_NK[:, 0], expected_N, atol=1e-6)
    np.testing.assert_allclose(merged_NK[:, HAM.index("mel")], probability_NC[:, mel], atol=1e-6)
    assert result["calibrated"] is None  # by classes that are not the model's
    assert result["external"]["uncalibrated"].startswith("classes of the model are added up")
    compared = json.loads((folder / "external.json").read_text())
    assert compared["internal"] is None
    assert "run `skinjax evaluate` first" in compared["internal_missing"]
    calibrated_NK = test.mapping.merged(
        calibration.load(tmp_path / "run", model.step, model.classes).apply(probability_NC)
    )
    label_N = read_predictions(folder / "predictions_external_x.csv")[2]
    expected = metrics.compute(calibrated_NK, label_N, HAM)["log_loss"]
    assert compared["external"]["calibrated"]["log_loss"][0] == pytest.approx(expected, abs=1e-5)
    page = (folder / "external.md").read_text()
    assert "Classes: akiec: the model's ak + scc are added up" in page
    assert "not in metrics.json: classes of the model are added up" in page
    assert "Intervals" not in page


def test_the_internal_test_is_shown_in_the_merged_classes(run, tmp_path):
    mapping = class_mapping.create(HAM, labels.BINARY_CLASSES)
    step = trained.load(run).step
    internal, missing = external_report.read_internal(run, "test", step, mapping, None)
    assert missing == ""
    _, probability_NC, label_N, _ = read_predictions(run / "evaluation/test/predictions_test.csv")
    malignant = [HAM.index(name) for name in ("akiec", "bcc", "mel")]
    np.testing.assert_allclose(
        internal.probability_NK[:, 1], probability_NC[:, malignant].sum(axis=1)
    )
    np.testing.assert_array_equal(internal.label_N == 1, np.isin(label_N, malignant))
    shown = external_report.assess(internal, mapping.classes, 0)
    assert shown["scalars"]["roc_auc"][0] is not None
    other, missing = external_report.read_internal(run, "test", step + 1, mapping, None)
    assert other is None
    assert "is not of the checkpoint at step" in missing


def test_folders_with_a_mapping_unknown_classes_and_broken_files(
    run, synthetic_dir, test_rows, tmp_path, monkeypatch
):
    without_pictures(monkeypatch)
    without_plots(monkeypatch)
    data = tmp_path / "hospital"
    names = {"nv": "mole", "mel": "melanoma malignum"}
    for row in test_rows:
        folder = data / names.get(row["label"], "other")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(find_image(synthetic_dir, row["image_id"]), folder)
    (data / "mole" / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    mapping = tmp_path / "classes.csv"
    rest = "".join(f"{name},\n" for name in HAM if name not in names)
    mapping.write_text(f"model_class,data_class\nnv,mole\nmel,melanoma malignum\n,other\n{rest}")
    with pytest.raises(InputError, match=r"none of the model's.*--mapping"):
        external.evaluate(run, data)
    external.evaluate(run, data, mapping=mapping, num_resamples=0)
    folder = run / "evaluation" / "external_hospital"
    rows, _, _, classes = read_predictions(folder / "predictions_external_hospital.csv")
    assert classes == HAM
    assert sorted(row["label"] for row in rows) == sorted(
        row["label"] for row in test_rows if row["label"] in names
    )
    left_out = read_csv(folder / "left_out.csv")
    reasons = {row["image_id"]: row["reason"] for row in left_out}
    assert reasons.pop("broken").startswith("can't be read: ")
    assert set(reasons.values()) == {"of a class that the model does not have: other"}
    assert len(rows) + len(left_out) == len(test_rows) + 1


def test_a_prepared_data_set_is_all_predicted_if_it_was_prepared_alike(
    run, synthetic_dir, tmp_path, monkeypatch
):
    model = trained.load(run)
    config = make_config(synthetic_dir, tmp_path)
    config.data.split_seed = 5
    prepared = builder.prepare(config)
    found = external_data.read(str(prepared.directory), "", model.config.data, model.preprocess)
    assert len(found.rows) == sum(map(sum, prepared.counts.values()))
    without_pictures(monkeypatch)
    test = selection.choose(run, model, str(prepared.directory), "", "")
    probability_NC = external._predict(model, test, "none", 8)
    _, internal_NC, _, _ = read_predictions(run / "evaluation" / "test" / "predictions_test.csv")
    order = [test.found.rows[place]["image_id"] for place in test.places]
    own = read_predictions(run / "evaluation" / "test" / "predictions_test.csv")[0]
    expected_NC = internal_NC[[[row["image_id"] for row in own].index(one) for one in order]]
    np.testing.assert_allclose(probability_NC, expected_NC, atol=1e-5)
    config.data.resize = "pad"
    other = builder.prepare(config)
    with pytest.raises(InputError, match=r"prepared with resize 'pad'.*needs 'squash'"):
        external_data.read(str(other.directory), "", model.config.data, model.preprocess)


def test_the_mean_over_views_is_that_of_the_images_laid_in_eight_ways(run, isic2018, monkeypatch):
    without_pictures(monkeypatch)
    model = trained.load(run)
    test = selection.choose(run, model, str(isic2018), "", "")
    runner = outputs.Runner(model)
    images_N = [one.image_HWC for one in test.found.prepared(runner, test.places)]
    expected_NC = np.zeros((len(images_N), 7))
    for turns, mirrored in itertools.product(range(4), (False, True)):
        laid = (np.rot90(one[:, ::-1] if mirrored else one, turns) for one in images_N)
        laid = (outputs.Prepared(None, np.ascontiguousarray(one)) for one in laid)
        said = itertools.chain.from_iterable(runner.batches(laid))
        expected_NC += softmax([one.logits_C for one in said], axis=1) / 8
    np.testing.assert_allclose(external._predict(model, test, "flips", 32), expected_NC, atol=1e-5)
    with pytest.raises(InputError, match="tta=both"):
        external.evaluate(run, isic2018, tta="both")


def test_the_mean_over_views_has_a_folder_of_its_own(run, isic2018, monkeypatch):
    without_pictures(monkeypatch)
    without_plots(monkeypatch)
    plain = external.evaluate(run, isic2018, name="v", num_resamples=0)
    result = external.evaluate(run, isic2018, name="v", tta="flips", num_resamples=0)
    evaluation = run / "evaluation"
    assert (plain["split"], result["split"]) == ("external_v", "external_v_flips")
    assert json.loads((evaluation / "external_v" / "metrics.json").read_text()) == plain
    assert (evaluation / "external_v_flips" / "predictions_external_v_flips.csv").exists()
    page = (evaluation / "external_v_flips" / "external.md").read_text()
    assert "run `skinjax evaluate --tta=flips` first" in page
    assert "not in metrics.json: the mean over views" in page
    assert "Intervals" not in page


def test_lesions_that_the_runs_table_names_are_left_out(
    run, synthetic_dir, test_rows, tmp_path, monkeypatch
):
    without_pictures(monkeypatch)
    everything = read_csv(synthetic_dir / "HAM10000_metadata.csv")
    tested = {row["image_id"] for row in test_rows}
    model = trained.load(run)
    raw = tmp_path / "raw"
    raw.mkdir()
    seen = next(row for row in everything if row["image_id"] not in tested)
    # Rows of the run's table without an image: of a lesion in training, and of another.
    (raw / "HAM10000_metadata.csv").write_text(
        f"lesion_id,image_id\n{seen['lesion_id']},ISIC_7000001\nHAM_7000002,ISIC_7000002\n"
    )
    model.config.data.raw_dir = str(raw)
    pictures = iter(sorted(synthetic_dir.glob("*/*.jpg")))
    names = {"melanoma": ("7000001", "7000003"), "nevus": ("7000002", "7000003", "7000004")}
    for folder, ids in names.items():
        (tmp_path / "isic9" / "Test" / folder).mkdir(parents=True)
        for name in ids:
            shutil.copy(next(pictures), tmp_path / f"isic9/Test/{folder}/ISIC_{name}.jpg")
    test = selection.choose(run, model, str(tmp_path / "isic9"), "", "")
    assert {test.found.rows[place]["image_id"]: why for place, why in test.reasons.items()} == {
        "ISIC_7000001": "seen in training or validation: another image of the lesion",
        "ISIC_7000003": "has two labels in the data: ISIC_7000003 is melanoma and nevus",
        "ISIC_7000003.2": "has two labels in the data: ISIC_7000003 is melanoma and nevus",
    }
    assert test.counts()["has two labels in the data"] == 2
    assert "Left out: 2 has two labels in the data" in test.lines()
    assert test.left_out_csv().count("has two labels") == 2
    assert any("NOT CHECKED by lesion: 3 of 5 images" in line for line in test.lines())
    assert test.note().endswith("; not all checked by lesion")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_resamples": -1}, "--num_resamples=-1 is negative"),
        ({"batch_size": -2}, "--batch_size=-2 is too small"),
    ],
)
def test_wrong_numbers_are_refused_before_anything_is_done(values, message, tmp_path):
    with pytest.raises(InputError, match=message):
        external.evaluate(tmp_path / "no_run", tmp_path, **values)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("a/HAM10000_metadata",), "ham10000"),
        (("ISIC2018_Task3_Test_GroundTruth/ISIC2018_Task3_Test_GroundTruth.csv",), "isic2018"),
        (("ISIC_2019_Training_GroundTruth.csv",), "isic2019"),
        (("a/b/ISIC_2019_Test_GroundTruth.csv",), "isic2019_test"),
        (("x/Train/melanoma/a.jpg", "x/Train/Vascular_lesion/b.jpg"), "isic9"),
        (("Train/cat/a.jpg", "Train/melanoma/b.jpg"), "folder"),
        (("mole/a.png", "melanoma/b.png"), "folder"),
    ],
)
def test_layouts_are_recognised(files, expected, tmp_path):
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert external_data._recognised(str(tmp_path)) == expected


def test_what_can_not_be_told_or_used_is_said(run, isic2018, synthetic_dir, tmp_path):
    both = f"{isic2018}{os.pathsep}{synthetic_dir}"
    with pytest.raises(InputError, match="--dataset which is meant, one of ham10000, isic2018"):
        external.evaluate(run, both)
    with pytest.raises(InputError, match="no known data set"):
        external.evaluate(run, tmp_path)
    with pytest.raises(InputError, match=r"no folder .*nowhere: give --data the folder"):
        external.evaluate(run, tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no folder .*nowhere: give --data the folder"):
        external.evaluate(run, f"{isic2018}{os.pathsep}{tmp_path / 'nowhere'}", name="x")
    with pytest.raises(InputError, match=r"--dataset=ham1000 is none of .*did you mean"):
        external.evaluate(run, isic2018, dataset="ham1000")
    with pytest.raises(InputError, match=r"--dataset=isic2017 is none of .*, isic2019_test, isic9"):
        external.evaluate(run, isic2018, dataset="isic2017")
    with pytest.raises(InputError, match=r"no Train or Test folder .*: set --data to the folder"):
        external.evaluate(run, isic2018, dataset="isic9")
    with pytest.raises(InputError, match="--name is empty"):
        external.evaluate(run, isic2018, name="/")
    everything = read_csv(synthetic_dir / "HAM10000_metadata.csv")
    tested = {row["image_id"] for row in read_csv(run / "evaluation/test/predictions_test.csv")}
    lines = (synthetic_dir / "HAM10000_metadata.csv").read_text().splitlines()
    seen = [row["image_id"] for row in everything if row["image_id"] not in tested][:3]
    (tmp_path / "HAM10000_images_part_1").mkdir()
    for name in seen:
        shutil.copy(find_image(synthetic_dir, name), tmp_path / "HAM10000_images_part_1")
    (tmp_path / "HAM10000_metadata.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"no image of .* is left.*3 seen in training"):
        external.evaluate(run, tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ISIC 2018", "ISIC_2018"), ("../../x", "x"), ("a/b", "a_b"), ("é!", ""), (".", "")],
)
def test_names_of_folders_stay_inside(name, expected):
    if expected:
        assert external._checked_name(name) == expected
    else:
        with pytest.raises(InputError, match="--name"):
            external._checked_name(name)


def submit(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    submit_verb.add_flags(parser)
    submit_verb.run(parser.parse_args(arguments), [])


def test_a_run_submits_to_the_challenge(run, isic2018, tmp_path, capsys):
    one = challenge.get("isic2018")
    folder = isic2018 / "ISIC2018_Task3_Test_Input"
    output = tmp_path / "new" / "sent.csv"
    flags = (f"--workdir={run}", "--challenge=isic2018", f"--output={output}")
    submit(*flags, "--images", str(folder))
    sent = challenge.read_submission(output, one)
    rows, internal_NC, _, _ = read_predictions(run / "evaluation/test/predictions_test.csv")
    calibrated_NC = Calibration("temperature", (0.5,) * 7, (0.0,) * 7).apply(internal_NC)
    np.testing.assert_allclose(
        sent.confidence_NK[:, one.columns.index("DF")], calibrated_NC[:, HAM.index("df")], atol=1e-5
    )
    assert sent.image_ids[-1] == f"ISIC_{34524 + len(rows) - 1:07d}"
    said = capsys.readouterr().out
    assert f"ISIC 2018 Task 3: {len(rows)} images in {output}" in said
    assert "For research and education, not for diagnosis." in said
    before = output.read_text()
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1 of 2 images can't be predicted.*broken"):
        submit(*flags, "--images", str(tmp_path / "broken.jpg"), str(folder / "ISIC_0034524.jpg"))
    with pytest.raises(InputError, match="have one id, ISIC_0034524"):
        submit(*flags, "--images", str(folder), str(folder / "ISIC_0034524.jpg"))
    with pytest.raises(InputError, match="akiec is ak and scc in ISIC 2019"):
        submit(f"--workdir={run}", "--challenge=isic2019", flags[2], "--images", str(folder))
    assert output.read_text() == before
