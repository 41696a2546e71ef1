"""Pages: escaped, well-formed, without anything from outside."""

import base64
from html.parser import HTMLParser

from skinjax import html_page

_NASTY = "</td><script>alert('1')</script>&amp;\""


def texts(page: str) -> list[tuple[str, str]]:
    """The texts of a page, each with the tag that it is in."""
    found, open_tags = [], []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img"):
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

        def handle_data(self, data):
            if data.strip():
                found.append((open_tags[-1], data))

    parser = Parser()
    parser.feed(page)
    parser.close()
    assert not open_tags
    return found


def test_every_text_is_escaped():
    body = [
        html_page.section(
            _NASTY,
            [
                html_page.paragraph(_NASTY),
                html_page.note(_NASTY),
                html_page.lines(_NASTY),
                html_page.table([_NASTY, "n"], [[_NASTY, _NASTY]], caption=_NASTY),
                html_page.image(b"png", alt=_NASTY, caption=_NASTY),
            ],
        )
    ]
    page = html_page.page(_NASTY, body)
    assert [tag for tag, text in texts(page) if text == _NASTY] == [
        *("title", "h1", "a", "h2", "p", "p", "p", "caption", "th", "th", "td", "figcaption")
    ]
    assert "<script" not in page


def test_contents_link_to_the_sections():
    page = html_page.page("t", [html_page.section(title, []) for title in ("Body site", "Ages")])
    assert '<li><a href="#body-site">Body site</a></li><li><a href="#ages">Ages</a></li>' in page
    assert '<h2 id="body-site">Body site</h2>' in page
    assert "<nav" not in html_page.page("t", [html_page.paragraph("no section")])


def test_an_image_is_inside_the_page():
    png = bytes(range(256))
    page = html_page.page("t", [html_page.image(png, alt="a plot")])
    assert f'src="data:image/png;base64,{base64.b64encode(png).decode()}"' in page
    assert "default-src 'none'; img-src data:;" in page
    assert "http:" not in page
    assert "https:" not in page


def test_numbers_are_told_from_texts():
    table = html_page.table(["name", *"abcdef"], [["1", "1,234", "-5.0%", "", 7, "7 nevi", "1-2"]])
    assert table.count("<td>") == 4
    assert table.count('<td class="text">') == 2


def test_what_html_cannot_hold_is_replaced():
    page = html_page.page("t", [html_page.paragraph("a\x00b\x1b\udc80c\td")])
    assert ("p", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}?c\td") in texts(page)
    page.encode("utf-8")
