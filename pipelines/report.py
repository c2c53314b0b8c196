"""A report, such as a model card or a comparison: made once of blocks, and written as Markdown and as one HTML page.

Two templates give all reports their form. They escape whatever comes from data.
"""

import base64
import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

Block = dict[str, Any]
Text = str | Sequence[str]  # in pieces, of which some are `Code` or `Strong`; "\n" breaks the line

_MEDIA = {".png": "image/png", ".svg": "image/svg+xml"}
# What begins markup: brackets and underscores only where they can.
_SPECIAL = re.compile(r"([\\`*{}<>#|~&$]|(?<!\w)_|_(?!\w)|\](?=[(\[:])|\[(?=\^))")


class Code(str):
    """A piece of text that is shown as code."""


class Strong(str):
    """A piece of text that is shown in bold."""


def text(*pieces: str) -> Block:
    """Return a paragraph."""
    return {"kind": "text", "text": pieces[0] if len(pieces) == 1 else pieces}


def items(each: Iterable[Text]) -> Block:
    """Return a list."""
    return {"kind": "items", "items": list(each)}


def table(head: Sequence[Text], rows: Iterable[Sequence[Text]], marks: Sequence[str] = ()) -> Block:
    """Return a table; ``marks`` are of its rows on the page: ``good``, ``bad``, ``warn``, ``near``, ``dim`` or none."""
    return {"kind": "table", "head": list(head), "rows": [list(row) for row in rows], "marks": list(marks)}


def code(lines: str) -> Block:
    """Return text that is shown unchanged."""
    return {"kind": "code", "text": lines}


def figure(name: str, caption: str) -> Block:
    """Return a figure by its file name."""
    return {"kind": "figure", "name": name, "caption": caption}


def section(title: str, *blocks: Block, mark: str = "") -> dict[str, Any]:
    """Return a section; ``mark`` is of its title, as of the rows of `table`."""
    return {"title": title, "blocks": list(blocks), "mark": mark}


def report(
    title: Text, sections: Iterable[dict[str, Any]], *, lead: Text = "", simulated: bool = False
) -> dict[str, Any]:
    """Return a report; sections without a block are left out."""
    return {"title": title, "lead": lead, "simulated": simulated, "sections": [s for s in sections if s["blocks"]]}


def as_markdown(made: Mapping[str, Any], figures: str = "") -> str:
    """Return a report as Markdown; ``figures`` is where its figures lie, such as ``figures/``."""
    return _environment(_markdown).get_template("report.md.jinja").render(made, figures=figures)


def as_html(made: Mapping[str, Any], figures: Mapping[str, bytes] | None = None) -> str:
    """Return a report as one HTML page, which fetches nothing; ``figures`` are PNG or SVG, by their file names."""
    pictures = {
        name: f"data:{_MEDIA[Path(name).suffix]};base64,{base64.b64encode(data).decode()}"
        for name, data in (figures or {}).items()
    }
    return _environment(_html).get_template("report.html.jinja").render(made, pictures=pictures)


def read_figures(folder: Path) -> dict[str, bytes]:
    """Return the figures in ``folder``, PNG and SVG, by their file names."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*")) if path.suffix in _MEDIA}


def _markdown(piece: str) -> str:
    """Return a piece of text on one line, in which Markdown sees no markup."""
    if piece == "\n":
        return "<br>"
    folded = re.sub(r"\s+", " ", piece)
    if isinstance(piece, Code):
        return f"`{folded.replace('`', '').replace('|', chr(92) + '|')}`"
    plain = _SPECIAL.sub(r"\\\1", folded)
    return f"**{plain}**" if isinstance(piece, Strong) else plain


def _html(piece: str) -> str:
    """Return a piece of text as escaped HTML, which the template takes as it is."""
    if piece == "\n":
        return "<br>"
    plain = html.escape(piece)
    tag = "code" if isinstance(piece, Code) else "b" if isinstance(piece, Strong) else ""
    return f"<{tag}>{plain}</{tag}>" if tag else plain


@cache
def _environment(inline: Callable[[str], str]) -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=inline is _html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["inline"] = lambda given: "".join(map(inline, [given] if isinstance(given, str) else given)).strip()
    return made
