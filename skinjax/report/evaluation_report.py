"""The report on one evaluation, beside the files that `evaluate` wrote."""

from collections.abc import Sequence
from pathlib import Path

from sklearn.metrics import classification_report

from skinjax import logs, plots
from skinjax.report import document, figures, sections
from skinjax.report.document import Items, Picture, Section, Text
from skinjax.report.evaluation import Evaluation, read

_FORMS = "classification_report.txt"


def write_evaluation(directory: Path | str, *, title: str, note: str = "") -> list[Path]:
    """Writes the tables and plots of one evaluation beside the files that `evaluate` wrote.

    Reads `metrics.json`: what `assessment.assess` returned, with the keys `split` (name), and if
    known `checkpoint` (text) and `split_counts` ({split: counts in the order of the classes});
    and `predictions_<split>.csv`. All figures are computed again from the predictions, but for
    the intervals, which a metrics.json of an earlier version doesn't have. `title`, split,
    checkpoint and `note` stand over every plot.

    Returns:
      The paths written: classification_report.txt, PNGs, report.md.

    Raises:
      InputError: a file is missing, broken or empty, or the two don't belong together.
    """
    directory = Path(directory)
    evaluation = read(directory)
    heading = [title, f"split: {evaluation.split}, n={len(evaluation.label_N)}"]
    heading += [f"checkpoint: {evaluation.checkpoint or 'not stated'}"]
    heading += [note] if note else []
    written = []
    for name, figure in figures.of_evaluation(evaluation, heading).items():
        logs.write_bytes(directory / name, figures.png(figure))
        written.append(directory / name)
    page = document.to_markdown(title, _sections(evaluation, heading, [p.name for p in written]))
    for name, text in ((_FORMS, _classification_report(heading, evaluation)), ("report.md", page)):
        logs.write_text(directory / name, text)
        written.append(directory / name)
    return written


def _sections(
    evaluation: Evaluation, heading: Sequence[str], names: Sequence[str]
) -> list[Section]:
    """The page that ties the numbers and the plots together."""
    result = evaluation.result
    picture = {name: Picture(name, figures.TITLES[name]) for name in names}
    reliability, forest = picture.pop("reliability.png"), picture.pop("subgroups.png", None)
    facts = Items(tuple(f"{line[0].upper()}{line[1:]}" for line in heading[1:]))
    files = (_FORMS, "metrics.json", f"predictions_{evaluation.split}.csv")
    return [
        Section("", (Text(plots.DISCLAIMER), facts)),
        sections.main_metrics(result),
        sections.per_class(result),
        sections.calibration(result, reliability),
        sections.by_subgroup(result["subgroups"], forest),
        Section("Plots", tuple(picture.values())),
        Section("Tables", (Text(f"Beside this page: {', '.join(files)}."),)),
    ]


def _classification_report(heading: Sequence[str], evaluation: Evaluation) -> str:
    """scikit-learn's table under the heading."""
    table = classification_report(
        evaluation.label_N,
        evaluation.probability_NC.argmax(axis=1),
        labels=range(len(evaluation.classes)),
        target_names=list(evaluation.classes),
        digits=4,
        zero_division=0,
    )
    support = {name: scores["support"] for name, scores in evaluation.result["per_class"].items()}
    absent = [name for name, count in support.items() if not count]
    parts = ["\n".join(heading), table.rstrip("\n")]
    if absent:
        parts.append(
            f"No examples of: {', '.join(absent)}. Here such a class counts as 0 in the macro "
            "average; metrics.json and report.md leave it out."
        )
    return "\n\n".join([*parts, plots.DISCLAIMER]) + "\n"
