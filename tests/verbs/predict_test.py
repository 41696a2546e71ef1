"""Tests of the verb `predict`: what a user types, and what comes back when it is wrong."""

import argparse
import csv
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from skinjax import console, trained
from skinjax.config import default_config
from skinjax.data import images
from skinjax.data.preprocess import Preprocess
from skinjax.errors import InputError, StoppedError
from skinjax.models import create
from skinjax.predict import Predictor, image_files
from skinjax.trained import TrainedModel
from skinjax.verbs import predict


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainedModel:
    """A model with random weights in place of any checkpoint."""
    config = default_config()
    config.data.image_size = 16
    config.normalize.update(mean=(0.5,) * 3, std=(0.2,) * 3)
    config.model.name = "simple_cnn"
    config.model.head = ()
    classes = ("mel", "nv")
    module = create(config.model, num_classes=2, axis_name=None)
    init = jax.jit(lambda key, image: module.init(key, image, train=False))
    variables = jax.device_get(init(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32)))
    made = TrainedModel(
        workdir=tmp_path / "run",
        step=1,
        epoch=1.0,
        fingerprint="",
        config=config,
        classes=classes,
        module=module,
        variables=variables,
        preprocess=Preprocess.from_config(config.data),
        encoder=None,
    )
    monkeypatch.setattr(trained, "load", lambda *_: made)
    monkeypatch.setattr("skinjax.parallel.initialize", lambda _: None)
    return made


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "scans").mkdir()
    for name in "abc":
        image_HWC = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        (tmp_path / "scans" / f"{name}.png").write_bytes(images.encode_png(image_HWC))
    (tmp_path / "scans" / "bad.jpg").write_text("no image")
    return tmp_path / "scans"


def run(*argv: str) -> None:
    """As the command line does."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    predict.add_flags(parser)
    predict.run(*parser.parse_known_args(argv))


def test_a_folder_becomes_a_table(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "out.csv"
    run("--workdir=run", f"--images={scans}", f"--output={output}")
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["image"]).name for row in rows] == ["a.png", "b.png", "bad.jpg", "c.png"]
    assert [bool(row["error"]) for row in rows] == [False, False, True, False]
    expected = Predictor("run").predict(scans / "c.png").probabilities
    assert float(rows[3]["prob_mel"]) == pytest.approx(expected["mel"], abs=1e-6)
    printed = capsys.readouterr().out
    assert "predicted 3 of 4 images in" in printed
    assert "errors: 1 images" in printed
    assert "not calibrated" in printed
    assert "not for diagnosis" in printed


def test_nothing_that_could_be_predicted_fails(scans: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    with pytest.raises(InputError, match="none of 2 images could be predicted"):
        run("--workdir=run", "--images", *[f"{scans}/bad.jpg"] * 2, f"--output={output}")
    assert output.read_text().count("bad.jpg: neither a JPEG nor a PNG") == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--images={scans}", "more.jpg", "--output=o.csv"), "does not know more.jpg; several"),
        (("--images={scans}", "--output=o.csv", "--bach_size=3"), "did you mean --batch_size"),
        (("--images={scans}", "--output=o.csv", "--batch_size=0"), "--batch_size=0; expected"),
        (("--images={scans}", "--output={scans}"), "is a folder"),
        (("--images={scans}/none", "--output=o.csv"), "there is no file or folder"),
        (("--images={scans}", "--output=o.csv", "--metadata=p.csv"), "takes no patient metadata"),
    ],
)
def test_wrong_commands(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        run("--workdir=run", *(one.format(scans=scans) for one in argv))
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.parametrize(
    ("error", "signum"),
    [(KeyboardInterrupt, signal.SIGINT), (console.Terminated, signal.SIGTERM)],
)
def test_what_was_predicted_before_an_interrupt_is_kept(
    scans: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    signum: int,
) -> None:
    def interrupted(names: object) -> Iterator[Path]:
        yield from [scans / "a.png"] * 40
        raise error

    monkeypatch.setattr(image_files, "find", interrupted)
    output = tmp_path / "out.csv"
    with pytest.raises(StoppedError, match=r"predictions are kept in .*out\.partial\.csv") as kept:
        run("--workdir=run", "--images=x", f"--output={output}", "--batch_size=8")
    assert kept.value.signum == signum
    assert not output.exists()
    num_kept = (tmp_path / "out.partial.csv").read_text().count("a.png")
    assert 0 < num_kept <= 40
    assert f"; {num_kept} predictions" in str(kept.value)
