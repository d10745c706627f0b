"""What the desk's templates share: icons, money, scores, outcomes, times and masked identifiers.

{% load desk %}
{% icon "inbox" %}                          <svg class="d-icon">, decorative; label="…" makes it speak
{{ minor|money:currency }}                  1,899.00 EUR with the currency's own decimals (JPY 0, KWD 3)
{% score 968 %} {% outcome "review" %}      score with its bar; outcome as a badge
{{ moment|clock }} {{ moment|day_clock }}   in the reader's zone, UTC in the title
{{ reference|masked:"CU" }}                 CU ••4417
"""

from datetime import UTC, datetime

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from alerts.live import amount_text
from alerts.live import band as band_of
from transactions import masks
from transactions.codes import CURRENCY, OUTCOME

register = template.Library()

OUTCOME_BADGES = {"decline": " d-badge--critical", "review": " d-badge--accent", "challenge": " d-badge--line"}


@register.simple_tag
def icon(name: str, size: str = "", label: str = "", extra: str = "") -> SafeString:
    """An icon of the sprite. `size`: "s" or "l"; `label` gives it a spoken name; `extra` adds classes."""
    classes = " ".join(filter(None, ["d-icon", size and f"d-icon--{size}", extra]))
    href = f"{static('desk/icons/sprite.svg')}#{name}"
    if label:
        return format_html('<svg class="{}" role="img" aria-label="{}"><use href="{}"/></svg>', classes, label, href)
    return format_html('<svg class="{}" aria-hidden="true"><use href="{}"/></svg>', classes, href)


def currency_text(currency: str | int) -> str:
    """The ISO 4217 letters of a currency given as letters or as its stored number."""
    return currency if isinstance(currency, str) else CURRENCY.text(currency)


@register.filter
def money(minor: int | None, currency: str | int) -> SafeString | str:
    """An amount in minor units with its currency after it, for right-aligned cells."""
    if minor is None:
        return "not sent"
    letters = currency_text(currency)
    text = amount_text(minor, letters)
    value = text.replace(",", "")
    return format_html(
        '<data value="{}">{}</data><span class="d-ccy">{}</span>', value, text.replace("-", "−"), letters
    )


@register.filter
def money_text(minor: int | None, currency: str | int) -> str:
    """The same as running text: "1,899.00 EUR"."""
    if minor is None:
        return "not sent"
    letters = currency_text(currency)
    return f"{amount_text(minor, letters)} {letters}".replace("-", "−")


@register.filter
def band(score: int | None) -> str:
    """The severity word of a score (0–1000): critical, high, medium or low."""
    return band_of(score or 0)


@register.simple_tag
def score(value: int | None) -> SafeString:
    """A score with its bar, e.g. 968 with a critical bar; a missing score reads as a dash."""
    if value is None or value < 0:
        return mark_safe('<span class="d-score"><b>–</b><span class="d-sr">no score</span></span>')
    return format_html(
        '<span class="d-score"><b>{}</b><svg viewBox="0 0 36 6" role="img" aria-label="{}">'
        '<rect class="d-track" width="36" height="6" rx="3"/>'
        '<rect class="d-fill-{}" width="{}" height="6" rx="3"/></svg></span>',
        value,
        f"{band(value)} score",
        band(value),
        f"{max(0, min(1000, value)) * 0.036:.1f}",
    )


@register.simple_tag
def severity(level: int) -> SafeString:
    """A severity as its glyph and name, P1 (most urgent) to P4."""
    return format_html('<span class="d-prio d-prio--{}">{}P{}</span>', level, icon(f"prio-{level}"), level)


@register.simple_tag
def outcome(value: str | int) -> SafeString:
    """An outcome (text or stored number) as a badge."""
    text = value if isinstance(value, str) else OUTCOME.text(value)
    return format_html('<span class="d-badge{}">{}</span>', OUTCOME_BADGES.get(text, ""), text.capitalize())


def _time(moment: datetime | None, pattern: str) -> SafeString | str:
    if moment is None:
        return "–"
    local, utc = timezone.localtime(moment), moment.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        utc.strftime("%Y-%m-%d %H:%M:%S UTC"),
        local.strftime(pattern).lstrip("0") if pattern.startswith("%d") else local.strftime(pattern),
    )


@register.filter
def clock(moment: datetime | None) -> SafeString | str:
    """14:07:29 in the reader's zone."""
    return _time(moment, "%H:%M:%S")


@register.filter
def day_clock(moment: datetime | None) -> SafeString | str:
    """20 Nov 14:07 in the reader's zone."""
    return _time(moment, "%d %b %H:%M")


@register.filter
def span(seconds: float | None) -> str:
    """A length of time in at most two units: "0.4 s", "12 min", "2 d 03 h"."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if not minutes:
        return f"{int(seconds)} s"
    if not hours:
        return f"{minutes} min"
    return f"{days} d {hours % 24:02d} h" if days else f"{hours} h {minutes % 60:02d}"


@register.filter
def masked(token: object, prefix: str = "") -> str:
    """An identifier by its last four characters: "CU ••4417"; short ones show nothing of themselves."""
    return masks.masked(str(token or ""), prefix) or "not sent"


LETTERS = ("atm", "api")  # said letter by letter


@register.filter
def words(name: str) -> str:
    """A stored name as people say it: "card_present" gives "Card present"."""
    return name.upper() if name in LETTERS else name.replace("_", " ").capitalize()


@register.simple_tag
def share(part: int, whole: int) -> str:
    """Per cent with one decimal; a dash of nothing."""
    return f"{100 * part / whole:.1f}" if whole else "–"


@register.simple_tag
def heat(count: int, whole: int, age: int) -> str:
    """The class of a cell of the backlog: darker with its share; cases older than three days stand out."""
    if not count:
        return "d-quiet"
    if age == 3:
        return "h-x"
    return "h-3" if count > whole / 2 else "h-2" if count > whole / 4 else "h-1"
