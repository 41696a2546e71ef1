import pytest

from skinjax.download import catalog
from skinjax.errors import InputError

NAMES = ("ham10000", "isic2018", "isic2019", "isic9")


@pytest.mark.parametrize("name", NAMES)
def test_each_data_set_is_whole(name):
    dataset = catalog.dataset(name)
    assert dataset.name == name
    for publication in dataset.publications:
        names = [file.name for file in publication.files]
        counted = [one for count in publication.counts for one in count.names]
        images = [one for one in names if one.endswith(".zip") and "GroundTruth" not in one]
        assert sorted(counted) == sorted(images)
        assert publication.page.startswith("https://")
    text = dataset.attribution()
    assert "CC BY-NC 4.0" in text
    assert all(citation in text for citation in dataset.citations)


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("ham10000", [10015]),
        ("isic2018", [10015, 193, 1512]),
        ("isic2019", [25331]),
        ("isic9", [2357]),
    ],
)
def test_published_numbers_of_images(name, images):
    for publication in catalog.dataset(name).publications:
        assert [count.images for count in publication.counts] == images


def test_official_addresses():
    official = catalog.Addresses()
    first = {name: catalog.dataset(name).publications[0] for name in NAMES}
    assert official.dataverse == "https://dataverse.harvard.edu"
    assert {official.isic + file.path for file in first["isic2018"].files} == {
        "https://isic-challenge-data.s3.amazonaws.com/2018/ISIC2018_Task3_Training_LesionGroupings.csv",
        *(
            f"https://isic-challenge-data.s3.amazonaws.com/2018/ISIC2018_Task3_{part}_{kind}.zip"
            for part in ("Training", "Validation", "Test")
            for kind in ("Input", "GroundTruth")
        ),
    }
    assert {official.isic + file.path for file in first["isic2019"].files} == {
        f"https://isic-challenge-data.s3.amazonaws.com/2019/ISIC_2019_Training_{ending}"
        for ending in ("Input.zip", "Metadata.csv", "GroundTruth.csv")
    }
    assert [file.path for file in first["isic9"].files] == ["nodoubttome/skin-cancer9-classesisic"]
    assert catalog.dataset("ham10000").publications[1].files[0].path == (
        "kmader/skin-cancer-mnist-ham10000"
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ham1000", r"; did you mean ham10000\?"),
        ("isic-2019", r"; did you mean isic2019\?"),
        ("ham10000_binary", "; ham10000_binary is made of the files of ham10000"),
        ("csv", "expected one of ham10000, isic2018, isic2019, isic9$"),
    ],
)
def test_an_unknown_data_set(name, hint):
    with pytest.raises(InputError, match=hint):
        catalog.dataset(name)
