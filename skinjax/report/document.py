"""A document of sections, written once and shown as HTML or as Markdown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from skinjax import html_page
from skinjax.html_page import Html

NOT_AVAILABLE = "not available"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Note:
    """A paragraph that says how something was found."""

    text: str


@dataclass(frozen=True)
class Lines:
    """Text whose line breaks are kept."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list of short texts."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Texts in rows; the first of a row names it."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A figure, by its file's name and what it shows."""

    name: str
    title: str


Part = Text | Note | Lines | Items | Table | Picture


@dataclass(frozen=True)
class Section:
    """A heading and what belongs under it."""

    title: str
    parts: tuple[Part, ...]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A `Table` of any sequences."""
    return Table(tuple(head), tuple(map(tuple, rows)))


def to_html(title: str, sections: Iterable[Section], png: Mapping[str, bytes]) -> str:
    """One page that needs no other file; `png` has the pictures by name."""
    body = []
    for section in sections:
        parts = [_html(part, png) for part in section.parts]
        body.append(html_page.section(section.title, parts))
    return html_page.page(title, body)


def to_markdown(title: str, sections: Iterable[Section], *, folder: str = "") -> str:
    """Markdown that links the pictures in `folder` (a relative path with its slash)."""
    lines = [f"# {_escaped(title)}", ""]
    for section in sections:
        lines += [f"## {_escaped(section.title)}", ""] if section.title else []
        for part in section.parts:
            lines += [*_markdown(part, folder), ""]
    return "\n".join(lines[:-1]) + "\n"


def _html(part: Part, png: Mapping[str, bytes]) -> Html:
    match part:
        case Text(text):
            return html_page.paragraph(text)
        case Note(text):
            return html_page.note(text)
        case Lines(text):
            return html_page.lines(text)
        case Items(texts):
            return html_page.lines("\n".join(f"\N{BULLET} {text}" for text in texts))
        case Table(head, rows):
            return html_page.table(head, rows)
        case Picture(name, title):
            return html_page.image(png[name], alt=title)


def _markdown(part: Part, folder: str) -> list[str]:
    match part:
        case Text(text) | Note(text):
            return [_escaped(text)]
        case Lines(text):
            # Two blanks at the end keep a line break.
            return [f"{_escaped(line)}  ".lstrip() for line in text.strip().splitlines()]
        case Items(texts):
            return [f"- {_escaped(text)}" for text in texts]
        case Table(head, rows):
            columns = list(zip(*rows, strict=True))[1:] or [()] * (len(head) - 1)
            marks = ["---", *("---:" if _is_number(column) else "---" for column in columns)]
            cells = [[_escaped(cell) for cell in row] for row in (head, *rows)]
            return [f"| {' | '.join(row)} |" for row in (cells[0], marks, *cells[1:])]
        case Picture(name, title):
            return [f"![{_escaped(title)}]({folder}{name})"]


def _is_number(column: Sequence[str]) -> bool:
    """Whether a column is one of numbers, which begin alike and are right to the right."""
    return all(
        re.match(r"[-+]?[\d,]+(\.\d+)?( |$)", cell) or cell == NOT_AVAILABLE for cell in column
    )


def _escaped(text: str) -> str:
    """Text on one line with nothing in it that Markdown, or HTML inside it, would act on."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)
    return re.sub(r"([\\`*\[\]<>|&])", r"\\\1", text)
