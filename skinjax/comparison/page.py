"""A comparison as a page, as Markdown, as JSON, and one plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skinjax import logs, plots
from skinjax.metrics import DIRECTIONS
from skinjax.plots import comparison as comparison_plots
from skinjax.report import document, figures
from skinjax.report.document import NOT_AVAILABLE, Note, Picture, Section, Text, table
from skinjax.report.sections import NAMES, number, with_interval

PAGE, CARD, FIGURES, PLOT = "comparison.html", "comparison.md", "comparison.json", "comparison.png"
_MANY = ("balanced_accuracy", "accuracy", "macro_roc_auc", "macro_f1")
_TWO = ("balanced_accuracy", "roc_auc", "pr_auc", "sensitivity_at_90_specificity")
_CALIBRATION = ("log_loss", "expected_calibration_error")
_TWICE = ("macro_recall", "weighted_recall")  # other names of balanced accuracy and accuracy


def write(result: Mapping[str, Any], split: str, output: Path | str) -> list[Path]:
    """Writes what `compare` returned into a folder, made if missing.

    Returns:
      The paths of comparison.html (which needs no other file), comparison.md, comparison.json and
      comparison.png.

    Raises:
      OSError: a file can't be written.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    names = [run["name"] for run in result["runs"]]
    title = f"Comparison of {len(names)} runs"
    caption = f"{title}, split: {split}, n={result['num_examples']}; 95 % intervals"
    png = figures.png(_figure(result, names, caption))
    sections = _sections(result, split)
    logs.write_json(output / FIGURES, {"split": split, **result})
    logs.write_bytes(output / PLOT, png)
    logs.write_text(output / PAGE, document.to_html(title, sections, {PLOT: png}))
    logs.write_text(output / CARD, document.to_markdown(title, sections))
    return [output / name for name in (PAGE, CARD, FIGURES, PLOT)]


def _figure(result: Mapping[str, Any], names: Sequence[str], caption: str) -> Any:
    shown = (*(_TWO if len(result["classes"]) == 2 else _MANY), *_CALIBRATION)
    panels = [
        (
            NAMES[name].split(" (")[0]
            + "\n(before calibration; lower is better)" * (DIRECTIONS[name] == "min"),
            [run["metrics"][name] for run in result["runs"]],
            [run["intervals"][name] for run in result["runs"]],
        )
        for name in shown
    ]
    groups = [[names.index(name) for name in group["runs"]] for group in result["seed_groups"]]
    return comparison_plots.intervals(panels, names, groups, caption=caption)


def _sections(result: Mapping[str, Any], split: str) -> list[Section]:
    """The page, from what matters most to how it came about."""
    first = result["runs"][0]["name"]
    about = (
        f"{result['num_examples']} images of {result['num_lesions']} lesions, split {split},"
        f" {len(result['classes'])} classes: {', '.join(result['classes'])}."
    )
    picture = Picture(PLOT, "Metrics of the runs with their intervals")
    legend = Note(
        f"Dotted: the value of {first}. Log loss and calibration error: before calibration."
        + (" Grey: the mean of runs that differ only in the seed." * bool(result["seed_groups"]))
    )
    sections = [
        Section("Overview", (Text(f"{plots.DISCLAIMER} {about}"), picture, legend)),
        _runs(result),
    ]
    sections += [_seeds(group, index) for index, group in enumerate(result["seed_groups"], 1)]
    return [*sections, _metrics(result), *_tests(result, first)]


def _runs(result: Mapping[str, Any]) -> Section:
    """Which runs these are, and in what they differ."""
    rows = [
        [run["name"], _plain(run["seed"]), run["checkpoint"] or NOT_AVAILABLE, run["directory"]]
        for run in result["runs"]
    ]
    parts: list[Any] = [table(["Run", "Seed", "Checkpoint", "Evaluation"], rows)]
    if result["settings"]:
        head = ["Setting", *(run["name"] for run in result["runs"])]
        settings = [[n, *map(_plain, values)] for n, values in result["settings"].items()]
        parts += [Text("Settings in which they differ:"), table(head, settings)]
    else:
        parts.append(Text("Their settings are the same, as far as they are known."))
    return Section("Runs", tuple(parts))


