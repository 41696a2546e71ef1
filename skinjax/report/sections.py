"""The sections on one evaluation: what was measured, as tables and sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from skinjax.assessment import CALIBRATED, subgroups
from skinjax.metrics.engine import OF_TWO
from skinjax.report.document import NOT_AVAILABLE, Note, Picture, Section, Table, Text, table

NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy (mean recall)",
    "top_2_accuracy": "Top-2 accuracy",
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
    "macro_f1": "Macro F1",
    "weighted_precision": "Weighted precision",
    "weighted_recall": "Weighted recall",
    "weighted_f1": "Weighted F1",
    "cohen_kappa": "Cohen's kappa",
    "matthews_correlation": "Matthews correlation",
    "macro_roc_auc": "Macro ROC-AUC (one against the rest)",
    "macro_partial_roc_auc": "Macro partial ROC-AUC above 80 % sensitivity (of 0.2)",
    "macro_pr_auc": "Macro PR-AUC (average precision)",
    "roc_auc": "ROC-AUC (of the second class)",
    "partial_roc_auc": "Partial ROC-AUC above 80 % sensitivity (of 0.2)",
    "pr_auc": "PR-AUC (average precision of the second class)",
    "sensitivity": "Sensitivity (of the second class)",
    "specificity": "Specificity (of the second class)",
    "sensitivity_at_90_specificity": "Sensitivity at 90 % specificity",
    "specificity_at_90_sensitivity": "Specificity at 90 % sensitivity",
    "log_loss": "Log loss (nats)",
    "brier_score": "Brier score (sum over the classes)",
    "expected_calibration_error": "Expected calibration error (15 bins of equal width)",
    "expected_calibration_error_equal_mass": "Expected calibration error (15 bins of equal mass)",
    "maximum_calibration_error": "Maximum calibration error (15 bins of equal width)",
    "loss": "Loss (training objective)",
    "malignant_sensitivity": "Malignant sensitivity",
}
_HEADLINE = "balanced_accuracy"
_PER_CLASS = (
    {"recall": "Recall (sensitivity)", "specificity": "Specificity", "precision": "Precision"}
    | {"f1": "F1"},
    {"roc_auc": "ROC-AUC", "pr_auc": "PR-AUC", "partial_roc_auc": "Partial ROC-AUC"}
    | {
        "sensitivity_at_90_specificity": "Sensitivity at 90 % specificity",
        "specificity_at_90_sensitivity": "Specificity at 90 % sensitivity",
    },
)
SUBGROUP_NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_roc_auc": "Macro ROC-AUC",
    "malignant_sensitivity": "Malignant sensitivity",
}
COLUMN_NAMES = {"age": "Age", "sex": "Sex", "site": "Body site", "source": "Image source"}


def number(value: float | None) -> str:
    """A metric with four decimals."""
    return NOT_AVAILABLE if value is None else f"{value:.4f}"


def interval(bounds: Sequence[float] | None) -> str:
    """An interval with three decimals."""
    return NOT_AVAILABLE if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def with_interval(value: float | None, bounds: Sequence[float] | None) -> str:
    """A metric with its interval in brackets, for a cell of a wide table."""
    if value is None:
        return NOT_AVAILABLE
    if bounds is None:
        return f"{value:.3f}"
    # A dash is narrower, but beside a minus sign it can't be read.
    between = " to " if bounds[0] < 0 else "\N{EN DASH}"
    return f"{value:.3f} ({bounds[0]:.3f}{between}{bounds[1]:.3f})"


def how_intervals(result: Mapping[str, Any]) -> Note:
    """Says how the intervals were found."""
    if not result.get("intervals"):
        return Note("Intervals were not computed.")
    about = result["bootstrap"]
    return Note(
        f"Intervals are 95 % bootstrap intervals of {about['num_resamples']:,} resamples of lesions"
        f" (all images of a lesion together; class counts kept; seed {about['seed']})."
        " They tell how much the figures would vary with other test images of the same kind, not"
        " with another training run, nor with other hospitals or cameras. Areas and partial areas"
        " of classes of about ten lesions have intervals that are too short. A mean over classes"
        " of which one has a single lesion has no interval."
    )


def main_metrics(result: Mapping[str, Any]) -> Section:
    """Every metric of the whole table."""
    bounds = result.get("intervals") or {}
    shown = [name for name in NAMES if name in result]
    if len(result["per_class"]) > 2:  # those of the second of two classes
        shown = [name for name in shown if name not in OF_TWO]
    rows = [
        [NAMES.get(name, name), number(result[name]), interval(bounds.get(name))] for name in shown
    ]
    parts: list[Any] = [table(["Metric", "Value", "95 % interval"], rows), how_intervals(result)]
    parts += [Text(f"{text}.") for text in [before_calibration(result)] if text]
    absent = [name for name, scores in result["per_class"].items() if not scores["support"]]
    if absent:
        parts.append(
            Text(f"Without examples, and left out of the macro means: {', '.join(absent)}.")
        )
    return Section("Metrics", tuple(parts))


def before_calibration(result: Mapping[str, Any]) -> str:
    """Says, where calibrating changes decisions, that the figures are not of these; else ""."""
    after = result.get("calibrated")
    if after is None or after["method"] != "vector":
        return ""
    before_text, after_text = (
        with_interval(one[_HEADLINE], (one.get("intervals") or {}).get(_HEADLINE))
        for one in (result, after)
    )
    return (
        "These figures are of the uncalibrated probabilities, while predict, with vector scaling, "
        f"decides by the calibrated ones: balanced accuracy {before_text} uncalibrated, "
        f"{after_text} calibrated"
    )


def per_class(result: Mapping[str, Any]) -> Section:
    """Each class against the rest."""
    bounds = (result.get("intervals") or {}).get("per_class") or {}
    parts: list[Any] = []
    for names in _PER_CLASS:
        rows = [
            [
                name,
                f"{scores['support']:,}",
                *(with_interval(scores[k], (bounds.get(name) or {}).get(k)) for k in names),
            ]
            for name, scores in result["per_class"].items()
        ]
        parts.append(table(["Class", "n", *names.values()], rows))
    parts.append(
        Note(
            "Each class against the rest. Recall, specificity, precision and F1 are of the most "
            "probable class. The partial ROC-AUC is the area above 80 % sensitivity, as in the "
            "ISIC 2024 challenge: 0.2 is perfect, 0.02 is chance."
        )
    )
    return Section("Per class", tuple(parts))


def calibration(result: Mapping[str, Any], picture: Picture | None) -> Section:
    """The metrics that calibrating changes, before and after it."""
    parts: list[Any] = []
    after = result.get("calibrated")
    if after is None:
        parts.append(
            Text(
                f"Calibration: {NOT_AVAILABLE}. Without one fitted on validation images, the "
                "probabilities are the network's own."
            )
        )
        after = {}
    elif after["temperature"] is not None:
        parts.append(
            Text(
                f"Temperature scaling, fitted on validation images: temperature "
                f"{after['temperature']:.4f} ({_direction(after['temperature'])})."
            )
        )
    else:
        parts.append(Text(f"Method: {after['method']} scaling, fitted on validation images."))
    before_bounds = result.get("intervals") or {}
    after_bounds = after.get("intervals") or {}
    rows = [
        [
            NAMES[name],
            with_interval(result.get(name), before_bounds.get(name)),
            with_interval(after.get(name), after_bounds.get(name)),
        ]
        for name in CALIBRATED
        if name != "macro_recall"  # the balanced accuracy by another name
    ]
    parts.append(table(["Metric", "Before", "After"], rows))
    parts.append(
        Note(
            "Expected calibration errors come out too high for few images; their intervals allow "
            "for that. The maximum is that of a bin with few images: it has no interval."
        )
    )
    parts += [picture] if picture else []
    return Section("Calibration", tuple(parts))


def _direction(temperature: float) -> str:
    if temperature > 1:
        return "above 1: the network was too sure of itself"
    return "below 1: the network was not sure enough" if temperature < 1 else "nothing to change"


def by_subgroup(found: Mapping[str, Any] | None, picture: Picture | None) -> Section:
    """The main metrics by age, sex, site and source."""
    if found is None:
        return Section("Subgroups", (Text(f"Subgroups: {NOT_AVAILABLE}."),))
    parts: list[Any] = [Text(largest_gap(found)), Note(_rule(found))]
    parts += [picture] if picture else []
    for column, title in COLUMN_NAMES.items():
        groups = (found["columns"][column] or {}).get("groups")
        if not groups:
            parts.append(Text(f"{title}: {NOT_AVAILABLE}, the predictions have no {column}."))
            continue
        rows = [[name, *_group_cells(group)] for name, group in groups.items()]
        head = [title, "Images", "Lesions", "Malignant images", *SUBGROUP_NAMES.values()]
        head.append("Classes without images")
        parts.append(table(head, rows))
    if found["largest_gap"] is not None:
        parts.insert(1, gaps(found))
    return Section("Subgroups", tuple(parts))


def _group_cells(group: Mapping[str, Any]) -> list[str]:
    bounds = group["intervals"] or {}
    return [
        f"{group['num_examples']:,}",
        f"{group['num_lesions']:,}",
        f"{group['num_malignant']:,}",
        *(with_interval(group[name], bounds.get(name)) for name in SUBGROUP_NAMES),
        ", ".join(group["absent_classes"]) or "none",
    ]


def largest_gap(found: Mapping[str, Any]) -> str:
    """The largest gap between two groups, in a sentence."""
    gap = found["largest_gap"]
    if gap is None:
        return (
            f"Largest gap: {NOT_AVAILABLE}, since no column has two groups of at least "
            f"{found['minimum']} images."
        )
    bounds = gap["interval"]
    of_classes = f" over {', '.join(gap['classes'])}" if gap["classes"] else ""
    metric = SUBGROUP_NAMES[gap["metric"]]
    return (
        f"Largest gap: {metric[0].lower()}{metric[1:]}{of_classes} by "
        f"{COLUMN_NAMES[gap['column']].lower()}, {gap['high_value']:.3f} for {gap['high']} and "
        f"{gap['low_value']:.3f} for {gap['low']}: a difference of {gap['difference']:.3f}"
        f"{f' (95 % interval {interval(bounds)})' if bounds else ''}."
    )


def gaps(found: Mapping[str, Any]) -> Table:
    """The largest gap of every column and metric."""
    rows = []
    for column, about in found["columns"].items():
        for gap in (about or {"gaps": {}})["gaps"].values():
            if gap is None:
                continue
            pair = (f"{gap[end]} ({gap[f'{end}_value']:.3f})" for end in ("high", "low"))
            difference = with_interval(gap["difference"], gap["interval"])
            compared = ", ".join(gap["classes"] or ["all images"])
            rows.append(
                [COLUMN_NAMES[column], SUBGROUP_NAMES[gap["metric"]], *pair, difference, compared]
            )
    return table(["Group", "Metric", "Highest", "Lowest", "Difference", "Compared over"], rows)


def _rule(found: Mapping[str, Any]) -> str:
    malignant = ", ".join(found["malignant"])
    sensitivity = (
        f"Malignant sensitivity: the share of images of {malignant} that are predicted as any of "
        "these. "
        if malignant
        else "Malignant sensitivity: which classes are malignant is not known here. "
    )
    return (
        f"{sensitivity}Balanced accuracy and macro ROC-AUC are means over the classes that a group "
        f"has. Groups of fewer than {found['minimum']} images (malignant ones for the sensitivity) "
        f"have no interval and are in no gap, nor are {subgroups.UNKNOWN} and {subgroups.OTHERS}. "
        f"A mean over classes of which one has fewer than {subgroups.MINIMUM_OF_CLASS} lesions in "
        "the group has no interval; gaps of means are over the classes of which both groups have "
        "as many. The largest of many gaps is large by chance too; "
        "its interval does not correct for that."
    )
