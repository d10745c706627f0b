"""How identifiers read where nobody asked for them in full."""

from __future__ import annotations


def masked(token: str | None, prefix: str = "") -> str:
    """An identifier by its last four characters: "CU ••4417"; a short one shows nothing of itself, none is ""."""
    return f"{prefix} ••{token[-4:] if len(token) > 4 else ''}".strip() if token else ""
