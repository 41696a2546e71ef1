"""Tests of the command line: what a user types, and what comes back when it is wrong."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from skinjax import config as config_lib
from skinjax.data import images
from skinjax.data.prepared import open_prepared
from skinjax.main import main


@pytest.fixture
def config_file(config: ConfigDict, tmp_path: Path) -> str:
    """The tiny config as a file, as a user would have it."""
    (tmp_path / "tiny.json").write_text(config_lib.to_json(config))
    file = tmp_path / "tiny.py"
    file.write_text(
        "from skinjax.config import load_config\n"
        f"def get_config():\n    return load_config({str(tmp_path / 'tiny.json')!r})\n"
    )
    return str(file)


def fails(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Runs a command that must fail with exit code 1 and one line; returns the line."""
    assert main(argv) == 1
    printed = capsys.readouterr().err.strip().splitlines()
    lines = [line for line in printed if line.startswith("skinjax: ")]
    assert len(lines) == 1
    assert "Traceback" not in "\n".join(printed)
    return lines[0]


def test_train_then_evaluate(
    config_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main([f"--config={config_file}", f"--workdir={run}", "--config.epochs=1"]) == 0
    assert json.loads((run / "config.json").read_text())["epochs"] == 1
    assert main(["evaluate", f"--workdir={run}"]) == 0
    directory = run / "evaluation" / "test"
    with (directory / "predictions_test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert json.loads((directory / "metrics.json").read_text())["num_examples"] == len(rows)
    assert len({row["image_id"] for row in rows}) == len(rows)
    assert "not for diagnosis" in capsys.readouterr().out
    assert main(["evaluate", f"--workdir={run}", "--list"]) == 0
    assert "epoch 1.00, balanced_accuracy" in capsys.readouterr().out
    assert "none of best, latest" in fails(capsys, "evaluate", f"--workdir={run}", "--checkpoint=9")
    assert "none of train, val, test" in fails(capsys, "evaluate", f"--workdir={run}", "--split=x")
    assert "of another config (epochs: 2 here, 1 there)" in fails(
        capsys, f"--config={config_file}", f"--workdir={run}"
    )


def test_a_run_on_all_splits_is_not_evaluated(
    config_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config.epochs=1", "--config.data.train_on=all"]
    assert main(["train", f"--config={config_file}", f"--workdir={tmp_path}/run", *arguments]) == 0
    assert "trained on every split" in fails(capsys, "evaluate", f"--workdir={tmp_path}/run")


def test_dry_run_says_what_would_be_done(
    config_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", f"--config={config_file}", "--dry_run"]) == 0
    printed = capsys.readouterr().out
    assert "--config.optimizer.learning_rate=0.001" in printed
    assert "conv1" in printed
    assert "51,264" in printed  # parameters of the second convolution
    assert "2 epochs of" in printed
    assert "MiB" in printed
    arguments = ["train", f"--config={config_file}", "--dry_run", "--config.batch_size=100000"]
    assert "larger than the" in fails(capsys, *arguments)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.optimizer.learning_rat=1", "did you mean optimizer.learning_rate?"),
        ("--config.epochs=two", "config.epochs=two"),
        ("--config.model.name=resnet19", "resnet18"),
        ("--config.data.raw_dir=/nowhere", "/nowhere"),
        ("--config.loss.name=hinge", "cross_entropy, focal"),
        ("--config.augment.crop_scale=(0.0,1.0)", "augment.crop_scale"),
        ("--config.checkpoint.metric=auc", "macro_roc_auc"),
        ("--config.batch_size=100000", "batch_size"),
        ("--config.model.head=(('dens',16),)", "dense"),
        ("--config.loss.focal_alpha=(1.0,2.0)", "one for each of the 7 classes"),
        ("--config.phases=(('head',),)", "phases are described in the config file"),
        ("--config.optimizer.eps=-1.0", "optimizer.eps"),
        ("--config.data.num_threads=-1", "num_threads"),
        ("--confg.epochs=1", "unknown argument --confg.epochs=1"),
    ],
)
def test_a_wrong_argument_is_one_line_and_leaves_nothing(
    config_file: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    argument: str,
    message: str,
) -> None:
    line = fails(capsys, f"--config={config_file}", f"--workdir={tmp_path}/run", argument)
    assert message in line
    assert not (tmp_path / "run").exists()


def test_missing_things_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no file" in fails(capsys, "--config=missing.py", "--workdir=x")
    assert "is not a work directory" in fails(capsys, "evaluate", f"--workdir={tmp_path}")
    assert "--workdir; see skinjax evaluate --help" in fails(capsys, "evaluate")
    assert "invalid choice: 'evalute'" in fails(capsys, "evalute")
    assert "--config; see skinjax train --help" in fails(capsys)


def write_hospital(folder: Path) -> Path:
    """Two classes in a table of a hospital's own: 24 images of 12 patients."""
    (folder / "photos").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["file;diagnosis;patient;years"]
    for number in range(24):
        image_HWC = rng.integers(0, 256, (40, 48, 3), np.uint8)
        (folder / "photos" / f"img{number}.png").write_bytes(images.encode_png(image_HWC))
        lines.append(
            f"img{number}.png;{'naevus' if number % 4 < 2 else 'melanoma'};P{number // 2};50"
        )
    (folder / "diagnoses.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_table_of_ones_own_is_prepared_explored_trained_and_evaluated(
    config_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_hospital(tmp_path / "hospital")
    command = [
        "prepare", "--dataset=csv", "--raw_dir", str(tmp_path / "hospital" / "photos"), str(raw),
        f"--out={tmp_path / 'prepared'}", f"--table={raw / 'diagnoses.csv'}",
        "--image_column=file", "--label_column=diagnosis", "--patient_column=patient",
        "--age_column=years", "--config.data.image_size=16",
    ]  # fmt: skip
    assert main(command) == 0
    printed = capsys.readouterr().out
    prepared = open_prepared(tmp_path / "prepared")
    assert f"prepared: {prepared.directory}" in printed
    assert prepared.classes == ("melanoma", "naevus")
    rows = [row for split in prepared.counts for row in prepared.table(split)]
    assert len(rows) == 24
    splits_of_patient: dict[str, set[str]] = {}
    for row in rows:
        splits_of_patient.setdefault(row["patient_id"], set()).add(row["split"])
    assert [len(of_patient) for of_patient in splits_of_patient.values()] == [1] * 12

    assert main(["explore", f"--data={tmp_path / 'prepared'}"]) == 0
    page = Path(capsys.readouterr().out.splitlines()[0].removeprefix("page: "))
    assert page.parent == prepared.directory / "explore"
    assert "melanoma" in page.read_text()

    (raw / "diagnoses.csv").unlink()  # training needs the prepared folder alone
    run = tmp_path / "run"
    command = [
        "train", f"--config={config_file}", f"--workdir={run}", "--config.epochs=1",
        "--config.batch_size=8", f"--config.data.directory={tmp_path / 'prepared'}",
        "--config.data.balance=1.0", "--config.data.cache",
    ]  # fmt: skip
    assert main(command) == 0
    kept = json.loads((run / "config.json").read_text())["data"]
    assert (kept["dataset"], kept["image_size"], kept["balance"]) == ("csv", 16, 1.0)
    moved = tmp_path / "moved"
    shutil.move(tmp_path / "prepared", moved)
    assert "no prepared data set" in fails(capsys, "evaluate", f"--workdir={run}")
    assert main(["evaluate", f"--workdir={run}", f"--data={moved}"]) == 0


def test_explore_with_a_config_adds_a_page_of_augmented_samples(
    config_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", f"--config={config_file}", f"--out={tmp_path / 'pages'}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    pages = [Path(line.removeprefix("page: ")) for line in printed if line.startswith("page: ")]
    assert len(pages) == 2
    assert all(page.stat().st_size > 10_000 for page in pages)
    assert "not for diagnosis" in printed[-1]


def test_wrong_flags_of_the_data_verbs_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"--out={tmp_path / 'out'}"
    assert "prepare needs --dataset=NAME" in fails(capsys, "prepare", out)
    assert "did you mean isic2019" in fails(capsys, "prepare", "--dataset=isic2020", out)
    raw = "--raw_dir=/nowhere"
    assert "/nowhere" in fails(capsys, "prepare", "--dataset=isic9", raw, out)
    line = fails(capsys, "prepare", "--dataset=ham10000", out, "--config.data.image_siz=3")
    assert "did you mean data.image_size?" in line
    assert "--beam_option needs" in fails(
        capsys, "prepare", "--dataset=ham10000", "--beam_option=--x=1", out
    )
    line = fails(capsys, "prepare", "--dataset=ham10000", out, "--image_size=64")
    assert "did you mean --config.data.image_size?" in line
    assert "as --raw_dir A B" in fails(capsys, "prepare", "--dataset=isic9", "--raw_dir=a", "b")
    assert "did you mean --raw_dir?" in fails(capsys, "prepare", "--rawdir=a")
    assert "explore needs --data" in fails(capsys, "explore")
    assert "no prepared data set" in fails(capsys, "explore", f"--data={tmp_path}")
    assert "does not know --split=x" in fails(capsys, "explore", f"--data={tmp_path}", "--split=x")
    assert "isic2019" in fails(capsys, "download", "--dataset=isic2020", out)
    assert "--dataset" in fails(capsys, "download", out)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "verb", [[], ["train"], ["evaluate"], ["prepare"], ["explore"], ["download"]]
)
def test_help(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*verb, "--help"])
    assert caught.value.code == 0
    assert "not for diagnosis" in " ".join(capsys.readouterr().out.split())


def test_importing_what_is_no_keras_model_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", f"--keras={tmp_path}/none.h5", f"--out={tmp_path}/out"]) == 1
    assert "there is no such file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_here_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config=configs/effnet.py", f"--workdir={tmp_path}/run"]
    weights = f"--config.model.pretrained={tmp_path}/weights.pth"
    assert main(["train", *arguments, weights]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "weights.pth is a pickle by its name" in line
