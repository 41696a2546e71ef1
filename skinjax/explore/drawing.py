"""Figures as PNG files and in the page."""

import io
import warnings
from pathlib import Path

from matplotlib.figure import Figure

from skinjax import logs
from skinjax.html_page import Html, image


def draw(out: Path, name: str, figure: Figure, alt: str = "") -> Html:
    """Writes the figure as a PNG and returns it for the page."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Names in other scripts than the font's: boxes in the plot, right in the table beside it.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="png")
    logs.write_bytes(out / f"{name}.png", buffer.getvalue())
    return image(buffer.getvalue(), alt=alt or name.replace("_", " ").capitalize())
