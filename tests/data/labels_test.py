import pytest

from skinjax.data import labels

TABLES = ("HAM10000", "BINARY", "ISIC2019", "ISIC9")


@pytest.mark.parametrize("name", TABLES)
def test_every_class_is_described_and_malignancy_names_classes(name):
    classes = getattr(labels, f"{name}_CLASSES")
    assert tuple(sorted(classes)) == classes
    assert set(getattr(labels, f"{name}_DESCRIPTIONS")) == set(classes)
    assert set(classes) > getattr(labels, f"{name}_MALIGNANT")


def test_malignant_images_of_ham10000_add_up_to_the_published_ratio():
    # Counts of the published table; 4.12 benign images for a malignant one.
    counts = {
        'akiec': 327, 'bcc': 514, 'bkl': 1099, 'df': 115, 'mel': 1113, 'nv': 6705, 'vasc': 142,
    }  # fmt: skip
    malignant = sum(counts[name] for name in labels.HAM10000_MALIGNANT)
    assert (sum(counts.values()) - malignant) / malignant == pytest.approx(4.12, abs=0.01)
    binary = labels.HAM10000_TO_BINARY
    assert sum(counts[name] for name in counts if binary[name] == "malignant") == malignant


def test_isic2019_maps_to_eight_or_seven_classes():
    keep, drop, merge = (labels.ISIC2019_SCC[name] for name in ("keep", "drop", "merge"))
    assert tuple(sorted(set(keep.values()))) == labels.ISIC2019_CLASSES
    assert tuple(sorted(set(merge.values()))) == labels.HAM10000_CLASSES
    assert merge["ak"] == merge["scc"] == "akiec"
    assert set(labels.ISIC2019_CLASSES) - set(drop) == {"scc"}
    assert all(name == target for name, target in (*keep.items(), *drop.items()))
