"""One HTML page that needs nothing but itself: no script, no network, images as data URIs.

Every function that takes text escapes it; only these functions make `Html`.
"""

import base64
import html
import re
from collections.abc import Iterable, Sequence
from typing import NewType

Html = NewType("Html", str)

# Nothing may be loaded, even if a text got past the escaping.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_LONG = 60  # rows, above which a table gets bars to scroll it with
_NUMBER = re.compile(r"[-+]?[\d,.]+( ?%| \([^()]*\)| to [-+]?[\d.]+)?|not available|")
_STYLE = """
:root { color-scheme: light dark; --line: #c8c8c8; --head: #f0f0f0; --dim: #5c5c5c; }
@media (prefers-color-scheme: dark) {
  :root { --line: #4a4a4a; --head: #2a2a2a; --dim: #a8a8a8; }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1, h2 { line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
p.note, figcaption, caption { color: var(--dim); }
p.lines { white-space: pre-wrap; overflow-wrap: anywhere; }
nav ul { columns: 14rem; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; background: white; }
img { box-sizing: border-box; border: 1px solid var(--line); }
div.table { overflow: auto; margin: 1rem 0; }
div.long { max-height: 36rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
caption { text-align: left; }
th, td { border: 1px solid var(--line); padding: 0.2rem 0.6rem; text-align: right; }
td { white-space: nowrap; }
th { background: var(--head); font-weight: 600; }
th:first-child, .text { text-align: left; white-space: normal; overflow-wrap: break-word; }
th:first-child { max-width: 50vw; }
td.text { min-width: 8rem; max-width: 28rem; }
"""


def page(title: str, body: Iterable[Html]) -> str:
    """A whole document with a list of its sections at the top."""
    content = "\n".join(body)
    sections = re.findall(r'<h2 id="([^"]*)">(.*?)</h2>', content)
    links = "".join(f'<li><a href="#{name}">{text}</a></li>' for name, text in sections)
    contents = f'<nav aria-label="Contents"><ul>{links}</ul></nav>' if links else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{_escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{_escape(title)}</h1>
{contents}
{content}
</body>
</html>
"""


def section(title: str, parts: Iterable[Html]) -> Html:
    """A heading, listed at the top of the page, and what belongs under it."""
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return Html("\n".join([f'<h2 id="{name}">{_escape(title)}</h2>', *parts]))


def paragraph(text: str) -> Html:
    """Plain text."""
    return Html(f"<p>{_escape(text)}</p>")


def note(text: str) -> Html:
    """Plain text that says how something was found, set apart."""
    return Html(f'<p class="note">{_escape(text)}</p>')


def lines(text: str) -> Html:
    """Plain text with its line breaks."""
    return Html(f'<p class="lines">{_escape(text)}</p>')


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str = "") -> Html:
    """A table; the first column names the row, and columns of numbers are to the right."""
    rows = [list(row) for row in rows]
    parts = [f"<caption>{_escape(caption)}</caption>"] if caption else []
    text = [any(not _is_number(row[column]) for row in rows) for column in range(len(head))]
    cells = "".join(
        f'<th scope="col"{_kind(is_text)}>{_escape(name)}</th>'
        for name, is_text in zip(head, text, strict=True)
    )
    parts.append(f"<thead><tr>{cells}</tr></thead>")
    parts.append("<tbody>")
    for first, *others in rows:
        cells = f'<th scope="row">{_escape(str(first))}</th>'
        cells += "".join(map(_cell, others, text[1:]))
        parts.append(f"<tr>{cells}</tr>")
    parts.append("</tbody>")
    body = "\n".join(parts)
    long = " long" * (len(rows) > _LONG)
    return Html(f'<div class="table{long}" tabindex="0"><table>\n{body}\n</table></div>')


def image(png: bytes, *, alt: str, caption: str = "") -> Html:
    """A PNG inside the page."""
    data = base64.b64encode(png).decode("ascii")
    below = f"<figcaption>{_escape(caption)}</figcaption>" if caption else ""
    return Html(
        f'<figure><img src="data:image/png;base64,{data}" alt="{_escape(alt)}">{below}</figure>'
    )


def _cell(value: object, is_text: bool) -> str:
    return f"<td{_kind(is_text)}>{_escape(str(value))}</td>"


def _is_number(value: object) -> bool:
    """Whether it is a number, or one with its unit or interval."""
    return not isinstance(value, str) or _NUMBER.fullmatch(value) is not None


def _kind(is_text: bool) -> str:
    return ' class="text"' if is_text else ""


def _escape(text: str) -> str:
    """Escapes for text and quoted attributes; replaces what UTF-8 or HTML can't hold."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text)
    return html.escape(text, quote=True)
