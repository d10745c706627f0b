"""How what a case keeps reads: notes with their little Markdown, sizes of files, short hashes."""

from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from cases import markup

register = template.Library()

KIND_ICONS = {"csv": "list", "xlsx": "list", "eml": "send"}


@register.filter
def marked_up(text: str) -> SafeString:
    """A note's text as HTML."""
    return markup.marked_up(text)


@register.filter
def size_words(size: int) -> str:
    """4.1 MB, 12 kB, 1 byte."""
    if size >= 1 << 20:
        return f"{size / (1 << 20):.1f} MB"
    if size >= 1024:
        return f"{size // 1024} kB"
    return f"{size} byte{'' if size == 1 else 's'}"


@register.filter
def short_hash(digest: str) -> str:
    """The first and last figures of a hash; the whole stands in its title."""
    return f"{digest[:8]}…{digest[-6:]}"


@register.filter
def file_icon(kind: str) -> str:
    """The glyph of a kind of file."""
    return KIND_ICONS.get(kind, "file-text")
