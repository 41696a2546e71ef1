"""Tests of what a search leaves behind, from a study with made-up trials; and of the verb."""

import csv
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from PIL import Image

from skinjax import config as config_lib
from skinjax import config_file
from skinjax.config import default_config
from skinjax.main import main
from skinjax.tune import choice, integer, log_uniform, report, uniform
from skinjax.tune.study import Study
from skinjax.tune.workers import Worker

SPACE = {
    "optimizer.learning_rate": log_uniform(1e-4, 1e-1),
    "augment.mixup_alpha": uniform(0, 0.4),
    "batch_size": integer(8, 64, log=True),
    "model.head": choice((), (("dropout", 0.5),)),
}


def made_up(directory: Path, values: list[float]) -> Study:
    """A study whose first trial fails, whose second is pruned, and whose others have values."""
    study = Study(
        Worker(directory / "workers"), default_config(), SPACE, sampler="random", pruner="none",
        seed=0, total=len(values) + 2, storage=f"sqlite:///{directory}/study.db", name="lesions",
    )  # fmt: skip
    for number, value in enumerate([None, None, *values]):
        trial = study.next_trial()
        assert trial is not None
        if number == 0:
            study.note(number, error="it | burst")
            study.optuna.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif number == 1:
            trial.report(0.125, 1)
            study.optuna.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.note(number, step=10 * number, epoch=float(number), seconds=60.0)
            study.optuna.tell(trial, value)
    return study


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("search")
    lines = report.write(made_up(directory, [0.5, 0.7, 0.6, 0.4, 0.3, 0.3, 0.2, 0.1]), directory)
    assert "10 of 10 trials (8 completed, 1 pruned, 1 failed); the best is trial 3" in lines[0]
    assert f"--config={directory / 'best_config.py'}" in lines[-1]
    return directory


def test_the_table_has_every_trial(written: Path) -> None:
    with (written / "trials.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["trial"] for row in rows] == list("0123456789")
    assert [row["state"] for row in rows] == ["failed", "pruned", *["completed"] * 8]
    values = [row["balanced_accuracy"] for row in rows]
    assert values == ["", "0.125", "0.5", "0.7", "0.6", "0.4", "0.3", "0.3", "0.2", "0.1"]
    assert rows[0]["error"] == "it | burst"
    assert all(1e-4 <= float(row["optimizer.learning_rate"]) <= 1e-1 for row in rows)


def test_the_page_says_how_far_to_trust_it(written: Path) -> None:
    page = (written / "report.md").read_text()
    assert "higher is better" in page
    assert "optimistic: it is the largest of 8 trials'" in page
    assert "The test split was not touched" in page
    assert "trial 3 with 0.7000, at step 30 (epoch 3)" in page
    assert "- 0: it | burst" in page
    lines = page.splitlines()
    trials = [line.split(" | ")[0] for line in lines[lines.index("## Best trials") + 4 :]]
    assert trials[:4] == ["| 3", "| 4", "| 2", "| 5"]
    for name in ("history.png", "parameters.png", "importance.png"):
        assert f"({name})" in page
        with Image.open(written / name) as image:
            assert len(np.unique(np.asarray(image.convert("L")))) > 10


def test_the_best_config_is_that_of_the_best_trial(written: Path) -> None:
    with (written / "trials.csv").open(newline="") as table:
        best = list(csv.DictReader(table))[3]
    expected = default_config()
    expected.optimizer.learning_rate = float(best["optimizer.learning_rate"])
    expected.augment.mixup_alpha = float(best["augment.mixup_alpha"])
    expected.batch_size = int(best["batch_size"])
    expected.model.head = {"()": (), "(('dropout', 0.5),)": (("dropout", 0.5),)}[best["model.head"]]
    loaded = config_file.load(str(written / "best_config.py"), [])
    assert config_lib.differences(loaded, expected) == []
    assert loaded.model.head == expected.model.head
    source = (written / "best_config.py").read_text()
    assert all(f"config.{name} = " in source for name in SPACE)
    assert str(written) not in source


def test_without_a_completed_trial_there_is_only_the_table(tmp_path: Path) -> None:
    lines = report.write(made_up(tmp_path, []), tmp_path)
    assert "2 of 2 trials (1 pruned, 1 failed): none is completed" in lines[0]
    assert not (tmp_path / "best_config.py").exists()
    lines = report.write(made_up(tmp_path / "one", [0.5]), tmp_path / "one")
    assert "Importance needs" in (tmp_path / "one" / "report.md").read_text()


def test_the_verb_says_what_is_wrong_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "experiment.py"

    def fails(*flags: str) -> str:
        assert main(["tune", f"--config={file}", f"--workdir={tmp_path / 'run'}", *flags]) == 1
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    head = "from skinjax.config import default_config as get_config\n"
    file.write_text(head)
    assert "experiment.py has no get_search_space()" in fails()
    file.write_text(head + "def get_search_space():\n    return {'seeds': 1}\n")
    assert "seeds is no field of the config; did you mean seed?" in fails()
    assert "invalid int value: 'many'" in fails("--trials=many")
    assert "did you mean --trials?" in fails("--trails=3")
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "Optuna is not installed: pip install 'skinjax[tune]'" in fails()
