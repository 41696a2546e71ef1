"""What is published where: files, addresses, checksums, counts, licences and citations."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from skinjax.config import nearest
from skinjax.data.labels import ISIC9_CLASSES
from skinjax.errors import InputError

IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png"})


@dataclass(frozen=True)
class Addresses:
    """Where the publishers' servers are, without a slash at the end."""

    dataverse: str = "https://dataverse.harvard.edu"
    isic: str = "https://isic-challenge-data.s3.amazonaws.com"


@dataclass(frozen=True)
class File:
    """One published file.

    `path` is its address below that of its publisher, or of Kaggle its owner and name. `size`
    (bytes) and `md5` are None and "" where they are known only from the publisher's answer.
    `aliases` are the other names under which people have it on their disks. `rows` are those of a
    table, below its header. `holds` is what an archive has to hold for being that one: folders of
    images, which end with a slash, and tables; in any case, with blanks or underscores.
    """

    name: str
    path: str
    size: int | None = None
    md5: str = ""
    aliases: tuple[str, ...] = ()
    rows: int | None = None
    holds: tuple[str, ...] = ()

    @property
    def is_archive(self) -> bool:
        """True if it is unpacked."""
        return self.name.endswith(".zip")

    @property
    def folder(self) -> str:
        """The name of the folder that an archive is unpacked into."""
        return PurePosixPath(self.name).stem


@dataclass(frozen=True)
class Count:
    """How many images some archives hold together.

    With `distinct`, an image that stands in several folders counts once. Where the publisher has
    changed the number without a new name, it is not `fixed`, and one near it is only told.
    """

    names: tuple[str, ...]
    images: int
    distinct: bool = True
    fixed: bool = True


@dataclass(frozen=True)
class Publication:
    """One place that a whole data set can be had from: "dataverse", "isic" or "kaggle"."""

    publisher: str
    page: str  # for people
    files: tuple[File, ...]
    counts: tuple[Count, ...]

    @property
    def by_kaggle(self) -> bool:
        """True if it takes Kaggle's own client."""
        return self.publisher == "kaggle"


@dataclass(frozen=True)
class Dataset:
    """A data set, the places that publish it (the official one first), and whom to name."""

    name: str
    title: str
    publications: tuple[Publication, ...]
    citations: tuple[str, ...]
    doi: str = ""  # of the Dataverse listing

    def attribution(self) -> str:
        """Licence, citations and addresses, in lines for people."""
        pages = "\n".join(f"  {publication.page}" for publication in self.publications)
        citations = "\n".join(f"  {citation}" for citation in self.citations)
        return (
            f"{self.title}\n\n"
            "Licence: Creative Commons Attribution-NonCommercial 4.0 International (CC BY-NC 4.0),"
            "\n  https://creativecommons.org/licenses/by-nc/4.0/\n"
            "  For research and education, not for diagnosis. Keep this file with the data, and\n"
            "  name the authors wherever the data or models trained on it are used.\n\n"
            f"Cite:\n{citations}\n\nFrom:\n{pages}\n"
        )


_HAM10000 = (
    "P. Tschandl, C. Rosendahl, H. Kittler: The HAM10000 dataset, a large collection of"
    " multi-source dermatoscopic images of common pigmented skin lesions. Scientific Data 5,"
    " 180161 (2018). doi:10.1038/sdata.2018.161. Data: doi:10.7910/DVN/DBW86T"
)
_ISIC2018 = (
    "N. Codella, V. Rotemberg, P. Tschandl et al.: Skin Lesion Analysis Toward Melanoma Detection"
    " 2018: A Challenge Hosted by the International Skin Imaging Collaboration (ISIC)."
    " arXiv:1902.03368 (2019)"
)
_ISIC2017 = (
    "N. Codella, D. Gutman, M. E. Celebi et al.: Skin Lesion Analysis Toward Melanoma Detection: A"
    " Challenge at the 2017 International Symposium on Biomedical Imaging (ISBI), Hosted by the"
    " International Skin Imaging Collaboration (ISIC). arXiv:1710.05006 (2017)"
)
_BCN20000 = (
    "M. Combalia, N. Codella, V. Rotemberg et al.: BCN20000: Dermoscopic Lesions in the Wild."
    " arXiv:1908.02288 (2019)"
)
_ISIC_ARCHIVE = "The International Skin Imaging Collaboration, https://www.isic-archive.com"


def dataset(name: str) -> Dataset:
    """Returns the data set of that name.

    Raises:
      InputError: there is none.
    """
    known = {one.name: one for one in (_ham10000(), _isic2018(), _isic2019(), _isic9())}
    if name not in known:
        hint = nearest(name, known)
        if name == "ham10000_binary":
            hint = "; ham10000_binary is made of the files of ham10000"
        raise InputError(f"--dataset is {name!r}: expected one of {', '.join(known)}{hint}")
    return known[name]


