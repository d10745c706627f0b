"""The little Markdown that notes know: **bold**, *italics*, lists, links to cases (C-123) and people (@name).

Everything is escaped first, and only then are our own few tags put in; a note can therefore bring no markup, no
address and no image of its own.
"""

from __future__ import annotations

import re

from django.urls import reverse
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

NAMED = re.compile(r"(?<![\w.@+/-])@([\w](?:[\w.+-]*[\w])?)")
_CASE = re.compile(r"(?<![\w-])[Cc]-([1-9]\d{0,17})(?![\w-])")
_BOLD = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*")
_ITALIC = re.compile(r"(?<![\w*])\*(?=[^\s*])(.+?)(?<=[^\s*])\*(?![\w*])")
_ITEM = re.compile(r"(?:[-*•]|(\d{1,3})[.)])\s+(.*)")


def names_in(text: str) -> list[str]:
    """The names after an @, each once, in their order; not those inside an e-mail address."""
    return list(dict.fromkeys(NAMED.findall(text)))


def marked_up(text: str) -> SafeString:
    """A note's text as HTML."""
    blocks = re.split(r"\n\s*\n", text.replace("\r\n", "\n").strip())
    return mark_safe("".join(_block(block) for block in blocks))  # escaped line by line in _inline


def plain(text: str) -> str:
    """The text without the marks of bold and italics, for a line that shows none."""
    return _ITALIC.sub(r"\1", _BOLD.sub(r"\1", text))


def _block(block: str) -> str:
    """A block's lines in their order: runs of items are lists, runs of others paragraphs."""
    parts: list[tuple[str, list[str]]] = []
    for line in block.split("\n"):
        item = _ITEM.fullmatch(line.strip())
        kind = ("ol" if item[1] else "ul") if item else "p"
        if not parts or parts[-1][0] != kind:
            parts.append((kind, []))
        parts[-1][1].append(_inline(item[2] if item else line.strip()))
    return "".join(_part(kind, lines) for kind, lines in parts)


def _part(kind: str, lines: list[str]) -> str:
    if kind == "p":
        return f"<p>{'<br>'.join(lines)}</p>"
    return f"<{kind}>{''.join(f'<li>{line}</li>' for line in lines)}</{kind}>"


def _inline(line: str) -> str:
    safe = str(escape(line))
    safe = _BOLD.sub(r"<strong>\1</strong>", safe)
    safe = _ITALIC.sub(r"<em>\1</em>", safe)
    safe = _CASE.sub(_link, safe)
    return NAMED.sub(r'<span class="c-mention">@\1</span>', safe)


def _link(found: re.Match[str]) -> str:
    return f'<a href="{reverse("admin:case", args=[int(found[1])])}">C-{found[1]}</a>'
