"""Figures of counts: arrays in, a matplotlib `Figure` out (no pyplot, no files)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from skinjax.explore import style


def bars(
    names: Sequence[str], count_K: Sequence[int], *, caption: str, xlabel: str, ylabel: str = ""
) -> Figure:
    """One bar for each name, from the top down, with its count and share."""
    count_K = [int(count) for count in count_K]
    figure = style.figure_with((8, 1.9 + 0.34 * len(names)), caption)
    axes = figure.add_subplot()
    axes.barh(range(len(names)), count_K, color=style.BAR)
    total = max(sum(count_K), 1)
    for place, count in enumerate(count_K):
        axes.text(count, place, f" {count:,} ({_percent(count / total)})", va="center", fontsize=8)
    axes.set_xlim(0, max(*count_K, 1) * 1.25)  # room for the text behind the longest bar
    _count_axis(axes, xlabel)
    style.name_axis(axes, names)
    axes.set_ylabel(ylabel)
    return figure


def bars_by_split(
    splits: Sequence[str],
    names: Sequence[str],
    count_SK: np.ndarray,
    *,
    caption: str,
    xlabel: str,
) -> Figure:
    """One panel for each split with a bar for each name, its count and its share of the split."""
    figure = style.figure_with((2.4 + 2.7 * len(splits), 1.9 + 0.34 * len(names)), caption)
    panels = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
    for axes, split, count_K in zip(panels, splits, count_SK.tolist(), strict=True):
        total = sum(count_K)
        axes.barh(range(len(names)), count_K, color=style.BAR)
        for place, count in enumerate(count_K):
            share = f" ({_percent(count / total)})" if total else ""
            axes.text(count, place, f" {count:,}{share}", va="center", fontsize=8)
        axes.set_title(f"{split} (n={total:,})", fontsize=10)
        axes.set_xlim(0, max(*count_K, 1) * 1.8)
        _count_axis(axes, xlabel)
    style.name_axis(panels[0], names)
    return figure


def split_shares(
    splits: Sequence[str],
    names: Sequence[str],
    share_KS: np.ndarray,
    wanted_S: Sequence[float] | None,
    *,
    caption: str,
) -> Figure:
    """Each name's share in each split; where it is known what was wanted, how far it is off."""
    figure = style.figure_with((8, 2.1 + 0.34 * len(names)), caption)
    axes = figure.add_subplot()
    value_KS = 100 * share_KS
    if wanted_S is not None:
        value_KS = value_KS - 100 * np.asarray(wanted_S)
        axes.axvline(0, color="black", linewidth=0.8)
        largest = np.nanmax(np.abs(value_KS), initial=0)
        limit = max(1.15 * largest, 0.5)
        axes.set_xlim(-limit, limit)
        axes.set_xlabel("share less the wanted share, in percentage points")
    else:
        axes.set_xlim(-2, 102)
        axes.set_xlabel("share of the images in percent")
    colours = (style.SECOND, style.BAR, style.THIRD)
    for split, (name, colour) in enumerate(zip(splits, colours, strict=True)):
        place_K = np.arange(len(names)) + 0.2 * (split - 1)
        axes.scatter(value_KS[:, split], place_K, color=colour, label=name, s=36, zorder=3)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    style.name_axis(axes, names)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False)
    return figure


def shares(
    rows: Sequence[str],
    columns: Sequence[str],
    count_RK: np.ndarray,
    total_R: np.ndarray,
    *,
    caption: str,
) -> Figure:
    """A grid of shares of the row's images, with the counts below them."""
    share_RK = count_RK / np.maximum(total_R, 1)[:, None]
    # Names of the columns stand on end, so their length adds to the height.
    longest = max(min(len(name), style.LONGEST) for name in columns)
    size = (3.6 + 0.62 * len(columns), 1.9 + 0.42 * len(rows) + 0.075 * longest)
    figure = style.figure_with(size, caption)
    axes = figure.add_subplot()
    image = axes.imshow(share_RK, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    figure.colorbar(image, label="share", aspect=30)
    for row, column in np.ndindex(*share_RK.shape):
        share, count = share_RK[row, column], count_RK[row, column]
        percent = f"{share:.0%}" if share >= 0.005 else "<1%"
        text = f"{percent}\n({count:,})" if count else "0"
        colour = "white" if share > 0.55 else "black" if count else style.GREY
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    axes.set_xticks(
        range(len(columns)),
        [style.plain(name) for name in columns],
        rotation=45,
        ha="right",
        rotation_mode="anchor",
        fontsize=9,
    )
    style.name_axis(axes, _with_counts(rows, total_R))
    return figure


def ages(age_C: Sequence[np.ndarray], names: Sequence[str], *, caption: str) -> Figure:
    """All known ages, and those of each class: median, quartiles, extremes. Not for no ages."""
    age_N = np.concatenate(age_C)
    figure = style.figure_with((11, max(4.2, 1.9 + 0.34 * len(names))), caption)
    left, right = figure.subplots(1, 2)
    low, high = np.floor(age_N.min() / 5) * 5, np.floor(age_N.max() / 5) * 5 + 5
    edges = np.arange(low, high + 1, 5) if high - low <= 200 else 40
    left.hist(age_N, bins=edges, color=style.BAR, edgecolor="white")
    left.set_title(f"all classes (n={len(age_N):,})", fontsize=10)
    left.set_xlabel("age in years")
    left.set_ylabel("images")
    left.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    known = [place for place, age_n in enumerate(age_C) if len(age_n)]
    right.boxplot(
        [age_C[place] for place in known],
        positions=known,
        orientation="horizontal",
        whis=(0, 100),
        widths=0.6,
        patch_artist=True,
        boxprops={"facecolor": style.BAR},
        medianprops={"color": style.SECOND, "linewidth": 2},
        manage_ticks=False,
    )
    for place in set(range(len(names))) - {*known}:
        right.text(age_N.min(), place, "no age known", va="center", color=style.GREY, fontsize=8)
    right.set_title("by class: median, quartiles, least and largest", fontsize=10)
    right.set_xlabel("age in years")
    style.name_axis(right, _with_counts(names, [len(age_n) for age_n in age_C]))
    return figure


def _count_axis(axes: Axes, label: str) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.set_xlabel(label)


def _with_counts(names: Sequence[str], count_K: Sequence[int] | np.ndarray) -> list[str]:
    """The count last, and there even if the name is cut."""
    return [
        f"{style.shorten(name, style.LONGEST - 11)} (n={count:,})"
        for name, count in zip(names, count_K, strict=True)
    ]


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.0005 or share == 0 else "<0.1%"
