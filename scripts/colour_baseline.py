"""A linear model on the mean colour of each image: what a network has to beat to have learned more.

    python scripts/colour_baseline.py --prepared=data/prepared/synthetic

Trains scikit-learn's logistic regression with balanced class weights on the training split and
prints its metrics on the test split.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinjax import metrics
from skinjax.data import prepared


def main() -> None:
    """Prints one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prepared", required=True, type=Path, help="a prepared data set")
    data = prepared.open_prepared(parser.parse_args().prepared)
    regression = LogisticRegression(class_weight="balanced", max_iter=1000)
    model = make_pipeline(StandardScaler(), regression)
    model.fit(*_mean_colours(data, "train"))
    colour_N3, label_N = _mean_colours(data, "test")
    probability_NC = np.zeros((len(label_N), len(data.classes)))
    probability_NC[:, regression.classes_] = model.predict_proba(colour_N3)
    computed = metrics.compute(probability_NC, label_N, data.classes)
    print(f"linear model on mean colour, test: {metrics.summary_line(computed)}")


def _mean_colours(data: prepared.PreparedDataset, split: str) -> tuple[np.ndarray, np.ndarray]:
    examples = data.source((split,))
    rows = [examples[i] for i in range(len(examples))]
    return (
        np.array([row["image"].mean((0, 1)) for row in rows]),
        np.array([row["label"] for row in rows]),
    )


if __name__ == "__main__":
    main()
