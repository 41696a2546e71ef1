"""Predicting with a trained model: class, calibrated probabilities, decision and abstention.

    predictor = predict.Predictor("runs/effnet")
    print(predictor.predict("lesion.jpg").label)

For research and education, not for diagnosis.
"""

import contextlib
import itertools
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np

from skinjax import fitted, trained
from skinjax.data import labels
from skinjax.data.metadata import FEATURES
from skinjax.errors import InputError
from skinjax.predict.outputs import MetadataRow, Output, Runner, check_array, stream_outputs

__all__ = ["Output", "Prediction", "Predictor", "stream_outputs"]

Image = str | Path | np.ndarray


@dataclass(frozen=True)
class Prediction:
    """What is predicted of one image. For research and education, not for diagnosis.

    Attributes:
      image: its path as given; "" for an array.
      label: the most probable class; "" if `error`.
      description: what the class stands for.
      probabilities: of each class, calibrated if the model is; they sum to 1. Empty if `error`.
      decision: whether the image is positive at the model's threshold; None if it has none.
      decision_score: the calibrated probability of the positive classes together; None likewise.
      abstained: whether the image is too unlike the training images for its prediction to be
        relied on; None if nothing was fitted that could tell.
      unknown_score: how unlike it is, the higher the more; None likewise.
      error: why there is no prediction, in one line; "" if there is.
    """

    image: str
    label: str = ""
    description: str = ""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    decision: bool | None = None
    decision_score: float | None = None
    abstained: bool | None = None
    unknown_score: float | None = None
    error: str = ""


