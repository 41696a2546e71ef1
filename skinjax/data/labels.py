"""The class tables: names in the order of their labels, what they mean, which are malignant."""

from collections.abc import Sequence

HAM10000_CLASSES: tuple[str, ...] = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")

# Tschandl, Rosendahl, Kittler, Sci. Data 5, 180161 (2018), "Diagnostic categories". ISIC 2018
# Task 3 has the same classes.
HAM10000_DESCRIPTIONS: dict[str, str] = {
    "akiec": "actinic keratosis or intraepithelial carcinoma (Bowen's disease)",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis (seborrhoeic keratosis, solar lentigo, lichen-planus-like keratosis)",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "melanocytic nevus",
    "vasc": "vascular lesion (angioma, angiokeratoma, pyogenic granuloma, haemorrhage)",
}

# The usual reading of "malignant" on HAM10000: akiec is counted in, as carcinoma in situ.
HAM10000_MALIGNANT: frozenset[str] = frozenset({"akiec", "bcc", "mel"})

BINARY_CLASSES: tuple[str, ...] = ("benign", "malignant")
BINARY_DESCRIPTIONS: dict[str, str] = {
    "benign": "bkl, df, nv or vasc",
    "malignant": "akiec, bcc or mel",
}
BINARY_MALIGNANT: frozenset[str] = frozenset({"malignant"})
HAM10000_TO_BINARY: dict[str, str] = {
    name: "malignant" if name in HAM10000_MALIGNANT else "benign" for name in HAM10000_CLASSES
}

ISIC2019_CLASSES: tuple[str, ...] = ("ak", "bcc", "bkl", "df", "mel", "nv", "scc", "vasc")

# challenge.isic-archive.com/landing/2019; Combalia et al., arXiv:1908.02288.
ISIC2019_DESCRIPTIONS: dict[str, str] = {
    "ak": "actinic keratosis",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis (solar lentigo, seborrhoeic keratosis, lichen-planus-like keratosis)",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "melanocytic nevus",
    "scc": "squamous cell carcinoma",
    "vasc": "vascular lesion",
}

# Unlike akiec, ak has no carcinoma in it (those images are scc here), so it is not counted in.
ISIC2019_MALIGNANT: frozenset[str] = frozenset({"bcc", "mel", "scc"})

# `data.isic2019_scc` to the class that each class of ISIC 2019 becomes; what isn't there is left
# out. Merging gives HAM10000's classes: of its 327 images of akiec, 130 are AK and 197 SCC in
# ISIC_2019_Training_GroundTruth.csv, by image id.
ISIC2019_SCC: dict[str, dict[str, str]] = {
    "keep": {name: name for name in ISIC2019_CLASSES},
    "drop": {name: name for name in ISIC2019_CLASSES if name != "scc"},
    "merge": {name: {"ak": "akiec", "scc": "akiec"}.get(name, name) for name in ISIC2019_CLASSES},
}

# The folders of Kaggle's nodoubttome/skin-cancer9-classesisic, in lower case.
ISIC9_CLASSES: tuple[str, ...] = (
    "actinic keratosis",
    "basal cell carcinoma",
    "dermatofibroma",
    "melanoma",
    "nevus",
    "pigmented benign keratosis",
    "seborrheic keratosis",
    "squamous cell carcinoma",
    "vascular lesion",
)

# The diagnoses of the ISIC Archive, where the images are from.
ISIC9_DESCRIPTIONS: dict[str, str] = {
    "actinic keratosis": "actinic keratosis",
    "basal cell carcinoma": "basal cell carcinoma",
    "dermatofibroma": "dermatofibroma",
    "melanoma": "melanoma",
    "nevus": "melanocytic nevus",
    "pigmented benign keratosis": "benign keratosis that is pigmented, as HAM10000's bkl",
    "seborrheic keratosis": "seborrhoeic keratosis",
    "squamous cell carcinoma": "squamous cell carcinoma",
    "vascular lesion": "vascular lesion",
}
ISIC9_MALIGNANT: frozenset[str] = frozenset(
    {"basal cell carcinoma", "melanoma", "squamous cell carcinoma"}
)


_TABLES: tuple[tuple[dict[str, str], frozenset[str]], ...] = (
    (HAM10000_DESCRIPTIONS, HAM10000_MALIGNANT),
    (ISIC2019_DESCRIPTIONS, ISIC2019_MALIGNANT),
    (ISIC9_DESCRIPTIONS, ISIC9_MALIGNANT),
    (BINARY_DESCRIPTIONS, BINARY_MALIGNANT),
)


def malignant(classes: Sequence[str]) -> frozenset[str]:
    """Those of `classes` that are malignant; empty where the classes are of no known data set.

    Whether ak or akiec is counted in depends on the data set: see the tables.
    """
    table = _table(classes)
    return frozenset() if table is None else table[1] & frozenset(classes)


def description(name: str, classes: Sequence[str]) -> str:
    """What the class `name` of `classes` stands for; the name itself where that is not known."""
    table = _table(classes)
    return name if table is None else table[0][name]


def _table(classes: Sequence[str]) -> tuple[dict[str, str], frozenset[str]] | None:
    """The first data set that has all of these classes."""
    return next((table for table in _TABLES if set(classes) <= table[0].keys()), None)
