import pytest

from skinjax.data import labels


def test_every_class_is_described_and_malignancy_names_classes():
    assert tuple(sorted(labels.HAM10000_CLASSES)) == labels.HAM10000_CLASSES
    assert set(labels.HAM10000_DESCRIPTIONS) == set(labels.HAM10000_CLASSES)
    assert set(labels.HAM10000_CLASSES) > labels.HAM10000_MALIGNANT


def test_malignant_images_of_ham10000_add_up_to_the_published_ratio():
    # Counts of the published table; 4.12 benign images for a malignant one.
    counts = {
        'akiec': 327, 'bcc': 514, 'bkl': 1099, 'df': 115, 'mel': 1113, 'nv': 6705, 'vasc': 142,
    }  # fmt: skip
    malignant = sum(counts[name] for name in labels.HAM10000_MALIGNANT)
    assert (sum(counts.values()) - malignant) / malignant == pytest.approx(4.12, abs=0.01)
