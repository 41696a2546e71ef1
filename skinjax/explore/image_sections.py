"""The sections on the images: sizes, colours and samples in, tables and plots out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skinjax.data import contact_sheet, images
from skinjax.explore import count_plots, counts, image_plots
from skinjax.explore.counts import Columns
from skinjax.explore.drawing import draw
from skinjax.explore.sample import Sample, moments
from skinjax.html_page import Html, image, note, paragraph, section, table

_MOST = 20  # sizes that are shown, the others together


def image_sizes(columns: Columns, out: Path) -> Html:
    """Sizes and colour modes of the images as published."""
    size_counts = counts.sizes(columns)
    rest = size_counts[_MOST:]
    named = [(f"{width} x {height}", count) for (height, width), count in size_counts[:_MOST]]
    if rest:
        named.append((f"{len(rest)} other sizes", sum(count for _, count in rest)))
    names, count_K = [name for name, _ in named], [count for _, count in named]
    caption = "Sizes as published, width x height in pixels"
    bars = count_plots.bars(names, count_K, caption=caption, xlabel="images")
    shown = [draw(out, "image_sizes", bars)]
    if len(size_counts) > 1:
        figure = image_plots.sizes(
            np.array([size for size, _ in size_counts]),
            np.array([count for _, count in size_counts]),
            caption="Width and height as published",
        )
        shown.append(draw(out, "image_sizes_scatter", figure))
    shown.append(table(["Width x height", "Images"], [[n, f"{c:,}"] for n, c in named]))
    height_N, width_N = columns.size_N2.T
    shown.append(
        paragraph(
            f"Width {width_N.min()} to {width_N.max()}, median {np.median(width_N):g}; height "
            f"{height_N.min()} to {height_N.max()}, median {np.median(height_N):g} pixels."
        )
    )
    modes, count_CM = counts.values_by_class(columns, columns.text["mode"], most=_MOST)
    rows = [[mode, f"{n:,}"] for mode, n in zip(modes, count_CM.sum(axis=0), strict=True)]
    shown.append(table(["Colour mode of the file", "Images"], rows))
    return section("Image sizes", shown)


def colours(columns: Columns, sample: Sample, out: Path) -> Html:
    """Mean colours and histograms of the sampled images, as prepared."""
    names = columns.classes
    mean_C3, pixel_std_C3 = moments(sample.histogram_C3V)
    image_std_C3 = np.array([m.std(axis=0) if len(m) else [0.0] * 3 for m in sample.mean_C])
    # The sample has as many of a small class as of a large one; the whole data set does not.
    total_C = np.bincount(columns.label_N, minlength=len(names))
    pixels_C = np.maximum(sample.histogram_C3V[:, 0].sum(axis=1), 1)
    weight_3V = np.einsum("c,cjv->jv", total_C / pixels_C, sample.histogram_C3V)
    all_mean_3, all_std_3 = moments(weight_3V)
    figures = {
        "colour_means": image_plots.mean_colours(
            mean_C3, image_std_C3, names, caption="Mean colour by class"
        ),
        "colour_histograms": image_plots.colour_histograms(
            sample.histogram_C3V, names, caption="Colour histograms by class"
        ),
    }
    rows = [["all, by class size", f"{sum(map(len, sample.index_C)):,}"]]
    rows[0] += [f"{value:.1f}" for value in (*all_mean_3, *all_std_3)]
    for label, name in enumerate(names):
        read = len(sample.index_C[label])
        figures_6 = (*mean_C3[label], *pixel_std_C3[label])
        rows.append([name, f"{read:,}", *(f"{v:.1f}" if read else "" for v in figures_6)])
    head = ["Class", "Images read", *(f"{c} {s}" for s in ("mean", "std") for c in "RGB")]
    on_one = ", ".join(f"{value / 255:.3f}" for value in all_mean_3)
    deviation = ", ".join(f"{value / 255:.3f}" for value in all_std_3)
    return section(
        "Colours",
        [
            note(
                f"Measured on a seeded sample of {rows[0][1]} of {len(columns.label_N):,} images, "
                "as they were prepared; values from 0 to 255, std between pixels."
            ),
            *(draw(out, name, figure) for name, figure in figures.items()),
            table(head, rows),
            paragraph(f"On the scale from 0 to 1: mean ({on_one}), std ({deviation})."),
        ],
    )


def samples(columns: Columns, sample: Sample, out: Path) -> Html:
    """A few images of each class."""
    shown = [note("Drawn at random with a fixed seed, from all splits; image id and split below.")]
    for label, name in enumerate(columns.classes):
        tiles = sample.tile_C[label]
        if not tiles:
            shown.append(paragraph(f"{name}: no image."))
            continue
        index_n = sample.index_C[label][: len(tiles)].tolist()
        labels = [
            f"{columns.text['image_id'][i]}\n{columns.splits[columns.split_N[i]]}" for i in index_n
        ]
        caption = f"{name}: {len(tiles)} of {np.count_nonzero(columns.label_N == label):,} images"
        figure = image_plots.pictures(tiles, labels, columns=6, caption=caption)
        shown.append(draw(out, f"samples_{label:02d}", figure, caption))
    return section("Samples", shown)


def preprocessing(originals: Sequence[Path], image_size: int, out: Path) -> Html:
    """What each step of preprocessing, whether it is on or off, makes of some published files."""
    decoded = [images.decode(path) for path in originals]
    titles = [path.stem for path in originals]
    sheets = contact_sheet.write_all(out / "preprocessing", decoded, titles, image_size)
    shown = []
    for path in sheets:
        name = path.stem.replace("_", " ")
        caption = f"Before, after: {name}"
        shown.append(image(path.read_bytes(), alt=f"Before and after {name}", caption=caption))
    return section("Preprocessing", shown)
