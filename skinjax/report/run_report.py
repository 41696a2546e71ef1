"""The report on a trained model: a page, a model card, and the figures in them as JSON."""

from pathlib import Path

from matplotlib.figure import Figure

from skinjax import logs, plots, threshold
from skinjax.plots import calibration as calibration_plots
from skinjax.plots import threshold as threshold_plots
from skinjax.report import (
    document,
    figures,
    history,
    model_card,
    run_sections,
    sections,
    training_sections,
)
from skinjax.report.document import Items, Picture, Section, Text
from skinjax.report.run import Run, of_tables, of_workdir
from skinjax.threshold import operating_point as operating_point_lib

PAGE, CARD, FIGURES = "report.html", "model_card.md", "report.json"
_THRESHOLD = "threshold.png"
_HISTORY = "history.png"


def write_run(
    workdir: Path | str,
    *,
    split: str = "test",
    output: Path | str | None = None,
    num_resamples: int = 2000,
) -> list[Path]:
    """Writes the report on the model of a work directory, of what verbs have left there.

    Args:
      workdir: that was trained, and evaluated on `split`.
      split: that the figures are of.
      output: folder, made if missing; the work directory's `report` if None.
      num_resamples: of the bootstrap; 0 for no intervals.

    Returns:
      The paths of report.html (which needs no other file), model_card.md and report.json.

    Raises:
      InputError: the split is not evaluated, or a file is broken.
    """
    workdir = Path(workdir)
    run = of_workdir(workdir, split, num_resamples=num_resamples)
    return _write(run, Path(output or workdir / "report"))


def write_predictions_report(
    folder: Path | str,
    *,
    split: str = "test",
    output: Path | str | None = None,
    num_resamples: int = 2000,
    method: str = "temperature",
) -> list[Path]:
    """As `write_run`, of a folder that has predictions_<split>.csv (and predictions_val.csv) only.

    Metrics, intervals, calibration by the same `method` and subgroups are the same figures; what
    needs more than predictions is "not available".

    Raises:
      InputError: there is no such table, it is broken, or the method can't be fitted.
    """
    folder = Path(folder)
    run = of_tables(folder, split, num_resamples=num_resamples, method=method)
    return _write(run, Path(output or folder / "report"))


def _write(run: Run, out: Path) -> list[Path]:
    heading = [run.title, f"split: {run.main.split}, n={len(run.main.label_N)}"]
    heading += [f"checkpoint: {run.main.checkpoint}"] if run.main.checkpoint else []
    drawn = _figures(run, heading)
    png = {name: figures.png(figure) for name, figure in drawn.items()}
    out.mkdir(parents=True, exist_ok=True)
    results = {one.split: one.result for one in (run.main, run.val) if one is not None}
    logs.write_json(out / FIGURES, results)
    logs.write_text(
        out / PAGE, document.to_html(f"Report: {run.title}", _sections(run, set(png)), png)
    )
    logs.write_text(out / CARD, model_card.card(run))
    return [out / PAGE, out / CARD, out / FIGURES]


def _figures(run: Run, heading: list[str]) -> dict[str, Figure]:
    """Every figure of the page by name."""
    caption = "\n".join(heading)
    drawn = figures.of_evaluation(run.main, heading)
    if run.val is not None:
        panels = [
            *figures.panels(run.val, "validation, "),
            *figures.panels(run.main, f"{run.main.split}, "),
        ]
        drawn["reliability.png"] = calibration_plots.reliability(panels, caption)
    if run.threshold is not None:
        drawn[_THRESHOLD] = _threshold_figure(run, caption)
    training = None if run.history is None else history.draw(run.history, title=run.title)
    return drawn | ({_HISTORY: training} if training else {})


def _threshold_figure(run: Run, caption: str) -> Figure:
    chosen = run.threshold
    assert chosen is not None
    tables = {"val": run.val, run.main.split: run.main}
    curves = {}
    for split, one in tables.items():
        if one is not None and len(one.label_N):
            positive_C = [one.classes.index(name) for name in chosen.positive]
            table_NC = one.probability_NC if one.calibrated_NC is None else one.calibrated_NC
            curves[split] = operating_point_lib.curve(
                chosen.score(table_NC, one.classes), (one.label_N[:, None] == positive_C).any(1)
            )
    points = {"val": chosen.val} | ({"test": chosen.test} if chosen.test else {})
    score = f"probability of {threshold.in_words(chosen.positive)}"
    return threshold_plots.operating_curves(
        curves, points, chosen.threshold, score=score, caption=caption
    )


def _sections(run: Run, drawn: set[str]) -> list[Section]:
    """The page, from what matters most to how it came about."""
    titles = figures.TITLES | {_THRESHOLD: "Decision threshold", _HISTORY: "Training history"}
    picture = {name: Picture(name, titles[name]) for name in titles if name in drawn}
    result = run.main.result
    main = sections.main_metrics(result)
    classes = sections.per_class(result)
    beside = [
        picture[name]
        for name in ("confusion_matrix.png", "confusion_matrix_counts.png", "per_class.png")
    ]
    curves = [picture[name] for name in ("roc_curves.png", "pr_curves.png")]
    calibration = sections.calibration(result, picture["reliability.png"])
    return [
        Section("Summary", (Text(plots.DISCLAIMER), Items(tuple(model_card.summary(run))))),
        run_sections.use(),
        run_sections.model(run),
        Section(f"Metrics on the {run.main.split} split", main.parts),
        Section(classes.title, (*classes.parts, *beside)),
        Section("Curves", tuple(curves)),
        Section(
            "Calibration", (calibration.parts[0], Text(run.how_calibrated), *calibration.parts[1:])
        ),
        run_sections.operating_point(run, picture.get(_THRESHOLD)),
        run_sections.unknown_images(run),
        sections.by_subgroup(result["subgroups"], picture.get("subgroups.png")),
        run_sections.other_tests(run),
        run_sections.validation_beside(run),
        training_sections.data(run),
        Section("Class distribution", (picture["class_distribution.png"],)),
        training_sections.recipe(run, picture.get(_HISTORY)),
        run_sections.limits(run),
    ]