def _ham10000() -> Dataset:
    """Tschandl et al. 2018.

    The numbers, sizes and MD5 of the files are of version 4.0 on Dataverse, as several projects
    that check them quote the listing. The listing, where it can be had, is asked first. The table
    is one that Dataverse has converted: size and MD5 are of the original, which is asked for.
    """
    parts = ("HAM10000_images_part_1.zip", "HAM10000_images_part_2.zip")
    access = "/api/access/datafile/"
    dataverse = Publication(
        publisher="dataverse",
        page="https://doi.org/10.7910/DVN/DBW86T",
        files=(
            File(
                name="HAM10000_metadata.csv",
                path=f"{access}4338392?format=original",
                md5="8f85fb1aa29d80a2797247e434deb79d",
                size=690_218,
                aliases=("HAM10000_metadata", "HAM10000_metadata.tab"),
                rows=10_015,
            ),
            File(parts[0], f"{access}3172585", 1_366_522_108, "4639bfa73ab251610530a97c898e6e46"),
            File(parts[1], f"{access}3172584", 1_403_566_547, "da43d6cc50f6613013be07e8986b384b"),
        ),
        counts=(Count(parts, 10_015),),  # rows of the table: 10,015
    )
    kaggle = _kaggle(
        "kmader/skin-cancer-mnist-ham10000",
        10_015,
        fixed=True,
        holds=("HAM10000_images_part_1/", "HAM10000_images_part_2/", "HAM10000_metadata.csv"),
    )
    return Dataset(
        "ham10000", "HAM10000", (dataverse, kaggle), (_HAM10000,), "doi:10.7910/DVN/DBW86T"
    )


def _isic2018() -> Dataset:
    """Task 3, with the numbers of images that the challenge states."""
    images = {"Training": 10_015, "Validation": 193, "Test": 1_512}
    names = [
        f"ISIC2018_Task3_{part}_{kind}.zip" for part in images for kind in ("GroundTruth", "Input")
    ]
    names.insert(0, "ISIC2018_Task3_Training_LesionGroupings.csv")
    publication = Publication(
        publisher="isic",
        page="https://challenge.isic-archive.com/data/#2018",
        files=tuple(File(name, f"/2018/{name}") for name in names),
        counts=tuple(
            Count((f"ISIC2018_Task3_{part}_Input.zip",), number) for part, number in images.items()
        ),
    )
    title = "ISIC 2018 challenge, Task 3"
    return Dataset("isic2018", title, (publication,), (_HAM10000, _ISIC2018))


def _isic2019() -> Dataset:
    """The training set: as many images as its tables have rows, 25,331."""
    rows = {"GroundTruth.csv": 25_331, "Metadata.csv": 25_331, "Input.zip": None}
    names = [f"ISIC_2019_Training_{ending}" for ending in rows]
    publication = Publication(
        publisher="isic",
        page="https://challenge.isic-archive.com/data/#2019",
        files=tuple(
            File(name, f"/2019/{name}", rows=number)
            for name, number in zip(names, rows.values(), strict=True)
        ),
        counts=(Count((names[-1],), 25_331),),
    )
    title = "ISIC 2019 challenge, training set"
    return Dataset("isic2019", title, (publication,), (_HAM10000, _ISIC2017, _BCN20000))


def _isic9() -> Dataset:
    """Nine class folders under Train and Test, on Kaggle alone.

    Projects that print what they count print 2,239 in Train and 118 in Test; copies with 2,241 and
    120 are about as well.
    """
    kaggle = _kaggle(
        "nodoubttome/skin-cancer9-classesisic",
        2_239 + 118,
        fixed=False,
        holds=tuple(f"{part}/{name}/" for part in ("Train", "Test") for name in ISIC9_CLASSES),
    )
    title = "Skin cancer ISIC The International Skin Imaging Collaboration (nine classes)"
    return Dataset("isic9", title, (kaggle,), (_ISIC_ARCHIVE,))


def _kaggle(path: str, images: int, *, fixed: bool, holds: tuple[str, ...]) -> Publication:
    name = f"{PurePosixPath(path).name}.zip"
    return Publication(
        publisher="kaggle",
        page=f"https://www.kaggle.com/datasets/{path}",
        # As the browser saves any archive from there; so it has to be told by what it holds.
        files=(File(name, path, aliases=("archive.zip",), holds=holds),),
        counts=(Count((name,), images, distinct=fixed, fixed=fixed),),
    )
