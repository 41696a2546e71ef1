"""The model card: what a user of the model has to know, in Markdown.

After Mitchell et al., "Model Cards for Model Reporting", FAT* 2019 (arXiv:1810.03993): model,
intended use, data, training, metrics with their uncertainty, by subgroup, and limits.
"""

from skinjax import plots
from skinjax.report import document, run_sections, sections, training_sections
from skinjax.report.document import Items, Section, Text
from skinjax.report.run import Run
from skinjax.report.sections import NAMES, largest_gap, with_interval

_SUMMARY = ("balanced_accuracy", "macro_roc_auc", "accuracy")


def card(run: Run) -> str:
    """The card as Markdown."""
    result = run.main.result
    calibration = sections.calibration(result, None)
    parts = [
        Section(
            "",
            (Text(f"{plots.DISCLAIMER} Not for clinical use."), Items(tuple(summary(run)))),
        ),
        run_sections.model(run),
        run_sections.use(),
        training_sections.data(run),
        training_sections.recipe(run, None),
        Section(f"Metrics on the {run.main.split} split", sections.main_metrics(result).parts),
        sections.per_class(result),
        Section(
            calibration.title,
            (calibration.parts[0], Text(run.how_calibrated), *calibration.parts[1:]),
        ),
        run_sections.operating_point(run, None),
        run_sections.unknown_images(run),
        sections.by_subgroup(result["subgroups"], None),
        run_sections.other_tests(run),
        run_sections.limits(run),
    ]
    return document.to_markdown(f"Model card: {run.title}", parts)


def summary(run: Run) -> list[str]:
    """The report in a few lines."""
    result = run.main.result
    bounds = result.get("intervals") or {}
    lines = [f"{NAMES[name]}: {with_interval(result[name], bounds.get(name))}" for name in _SUMMARY]
    lines[0] = f"{lines[0]}, on {len(run.main.label_N):,} images of the split {run.main.split}"
    lines += [text for text in [sections.before_calibration(result)] if text]
    after = result["calibrated"]
    if after is not None:
        before_value, after_value = (
            f"{one['expected_calibration_error']:.3f}" for one in (result, after)
        )
        lines.append(f"Expected calibration error: {before_value}, calibrated {after_value}")
    return [*lines, largest_gap(result["subgroups"]).rstrip(".")]