class Predictor:
    """A trained model with what was fitted to it, compiled once and used as often as wanted.

    Attributes:
      model: the checkpoint.
      calibration: `calibration.Calibration`, or None if none was fitted.
      threshold: `threshold.Threshold`, or None.
      unknown: `unknown.Unknown`, or None.
    """

    def __init__(
        self,
        workdir: Path | str,
        checkpoint: str = "best",
        *,
        batch_size: int = 32,
        calibrated: bool = True,
    ) -> None:
        """Reads the checkpoint; nothing of the work directory but its folder of checkpoints.

        Args:
          workdir: that `train` or `import` made.
          checkpoint: "best", "latest" or a step.
          batch_size: images at once, over all devices.
          calibrated: whether `probabilities` and `label` are calibrated. Decisions always are.

        Raises:
          InputError: there is no such run or checkpoint, or it or what was fitted can't be used.
        """
        self.model = trained.load(workdir, checkpoint)
        self.calibration, self.threshold, self.unknown = _read_fitted(self.model)
        self._calibrated = calibrated
        self._runner = Runner(self.model, batch_size=batch_size)

    @overload
    def predict(self, image: Image, metadata: MetadataRow = None) -> Prediction: ...

    @overload
    def predict(
        self, image: list[Any] | tuple[Any, ...], metadata: Sequence[MetadataRow] | None = None
    ) -> list[Prediction]: ...

    def predict(self, image: Any, metadata: Any = None) -> Any:
        """Predicts one image, or each of a list.

        Args:
          image: a file's path, or a uint8 RGB array (H, W, 3) of any size; or a list of these.
          metadata: of the patient, for a model that takes it: a mapping with `age` (years), `sex`
            and `site`, of which any may be missing; for a list of images a list of such or None.

        Returns:
          A prediction, or a list of as many. An image that can't be read has an `error`.

        Raises:
          InputError: neither path nor such an array, or metadata that the model can't take.
        """
        if not isinstance(image, list | tuple):
            return self.predict([image], None if metadata is None else [metadata])[0]
        if metadata is not None and len(metadata) != len(image):
            raise InputError(
                f"{len(image)} images and {len(metadata)} rows of metadata; give each image a row,"
                " or None"
            )
        return list(self.stream(image, metadata))

    def stream(
        self, images: Iterable[Image], metadata: Iterable[MetadataRow] | None = None
    ) -> Generator[Prediction]:
        """Predicts any number of images in their order and in constant memory; see `predict`.

        It reads ahead: about three batches of `images` are taken before their first prediction.
        """
        items = map(_checked, images)
        rows = None if metadata is None else (self._checked_row(row) for row in metadata)
        prepared = self._runner.prepared(items, rows)
        batches = self._runner.batches(prepared, with_features=self.unknown is not None)
        with contextlib.closing(prepared), contextlib.closing(batches):
            for outputs in batches:
                yield from self._predictions(outputs)

    def _checked_row(self, row: MetadataRow) -> MetadataRow:
        if row is None:
            return None
        if self.model.encoder is None:
            raise InputError("the model takes no patient metadata: leave metadata away")
        unknown = [str(name) for name in row if name not in FEATURES]
        if unknown:
            raise InputError(
                f"metadata has {', '.join(unknown)}; expected some of {', '.join(FEATURES)}"
            )
        age = row.get("age")
        if age is not None and not isinstance(age, int | float | np.integer | np.floating):
            raise InputError(f"metadata has age {age!r}; expected a number of years, or None")
        texts = {name: row.get(name) or "" for name in ("sex", "site")}
        for name, text in texts.items():
            if not isinstance(text, str):
                raise InputError(f"metadata has {name} {text!r}; expected text")
        return {"age": age, **texts}

    def _predictions(self, outputs: Sequence[Output]) -> list[Prediction]:
        """The predictions of a batch, each in its place."""
        good = [output for output in outputs if not output.error]
        columns = iter(self._columns(good) if good else [])
        return [
            Prediction(_name(output), error=output.error)
            if output.error
            else Prediction(_name(output), **next(columns))
            for output in outputs
        ]

    def _columns(self, outputs: Sequence[Output]) -> Iterator[dict[str, Any]]:
        """What is said of each of some outputs without an error, but for its name."""
        classes = self.model.classes
        logits_NC = np.array([output.logits_C for output in outputs], np.float64)
        raw_NC = softmax(logits_NC)
        calibrated_NC = raw_NC if self.calibration is None else self.calibration.apply(raw_NC)
        shown_NC = calibrated_NC if self._calibrated else raw_NC
        nothing: Any = itertools.repeat(None)
        decision_N = score_N = abstained_N = unknown_N = nothing
        if self.threshold is not None:
            score_N = self.threshold.score(calibrated_NC, classes).tolist()
            decision_N = self.threshold.decide(calibrated_NC, classes).tolist()
        if self.unknown is not None:
            features_ND = np.array([output.features_D for output in outputs])
            unknown_score_N = self.unknown.scores(logits_NC, features_ND)
            unknown_N = unknown_score_N.tolist()
            abstained_N = self.unknown.abstains(unknown_score_N).tolist()
        rows = zip(shown_NC.tolist(), decision_N, score_N, abstained_N, unknown_N, strict=False)
        for probability_C, decision, score, abstained, unlike in rows:
            label = classes[int(np.argmax(probability_C))]
            yield {
                "label": label,
                "description": labels.description(label, classes),
                "probabilities": dict(zip(classes, probability_C, strict=True)),
                "decision": decision,
                "decision_score": score,
                "abstained": abstained,
                "unknown_score": unlike,
            }


def softmax(logits_NC: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) of logits, of their dtype."""
    power_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    return np.asarray(power_NC / power_NC.sum(axis=1, keepdims=True))


def _read_fitted(model: trained.TrainedModel) -> tuple[Any, Any, Any]:
    """Calibration, threshold and measure of the unknown; None for what was not fitted."""

    def has(name: str) -> bool:
        return fitted.path(model.workdir, model.step, name).exists()

    calibration = threshold = unknown = None
    # Their modules take time to import.
    if has(fitted.CALIBRATION):
        from skinjax import calibration as calibration_lib

        calibration = calibration_lib.load(model.workdir, model.step, model.classes)
    if has(fitted.THRESHOLD):
        from skinjax import threshold as threshold_lib

        threshold = threshold_lib.load(model.workdir, model.step, model.classes, calibration)
    if has(fitted.UNKNOWN):
        from skinjax import unknown as unknown_lib

        unknown = unknown_lib.load(model.workdir, model.step, model.classes)
    return calibration, threshold, unknown


def _checked(image: Any) -> Path | np.ndarray:
    if isinstance(image, np.ndarray):
        check_array(image)
        return image
    if isinstance(image, str | Path):
        return Path(image)
    raise InputError(
        f"an image is a {type(image).__name__}; expected a path, or a uint8 RGB array"
        " (height, width, 3)"
    )


def _name(output: Output) -> str:
    return "" if isinstance(output.item, np.ndarray) else str(output.item)
