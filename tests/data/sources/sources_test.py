import re

import pytest

from skinjax.data import sources, synthetic
from skinjax.errors import InputError


def test_read_chooses_by_name(config):
    assert len(sources.read(config).records) == 35
    config.data.raw_dir = ""
    with pytest.raises(InputError, match=r"data\.raw_dir is empty"):
        sources.read(config)
    config.data.dataset = "isic2020"
    with pytest.raises(InputError, match=r"'isic2020'.*ham10000, .*did you mean isic20") as error:
        sources.read(config)
    assert "\n" not in str(error.value)


def test_read_draws_the_synthetic_data_set_once(config, tmp_path, monkeypatch):
    config.data.dataset = "synthetic"
    config.data.raw_dir = ""
    config.synthetic.num_lesions = 7
    config.synthetic.image_size = 16
    reading = sources.read(config)
    assert {record.label for record in reading.records} == set(range(7))
    assert {record.source for record in reading.records} == {"synthetic"}
    (drawn,) = (tmp_path / "prepared").iterdir()
    assert drawn.name == f"synthetic_raw-v{synthetic.VERSION}-7-16-0"
    times = {path: path.stat().st_mtime_ns for path in drawn.rglob("*")}
    assert sources.read(config) == reading
    assert {path: path.stat().st_mtime_ns for path in drawn.rglob("*")} == times
    config.synthetic.seed = 1
    sources.read(config)
    assert len(list((tmp_path / "prepared").iterdir())) == 2
    # Another version draws other files: elsewhere, not over these nor instead of them.
    monkeypatch.setattr(synthetic, "VERSION", synthetic.VERSION + 1)
    sources.read(config)
    assert len(list((tmp_path / "prepared").iterdir())) == 3


def test_the_synthetic_data_set_is_drawn_aside(config, monkeypatch):
    # So that of two runs that begin at the same moment, neither sees the other's half.
    config.data.dataset = "synthetic"
    config.data.raw_dir = ""
    config.synthetic.num_lesions = 7
    config.synthetic.image_size = 16
    folders = []
    write = synthetic.write
    monkeypatch.setattr(
        synthetic,
        "write",
        lambda folder, **settings: folders.append(folder.name) or write(folder, **settings),
    )
    sources.read(config)
    assert re.match(r"\.synthetic_raw-v\d+-7-16-0\.building-", folders[0])


def test_read_never_draws_over_real_images(config, raw_dir):
    before = sorted(raw_dir.rglob("*"))
    config.data.dataset = "synthetic"
    with pytest.raises(InputError):
        sources.read(config)
    assert sorted(raw_dir.rglob("*")) == before
