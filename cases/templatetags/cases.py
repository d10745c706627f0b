"""How the parts of a case read: priority, status, people, and what is left of the time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from alerts.live import amount_text
from cases.workflow import Disposition, Status

register = template.Library()

SOON = timedelta(hours=1)
CHANNELS = {
    "card_present": "POS",
    "ecommerce": "E-com",
    "atm": "ATM",
    "mobile_app": "App",
    "online_banking": "Online",
    "branch": "Branch",
    "phone": "Phone",
    "batch": "Batch",
    "api": "API",
    "other": "Other",
}
NOBODY = mark_safe(  # a constant of our own, nothing in it comes from outside
    '<span class="d-person d-quiet"><span class="d-avatar d-avatar--none"></span>'
    '<span class="d-word">Nobody</span></span>'
)
STATUS_ICONS = {Status.PENDING_APPROVAL: "st-approval"}
GOOD = {Disposition.LEGITIMATE, Disposition.LEGITIMATE_USEFUL}


def icon(name: str, size: str = "") -> SafeString:
    """A glyph of the desk's sprite."""
    classes = f"d-icon d-icon--{size}" if size else "d-icon"
    return format_html(
        '<svg class="{}" aria-hidden="true"><use href="{}#{}"/></svg>', classes, static("desk/icons/sprite.svg"), name
    )


@register.simple_tag
def prio(level: int) -> SafeString:
    """P1 with its glyph."""
    return format_html('<span class="d-prio d-prio--{}">{}P{}</span>', level, icon(f"prio-{level}"), level)


@register.simple_tag
def status(value: str) -> SafeString:
    """A status with its glyph."""
    name = value.replace("_", "-")
    glyph = STATUS_ICONS.get(value, f"st-{name}")
    return format_html(
        '<span class="d-status d-status--{}">{}<span class="d-word">{}</span></span>',
        name,
        icon(glyph),
        Status(value).label,
    )


@register.simple_tag
def disposition(value: str) -> SafeString:
    """A disposition as a badge."""
    kind = " d-badge--good" if value in GOOD else " d-badge--critical" if value == Disposition.CONFIRMED_FRAUD else ""
    return format_html('<span class="d-badge{}">{}</span>', kind, Disposition(value).label)


@register.simple_tag
def person(user: Any, me: Any) -> SafeString:
    """A person by initials and name; nobody is a dashed ring."""
    if user is None:
        return NOBODY
    kind = " d-avatar--me" if user.pk == me.pk else ""
    return format_html(
        '<span class="d-person"><span class="d-avatar{}" aria-hidden="true">{}</span>'
        '<span class="d-word">{}</span></span>',
        kind,
        user.initials,
        name_of(user),
    )


@register.filter
def name_of(user: Any) -> str:
    """A person's name as colleagues read it."""
    return "the system" if user is None else user.get_full_name() or user.get_username()


def length(span: timedelta) -> str:
    """21 min, 2 h 05, 3 d 04 h."""
    minutes = int(span.total_seconds() // 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d}"
    return f"{minutes // 1440} d {minutes // 60 % 24:02d} h"


def due_words(due_at: datetime, now: datetime) -> tuple[str, str]:
    """(kind, words): ("late", "late 11 min"), ("soon", "21 min left") or ("", "2 h 05 left")."""
    if due_at < now:
        return "late", f"late {length(now - due_at)}"
    return ("soon" if due_at - now < SOON else ""), f"{length(due_at - now)} left"


@register.simple_tag
def due(due_at: datetime) -> SafeString:
    """What is left until a case is due, in words; late and soon carry a glyph too."""
    kind, words = due_words(due_at, timezone.now())
    glyph = icon("circle-alert", "s") if kind == "late" else icon("clock", "s") if kind else ""
    local = timezone.localtime(due_at).strftime("%d %b %H:%M").lstrip("0")
    return format_html(
        '<span class="d-due{}" title="due {}">{}{}</span>', f" d-due--{kind}" if kind else "", local, glyph, words
    )


@register.filter
def age(moment: datetime) -> str:
    """How long ago, in at most two units."""
    return length(timezone.now() - moment)


@register.filter
def channel(value: str) -> str:
    """A channel as a column has room for."""
    return CHANNELS.get(value, value)


@register.filter
def spoken(code: str) -> str:
    """A code as people say it: "account_takeover" is "Account takeover"."""
    return code.replace("_", " ").capitalize()


@register.filter
def plain_money(minor: int, currency: str) -> str:
    """An amount without its currency, for a column that names it."""
    return amount_text(minor, currency)
