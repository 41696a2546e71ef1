"""From a model's classes to those of another data set: known tables, equal names, or a file.

Both sides are merged until they mean the same: a class of the one that is several of the other
takes these together. So a mapping is a relation of pairs (a class of the model, a class of the
data), and what is evaluated are the groups that the pairs connect.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skinjax import class_mapping_file
from skinjax.class_mapping_file import ADVICE, Pairs
from skinjax.data import labels, tables
from skinjax.data.sources import fields
from skinjax.errors import InputError

# From ISIC 2019's challenge page: its BKL is "solar lentigo / seborrheic keratosis / lichen
# planus-like keratosis", and what the archive calls pigmented benign keratosis is HAM10000's bkl.
ISIC9_TO_ISIC2019: dict[str, str] = {
    "actinic keratosis": "ak",
    "basal cell carcinoma": "bcc",
    "dermatofibroma": "df",
    "melanoma": "mel",
    "nevus": "nv",
    "pigmented benign keratosis": "bkl",
    "seborrheic keratosis": "bkl",
    "squamous cell carcinoma": "scc",
    "vascular lesion": "vasc",
}

# From the finest to the coarsest; each table leads from one to the next.
_SYSTEMS: tuple[tuple[str, ...], ...] = (
    labels.ISIC9_CLASSES,
    labels.ISIC2019_CLASSES,
    labels.HAM10000_CLASSES,
    labels.BINARY_CLASSES,
)
_COARSER: tuple[dict[str, str], ...] = (
    ISIC9_TO_ISIC2019,
    labels.ISIC2019_SCC["merge"],
    labels.HAM10000_TO_BINARY,
)


@dataclass(frozen=True)
class ClassMapping:
    """How the classes of a model and of a data set become the ones that are evaluated.

    Attributes:
      model_classes: in the order of the model's outputs, C.
      data_classes: in the order of the data's labels, D.
      classes: that are evaluated, K.
      of_model: the place in `classes` of each class of the model.
      of_data: the same of each class of the data; -1 is a class that the model does not have.
    """

    model_classes: tuple[str, ...]
    data_classes: tuple[str, ...]
    classes: tuple[str, ...]
    of_model: tuple[int, ...]
    of_data: tuple[int, ...]

    @property
    def merges_model(self) -> bool:
        """Whether probabilities of several of the model's classes are added up."""
        return len(set(self.of_model)) < len(self.of_model)

    @property
    def unknown_to_model(self) -> tuple[str, ...]:
        """The data's classes that no class of the model stands for: it can't get them right."""
        pairs = zip(self.data_classes, self.of_data, strict=True)
        return tuple(name for name, place in pairs if place < 0)

    @property
    def absent_from_data(self) -> tuple[str, ...]:
        """The evaluated classes that the data has no class for."""
        return tuple(
            name for place, name in enumerate(self.classes) if place not in set(self.of_data)
        )

    def merged(self, probability_NC: np.ndarray) -> np.ndarray:
        """Probabilities of the evaluated classes, float64 (N, K): sums over the model's."""
        probability_NC = np.asarray(probability_NC, np.float64)
        merge_CK = np.zeros((len(self.model_classes), len(self.classes)))
        merge_CK[np.arange(len(self.of_model)), self.of_model] = 1
        return np.asarray(probability_NC @ merge_CK)

    def lines(self) -> list[str]:
        """What is merged, renamed, added or left out, a line each; empty if nothing is."""
        text = []
        for place, name in enumerate(self.classes):
            model = _at(place, self.model_classes, self.of_model)
            data = _at(place, self.data_classes, self.of_data)
            if len(model) > 1:
                text.append(f"{name}: the model's {' + '.join(model)} are added up")
            if data and data != [name]:
                text.append(f"{name}: {' and '.join(data)} of the data")
        if self.absent_from_data:
            text.append(
                f"the data has no class for {', '.join(self.absent_from_data)}: predictions of it "
                "are errors, and its own metrics are not available"
            )
        if self.unknown_to_model:
            text.append(
                f"the model has no class for {', '.join(self.unknown_to_model)} of the data: such "
                "images are left out"
            )
        return text