def _metrics(result: Mapping[str, Any]) -> Section:
    """Every metric of every run."""
    runs = result["runs"]
    rows = [
        [
            NAMES[name],
            *(with_interval(one["metrics"][name], one["intervals"][name]) for one in runs),
        ]
        for name in _shown(result)
    ]
    note = Note(
        f"In brackets: 95 % bootstrap intervals of {result['num_resamples']:,} resamples of lesions"
        f" (class counts kept; seed {result['seed']}), the same for all runs. They tell how much"
        " the figures would vary with other test images, not with another training run. All figures"
        " are of the probabilities before calibration, log loss, Brier score and calibration errors"
        " too. A mean over classes of which one has a single lesion has no interval, nor has the"
        " maximum calibration error."
    )
    return Section("Metrics", (table(["Metric", *_names(result)], rows), note))


def _tests(result: Mapping[str, Any], first: str) -> list[Section]:
    """Every run but the first against the first."""
    tests = result["tests"]
    head = [test["run"] for test in tests]
    differences = [
        [NAMES[name], *(_tested(test["differences"][name]) for test in tests)]
        for name in _shown(result)
    ]
    recall = [
        [name, *(_tested(test["recall"][name]) for test in tests)] for name in result["classes"]
    ]
    areas = [
        [name, *(_delong(test["delong"][name]) for test in tests)] for name in tests[0]["delong"]
    ]
    mcnemar = [
        [test["run"], str(counts["only_run"]), str(counts["only_first"]), _p(counts["p"])]
        for test in tests
        for counts in [test["mcnemar"]]
    ]
    num_tests = sum(
        found is not None and found["p"] is not None
        for test in tests
        for found in (
            *(test["differences"][name] for name in _shown(result)),
            *test["recall"].values(),
            *test["delong"].values(),
            test["mcnemar"],
        )
    )
    how = Note(
        f"Each run less {first}, on the same images. Bootstrap: resamples of lesions that both runs"
        " share; p is for no difference, of both sides; of accuracy, balanced accuracy and recall"
        " it is the larger of the bootstrap's and of a test that swaps the models lesion by lesion"
        " (the exact sign test where lesions count alike), since a few lesions that only one has"
        " right prove little. Differences of calibration errors, Brier score and log loss are"
        f" better below 0. The p-values of this page, {num_tests}, are not adjusted for their"
        " number: of as many without any difference, one in twenty is below 0.05."
    )
    return [
        Section(f"Differences to {first}", (table(["Metric", *head], differences), how)),
        Section("Recall by class", (table(["Class", *head], recall),)),
        Section(
            "ROC-AUC by class",
            (
                table(["Class", *head], areas),
                Note(
                    "Difference and standard error by DeLong's method, with the images of a lesion"
                    " as one cluster (Obuchowski 1997)."
                ),
            ),
        ),
        Section(
            "Accuracy, McNemar's test",
            (
                table(["Run", "Only it is right", f"Only {first} is right", "p"], mcnemar),
                Note("Exact. It takes images as independent, also those of one lesion."),
            ),
        ),
    ]


def _seeds(group: Mapping[str, Any], index: int) -> Section:
    """Runs that differ only in the seed."""
    keys = ("mean", "standard_deviation", "lowest", "highest")
    rows = [
        [NAMES[name], *(number(over[key]) for key in keys)]
        for name, over in group["metrics"].items()
        if over is not None and name not in _TWICE
    ]
    text = f"{', '.join(group['runs'])} (seeds {', '.join(map(_plain, group['seeds']))})."
    return Section(
        f"Runs that differ only in the seed, group {index}",
        (Text(text), table(["Metric", "Mean", "Standard deviation", "Lowest", "Highest"], rows)),
    )


def _shown(result: Mapping[str, Any]) -> list[str]:
    """The metrics that a run has, in the order of their names."""
    runs = result["runs"]
    return [
        name
        for name in NAMES
        if name not in _TWICE and any(run["metrics"].get(name) is not None for run in runs)
    ]


def _names(result: Mapping[str, Any]) -> list[str]:
    return [run["name"] for run in result["runs"]]


def _tested(found: Mapping[str, float] | None) -> str:
    if found is None:
        return NOT_AVAILABLE
    bounds = f"{found['low']:+.3f} to {found['high']:+.3f}"
    return f"{found['difference']:+.3f} ({bounds}), p {_p(found['p'])}"


def _delong(found: Mapping[str, float | None] | None) -> str:
    if found is None:
        return NOT_AVAILABLE
    return f"{found['difference']:+.3f} ± {found['standard_error']:.3f}, p {_p(found['p'])}"


def _p(p: float | None) -> str:
    if p is None:
        return NOT_AVAILABLE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _plain(value: Any) -> str:
    """A setting as text, not too long for a cell."""
    text = "" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
