"""The sections on a trained model beside its figures: what it is, what for, and its limits."""

from skinjax import plots, threshold
from skinjax.data import labels
from skinjax.report.document import (
    NOT_AVAILABLE,
    Items,
    Note,
    Part,
    Picture,
    Section,
    Text,
    table,
)
from skinjax.report.run import Run
from skinjax.report.sections import NAMES, largest_gap, number, with_interval
from skinjax.threshold.operating_point import MEASURES
from skinjax.unknown import KNOWN_SHARE

_FEW = 20  # test images of a class, below which its figures say little
_MAIN = ("accuracy", "balanced_accuracy", "macro_f1", "macro_roc_auc", "log_loss")
_MEASURE_NAMES = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "Positive predictive value",
    "npv": "Negative predictive value",
}


def model(run: Run) -> Section:
    """What the model is, and what it tells apart."""
    facts = [["Checkpoint", run.main.checkpoint or NOT_AVAILABLE]]
    if run.config is not None:
        size = run.config.data.image_size
        facts = [["Network", run.config.model.name], ["Input", f"{size} x {size} pixels"], *facts]
    packages = run.start.get("packages")
    versions = packages if isinstance(packages, dict) else {}
    shown = [f"{name} {versions[name]}" for name in ("skinjax", "jax", "flax") if name in versions]
    facts += [
        ["Training started", str(run.start.get("started") or NOT_AVAILABLE)],
        ["Trained with", ", ".join(shown) or NOT_AVAILABLE],
    ]
    classes = run.main.classes
    malignant = labels.malignant(classes)
    rows = [
        [name, labels.description(name, classes), "yes" if name in malignant else "no"]
        for name in classes
    ]
    described = (
        table(["Class", "What it stands for", "Malignant"], rows)
        if malignant
        else Text(f"Classes: {', '.join(classes)}. What they stand for is not known here.")
    )
    return Section("Model", (table(["Property", "Value"], facts), described))


def use() -> Section:
    """What the model is for, and what not."""
    return Section(
        "Intended use",
        (
            Text(plots.DISCLAIMER),
            Text(
                "Not for clinical use: the model is no medical device, nobody has tried it on "
                "patients, and its output must not decide on care. A low probability of a "
                "malignant class does not mean that a lesion is harmless."
            ),
        ),
    )


def operating_point(run: Run, picture: Picture | None) -> Section:
    """The decision threshold and what it does."""
    chosen = run.threshold
    if chosen is None:
        why = (
            "One that is kept with the checkpoint is for predictions of a single view."
            if run.views
            else "The verb threshold chooses one."
        )
        text = f"Decision threshold: {NOT_AVAILABLE}. {why}"
        return Section("Decision threshold", (Text(text),))
    (target, value), *_ = chosen.target.items()
    splits = {"validation": chosen.val} | ({"test": chosen.test} if chosen.test else {})
    rows = [
        [title, *(with_interval(one[name], one["intervals"][name]) for one in splits.values())]
        for name, title in _MEASURE_NAMES.items()
        if name in MEASURES
    ]
    head = ["At the threshold"]
    head += [f"{k}, n={v['num_examples']}, {v['num_positive']} positive" for k, v in splits.items()]
    parts: list[Part] = [
        Text(
            f"An image counts as positive where the calibrated probability of "
            f"{threshold.in_words(chosen.positive)} is at least {chosen.threshold:.4f}. The "
            f"threshold was chosen on validation images for a {target} of {value:g}."
        ),
        table(head, rows),
        Note(
            "With 95 % bootstrap intervals by lesion. Predictive values are for the split's share "
            "of positive images; elsewhere they are others."
        ),
    ]
    return Section("Decision threshold", (*parts, *([picture] if picture else [])))


def unknown_images(run: Run) -> Section:
    """What the model abstains on."""
    title = "Unknown images"
    found = run.unknown
    if found is None:
        text = f"Abstaining: {NOT_AVAILABLE}. The verb calibrate fits a score for unknown images."
        return Section(title, (Text(text),))
    text = (
        f"Predicting abstains on an image whose score (method: {found.method}) is above "
        f"{found.thresholds[found.method]:.4g}, as that of {100 * (1 - KNOWN_SHARE):.0f} % of the "
        "validation images is. The score tells how unlike the training images an image is; it "
        "proves nothing, and a rare disease may look like a common one."
    )
    return Section(title, (Text(text),))


def other_tests(run: Run) -> Section:
    """Further evaluations side by side with the main one."""
    title = "External and other tests"
    if not run.others:
        text = (
            f"External tests: {NOT_AVAILABLE}. How the model does on images of other hospitals, "
            "cameras and patients is not known; evaluate --data=... measures it on other data."
        )
        return Section(title, (Text(text),))
    rows = []
    for name, one in {f"{run.main.split} (this report)": run.main, **run.others}.items():
        bounds = one.result.get("intervals") or {}
        cells = [with_interval(one.result[key], bounds.get(key)) for key in _MAIN]
        rows.append([name, f"{len(one.label_N):,}", *cells])
    parts: list[Part] = [table(["Evaluation", "n", *(NAMES[key] for key in _MAIN)], rows)]
    if not run.external:
        parts.append(Text("None of these is of an external data set."))
    return Section(title, tuple(parts))


def limits(run: Run) -> Section:
    """What the figures don't say."""
    result = run.main.result
    few = [
        f"{name} ({scores['support']})"
        for name, scores in result["per_class"].items()
        if scores["support"] < _FEW
    ]
    found = [
        f"The model knows {len(run.main.classes)} classes only. Any other disease, and any image "
        "that is no dermoscopic picture of a single lesion, gets one of these all the same.",
        "The figures are of one model; the same training with another seed gives others, and the "
        "intervals don't tell how far they would be.",
        "Probabilities are calibrated, if at all, for images like the validation images. Where "
        "diseases are more or less common, they are off.",
        "The data doesn't say skin type, so how the model does on dark skin is not measured.",
    ]
    if few:
        found.append(
            f"Fewer than {_FEW} {run.main.split} images, so that their figures say little: "
            f"{', '.join(few)}."
        )
    columns = result["subgroups"]["columns"]
    empty = [column for column, about in columns.items() if about is None]
    if empty:
        found.append(f"Not assessed, for want of data: results by {', '.join(empty)}.")
    if result["subgroups"]["largest_gap"] is not None:
        found.append(largest_gap(result["subgroups"]))
    if not run.external:
        known = run.config is not None
        found.append(
            "No external test has been made."
            if known
            else "Whether there was an external test is not known here."
        )
    if not run.main.split.startswith("test"):
        found.append(
            f"The figures are of the split {run.main.split}, not of a test split that neither "
            "training nor the choice of the checkpoint has seen."
        )
    return Section("Limits", (Items(tuple(found)),))


def validation_beside(run: Run) -> Section:
    """The main metrics on validation, for comparison."""
    title = "Validation"
    if run.val is None:
        text = f"Validation: {NOT_AVAILABLE}, there are no such predictions of this checkpoint."
        return Section(title, (Text(text),))
    rows = [
        [NAMES[key], number(run.val.result[key]), number(run.main.result[key])] for key in _MAIN
    ]
    head = ["Metric", f"validation, n={len(run.val.label_N):,}"]
    head.append(f"{run.main.split}, n={len(run.main.label_N):,}")
    note = Note(
        "The checkpoint was chosen on validation, so its figures are a little too good there."
    )
    return Section(title, (table(head, rows), note))