def create(
    model_classes: Sequence[str], data_classes: Sequence[str], file: Path | str = ""
) -> ClassMapping:
    """The mapping by `file`; without one, by the tables of `data.labels`, else by equal names.

    The data sets of the tables are refined from one another: the nine classes of isic9, the eight
    of ISIC 2019, the seven of HAM10000, and benign against malignant, where actinic keratosis
    counts with akiec as malignant. The coarser of the two sides is what is evaluated. A class of
    the data that the model has no class for is said, and its images are to be left out.

    Names are compared without case, and with `_` as a space.

    Raises:
      InputError: classes that are in no table, a file that is wrong (see
        `class_mapping_file`), or fewer than two classes to evaluate.
    """
    mapping = from_pairs(model_classes, data_classes, _pairs(model_classes, data_classes, file))
    if len(mapping.classes) < 2:
        raise InputError(
            f"the mapping joins all classes of the model ({tables.shown(model_classes)}) into one,"
            f" which any prediction gets right: expected two or more that stay apart; {ADVICE}"
        )
    return mapping


def from_pairs(
    model_classes: Sequence[str], data_classes: Sequence[str], pairs: Iterable[tuple[str, str]]
) -> ClassMapping:
    """The groups that `pairs` (a class of the model, a class of the data) connect.

    Where the model is the finer side in some group, classes are named after the data's and come in
    their order; else after the model's. A class of the model without a partner is one by itself.

    Raises:
      ValueError: a pair has a class that there is not.
    """
    model_classes, data_classes = tuple(model_classes), tuple(data_classes)
    group_C = list(range(len(model_classes)))
    group_D = [-1] * len(data_classes)
    for model_class, data_class in sorted(set(pairs)):
        own, place = group_C[model_classes.index(model_class)], data_classes.index(data_class)
        other = group_D[place]
        group_D[place] = own
        if other >= 0:
            group_C = [own if group == other else group for group in group_C]
            group_D = [own if group == other else group for group in group_D]
    by_data = len(set(group_C)) < len(group_C)
    groups = list(dict.fromkeys([g for g in group_D if g >= 0] + group_C if by_data else group_C))
    names = []
    for group in groups:
        model = _at(group, model_classes, group_C)
        data = _at(group, data_classes, group_D)
        names.append(" + ".join(data if by_data and data else model))
    for place, name in enumerate(names):
        if name in names[:place]:
            names[place] = f"{name} (of the model)"
    return ClassMapping(
        model_classes,
        data_classes,
        tuple(names),
        tuple(groups.index(group) for group in group_C),
        tuple(groups.index(group) if group >= 0 else -1 for group in group_D),
    )


def _at(place: int, names: Sequence[str], place_N: Sequence[int]) -> list[str]:
    return [name for name, own in zip(names, place_N, strict=True) if own == place]


def _pairs(model_classes: Sequence[str], data_classes: Sequence[str], file: Path | str) -> Pairs:
    """By the file, else by the tables, else by name."""
    if file:
        return class_mapping_file.read(Path(file).expanduser(), model_classes, data_classes)
    if tuple(model_classes) == tuple(data_classes):
        return {(name, name) for name in model_classes}
    pairs = _by_tables(model_classes, data_classes)
    if pairs is None:
        pairs = _by_name(model_classes, data_classes)
    if not pairs:
        raise InputError(
            f"no class of the data ({tables.shown(data_classes)}) is one of the model's"
            f" ({tables.shown(model_classes)}): {ADVICE}"
        )
    return pairs


def _by_tables(model_classes: Sequence[str], data_classes: Sequence[str]) -> Pairs | None:
    """The pairs that mean the same in the finest system that both lead to; None if none does."""
    possible = [
        (max(model, data), model, data)
        for model in _levels(model_classes)
        for data in _levels(data_classes)
    ]
    if not possible:
        return None
    common, of_model, of_data = min(possible)
    return {
        (model, data)
        for model in model_classes
        for data in data_classes
        if _lifted(model, of_model, common) == _lifted(data, of_data, common)
    }


def _levels(classes: Sequence[str]) -> list[int]:
    """The systems that have all of these classes."""
    names = {_plain(name) for name in classes}
    return [level for level, system in enumerate(_SYSTEMS) if names <= set(system)]


def _lifted(name: str, level: int, to: int) -> str:
    name = _plain(name)
    for table in _COARSER[level:to]:
        name = table[name]
    return name


def _by_name(model_classes: Sequence[str], data_classes: Sequence[str]) -> Pairs:
    pairs = {
        (model, data)
        for model in model_classes
        for data in data_classes
        if _plain(model) == _plain(data)
    }
    strange = [data for data in data_classes if data not in {pair[1] for pair in pairs}]
    if strange:
        raise InputError(
            f"the data's class {fields.short(strange[0])} is none of the model's"
            f" ({tables.shown(model_classes)}) and in no known table: {ADVICE}"
        )
    return pairs


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())
