"""The figures: names as they are, and their marks where the numbers say."""

import io

import cv2
import numpy as np
import pytest

from skinjax.explore import count_plots, image_plots, style


def texts(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("name", ["a$b$", "$x^^$", r"\$", r"$\frac$", "$", "a\nb", "", "\udc80"])
def test_any_name_can_be_drawn(name):
    figure = count_plots.bars([name], [1], caption=name, xlabel="images")
    figure.savefig(io.BytesIO(), format="png")


def test_long_names_are_cut_in_the_middle():
    name = "pigmented benign keratosis of the kind number "
    cut = {style.shorten(f"{name}{number}", 20) for number in range(10)}
    assert len(cut) == 10
    assert all(len(one) == 20 for one in cut)
    assert "pigmented ben…mber 7" in cut
    assert style.shorten("nevus", 5) == "nevus"


def test_bars_carry_count_and_share():
    (axes,) = count_plots.bars(["a", "b"], [3000, 1], caption="c", xlabel="n").axes
    assert texts(axes) == [" 3,000 (100.0%)", " 1 (<0.1%)"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_ylim() == (1.6, -0.6)  # from the top down


def test_shares_are_of_the_row():
    figure = count_plots.shares(
        ["a", "none"], ["x", "y"], np.array([[1, 399], [0, 0]]), np.array([400, 0]), caption="c"
    )
    assert texts(figure.axes[0]) == ["<1%\n(1)", "100%\n(399)", "0", "0"]


def test_split_shares_are_off_by_percentage_points():
    share_KS = np.array([[0.6, 0.2, 0.2], [np.nan] * 3])
    wanted = (["train", "val", "test"], ["a", "none"], share_KS, (0.7, 0.15, 0.15))
    (axes,) = count_plots.split_shares(*wanted, caption="c").axes
    dots = [dots.get_offsets()[0, 0] for dots in axes.collections]
    np.testing.assert_allclose(dots, [-10, 5, 5])
    (axes,) = count_plots.split_shares(*wanted[:3], None, caption="c").axes
    np.testing.assert_allclose([d.get_offsets()[0, 0] for d in axes.collections], [60, 20, 20])


def test_pictures_are_drawn_pixel_by_pixel():
    rng = np.random.default_rng(0)
    tiles = [rng.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(5)]
    figure = image_plots.pictures(tiles, ["label\nbelow"] * 5, columns=4, caption="c")
    png = io.BytesIO()
    figure.savefig(png, format="png")
    drawn_HWC = cv2.imdecode(np.frombuffer(png.getvalue(), np.uint8), cv2.IMREAD_COLOR_RGB)
    for tile in tiles:
        found = (drawn_HWC[:, :-127] == tile[0, 0]).all(axis=-1)
        assert any(
            np.array_equal(drawn_HWC[y : y + 128, x : x + 128], tile) for y, x in np.argwhere(found)
        )


def test_ages_say_where_none_is_known():
    figure = count_plots.ages([np.array([20.0, 30.0]), np.array([])], ["a", "b"], caption="c")
    assert texts(figure.axes[1]) == ["no age known"]
