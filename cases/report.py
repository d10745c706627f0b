"""The report of a case as PDF, drawn from the pack's document alone: A4, Inter embedded, every page named and numbered.

The library draws only what the font has; what it lacks (ideographs, for one) stands as ¤ and the first
page says so: the JSON of the same pack has every letter.
"""

from __future__ import annotations

import io
import re
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import BaseDocTemplate, CondPageBreak, Frame, PageTemplate, Paragraph, Spacer, Table, TableStyle

from cases.markup import marked_up

FONTS = Path(__file__).parent / "fonts"
PLAIN, STRONG = "Inter", "Inter-SemiBold"
MISSING = "¤"
INK, QUIET, LINE, ACCENT, TINT = (HexColor(f"#{value}") for value in ("1a1d21", "5b6470", "d5dae0", "1d4ed8", "f4f6f8"))
MARGIN = 18 * mm
WIDTH = A4[0] - 2 * MARGIN
ROOM = 30 * mm  # a section begins on the next page when less than this is left
NOTE_TAGS = (
    ("<strong>", "<b>"), ("</strong>", "</b>"), ("<em>", "<i>"), ("</em>", "</i>"), ("<br>", "<br/>"),
    ("<p>", ""), ("</p>", "<br/>"), ("<li>", "• "), ("</li>", "<br/>"),
    ("<ul>", ""), ("</ul>", ""), ("<ol>", ""), ("</ol>", ""),
)  # fmt: skip
PAYMENTS = (0.26, 0.16, 0.2, 0.14, 0.1, 0.14)  # shares of the width


def drawn(told: dict[str, Any]) -> bytes:
    """The PDF of a pack's document."""
    _fonts()
    out = io.BytesIO()
    number, made = told["case"]["number"], told["made"]
    template = BaseDocTemplate(
        out,
        pagesize=A4,
        title=f"Case report {number}",
        author=made["by"],
        subject="Fraud case report",
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=22 * mm,
        bottomMargin=18 * mm,
    )
    frame = Frame(MARGIN, 18 * mm, WIDTH, A4[1] - 40 * mm, leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0)

    def furniture(canvas: Canvas, page: Any) -> None:
        _furniture(canvas, page.page, f"{number} · made {made['at']} by {made['by']}")

    template.addPageTemplates([PageTemplate(frames=[frame], onPage=furniture)])
    template.build(_story(told))
    return out.getvalue()


@cache
def _fonts() -> frozenset[int]:
    """Registers the fonts, once in a process; the letters they have."""
    plain = TTFont(PLAIN, str(FONTS / "Inter-Regular.ttf"))
    pdfmetrics.registerFont(plain)
    pdfmetrics.registerFont(TTFont(STRONG, str(FONTS / "Inter-SemiBold.ttf")))
    pdfmetrics.registerFontFamily(PLAIN, normal=PLAIN, bold=STRONG, italic=PLAIN, boldItalic=STRONG)
    return frozenset(plain.face.charToGlyph)


def _drawable(text: str) -> str:
    """The text with a sign for every letter that the font lacks."""
    known, text = _fonts(), text.replace("→", "›")
    return "".join(letter if ord(letter) in known or letter == "\n" else MISSING for letter in text)


def _lacks_letters(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_lacks_letters, value.values()))
    if isinstance(value, list):
        return any(map(_lacks_letters, value))
    return isinstance(value, str) and MISSING in _drawable(value.replace(MISSING, ""))


def _style(name: str, size: float, lead: float, font: str = PLAIN, color: Any = INK, **more: Any) -> ParagraphStyle:
    return ParagraphStyle(name, fontName=font, fontSize=size, leading=lead, textColor=color, splitLongWords=1, **more)


BODY = _style("body", 8.5, 12)
SMALL = _style("small", 7.5, 10.5)
HINT = _style("hint", 7.5, 10.5, color=QUIET)
HEAD = _style("head", 7.5, 10.5, color=QUIET)
TITLE = _style("title", 18, 23, STRONG, spaceAfter=2)
LEAD = _style("lead", 10, 14, spaceAfter=6)
SECTION = _style("section", 11.5, 15, STRONG, spaceBefore=12, spaceAfter=4)
SUB = _style("sub", 9, 13, STRONG, spaceBefore=6, spaceAfter=2, keepWithNext=1)
NOTE_HEAD = _style("note", 7.5, 10.5, color=QUIET, keepWithNext=1)
CODE = _style("code", 6.5, 9.5, color=QUIET)


def _text(value: Any, style: ParagraphStyle = BODY) -> Paragraph:
    return Paragraph(escape(_drawable(str(value))).replace("\n", "<br/>"), style)


def _story(told: dict[str, Any]) -> list[Any]:
    case = told["case"]
    story: list[Any] = [_text(f"Case report {case['number']}", TITLE), _text(_lead(case), LEAD)]
    if _lacks_letters(told):
        story.append(
            _text(f"{MISSING} stands for a letter that cannot be drawn here; the JSON of the pack has it.", HINT)
        )
    if told["cut"]:
        story.append(_text(f"Shortened here: {', '.join(told['cut'])}. The audit export has every line.", HINT))
    story += [_pairs(_summary(case))]
    for draw in (_late, _reasons, _alerts, _notes, _files, _filings, _timeline, _history):
        story += draw(told)
    return story


def _lead(case: dict[str, Any]) -> str:
    if not case["disposition"]:
        return f"Not closed: {case['status'].lower()}."
    kind = f", {case['fraud_type'].lower()}" if case["fraud_type"] else ""
    return f"{case['disposition']}{kind}. {case['close_reason']}."


def _summary(case: dict[str, Any]) -> list[tuple[str, Any]]:
    names = (
        ("Status", "status"), ("Queue", "queue"), ("Customer", "customer"), ("At risk", "amount_at_risk"),
        ("Alerts", "alerts"), ("Priority", "priority"), ("Highest score", "score"), ("Opened", "opened_at"),
        ("Due", "due_at"), ("In hand of", "assignee"), ("Closed", "closed_at"), ("Closed by", "closed_by"),
    )  # fmt: skip
    rows = [(title, case[name]) for title, name in names if case[name] not in ("", None)]
    if case["tags"]:
        rows.append(("Tags", ", ".join(case["tags"])))
    return rows + ([("Rationale", case["rationale"])] if case["rationale"] else [])


def _late(told: dict[str, Any]) -> list[Any]:
    rows = [
        [each["at"], each["source"], each["verdict"], each["payment"], each["closed_as"]]
        for each in told["late_labels"]
    ]
    return _section(
        "Labels that came later and say otherwise", ("Recorded", "Source", "Says", "Payment", "Closed as"), rows
    )


def _reasons(told: dict[str, Any]) -> list[Any]:
    story: list[Any] = []
    for each in told["in_full"]:
        head = f"Payment {each['payment']}: {each['amount']}, {each['at']}"
        versions = f"model {each['model']}, policy {each['policy']}, release {each['release']}"
        judged = f"Score {each['score']}, decided {each['decided_at']}; {versions}"
        story += [_text(head, SUB), _text(judged, NOTE_HEAD)]
        for title, name in (("Rule hits", "rules"), ("Lists hit", "lists"), ("Model factors", "factors")):
            if each[name]:
                story += [_evidence(title, each[name]), Spacer(1, 4)]
        for group in each["facts"]:
            rows = [
                (fact["name"], f"{fact['value']}" + (f" ({fact['hint']})" if fact["hint"] else ""))
                for fact in group["lines"]
            ]
            story += ([_text(group["group"], NOTE_HEAD)] if group["group"] else []) + [_pairs(rows), Spacer(1, 4)]
    return [_text("Why it was flagged, and the facts", SECTION), *story] if story else []


def _evidence(title: str, lines: list[dict[str, str]]) -> Table:
    rows = [[line["text"], line["source"], line["weight"]] for line in lines]
    return _table((title, "Source", "Weight"), rows, (0.48, 0.4, 0.12))


def _alerts(told: dict[str, Any]) -> list[Any]:
    rows = [
        [each["at"], each["payment"], each["amount"], each["outcome"], each["score"], each["money"]]
        for each in told["alerts"]
    ]
    return _section("Payments of the case", ("Time", "Payment", "Amount", "Outcome", "Score", "Money"), rows, PAYMENTS)


def _notes(told: dict[str, Any]) -> list[Any]:
    story: list[Any] = []
    for note in told["notes"]:
        about = f", about the {note['about'].lower()}" if note["about"] else ""
        corrects = f", corrects note {note['corrects']}" if note["corrects"] else ""
        head = _text(f"Note {note['number']}, {note['by']}, {note['at']}{about}{corrects}", NOTE_HEAD)
        story += [head, Paragraph(_note_text(note["text"]), BODY), Spacer(1, 5)]
    return [CondPageBreak(ROOM), _text("Notes", SECTION), *story] if story else []


def _note_text(text: str) -> str:
    """A note's little Markdown in the tags that the library draws; links and names stay as words."""
    told = re.sub(r"</?(?:a|span)\b[^>]*>", "", marked_up(_drawable(text)))
    for ours, theirs in NOTE_TAGS:
        told = told.replace(ours, theirs)
    return told.removesuffix("<br/>")


def _files(told: dict[str, Any]) -> list[Any]:
    rows = [
        [each["number"], _file_name(each), f"{each['size']:,} bytes", f"{each['by']}, {each['at']}", each["scanned"],
         _text(each["sha256"], CODE)]
        for each in told["files"]
    ]  # fmt: skip
    return _section(
        "Files", ("No.", "Name", "Size", "Added", "Scan", "SHA-256"), rows, (0.05, 0.24, 0.13, 0.2, 0.13, 0.25)
    )


def _filings(told: dict[str, Any]) -> list[Any]:
    rows = [
        [each["at"], each["by"], each["decision"], each["detected_on"], each["filed_on"] or "–",
         "\n".join(filter(None, [each["reference"], each["note"]]))]
        for each in told["filings"]
    ]  # fmt: skip
    heads = ("Kept", "By", "Decision", "Detected", "Filed", "Number and note")
    shares = (0.2, 0.15, 0.13, 0.12, 0.12, 0.28)
    return _section("Reports of suspicious activity: not for the customer", heads, rows, shares)


def _file_name(each: dict[str, Any]) -> str:
    return each["name"] + (f"\nRemoved {each['removed']}" if each["removed"] else "")


def _timeline(told: dict[str, Any]) -> list[Any]:
    rows = [[each["at"], each["title"], each["hint"]] for each in told["timeline"]]
    return _section("Timeline", ("Time", "What", "Details"), rows, (0.22, 0.38, 0.4))


def _history(told: dict[str, Any]) -> list[Any]:
    rows = [
        [each["number"], each["at"], each["who"] + (f"\n{each['role']}" if each["role"] else ""), each["kind"],
         "\n".join(filter(None, [each["change"], each["note"]]))]
        for each in told["history"]
    ]  # fmt: skip
    return _section(
        "History: what was done, and who looked",
        ("No.", "Time", "Who", "Act", "Change and note"),
        rows,
        (0.09, 0.2, 0.19, 0.17, 0.35),
    )


def _section(title: str, heads: tuple[str, ...], rows: list[list[Any]], shares: tuple[float, ...] = ()) -> list[Any]:
    return [CondPageBreak(ROOM), _text(title, SECTION), _table(heads, rows, shares)] if rows else []


def _table(heads: tuple[str, ...], rows: list[list[Any]], shares: tuple[float, ...] = ()) -> Table:
    widths = [share * WIDTH for share in shares or [1 / len(heads)] * len(heads)]
    cells = [[cell if isinstance(cell, Paragraph) else _text(cell, SMALL) for cell in row] for row in rows]
    table = Table([[_text(head, HEAD) for head in heads], *cells], colWidths=widths, repeatRows=1)
    table.setStyle(TableStyle([*_LINES, ("BACKGROUND", (0, 0), (-1, 0), TINT)]))
    return table


def _pairs(rows: list[tuple[str, Any]]) -> Table:
    cells = [[_text(name, HINT), _text(value, SMALL)] for name, value in rows] or [["", ""]]
    table = Table(cells, colWidths=[0.2 * WIDTH, 0.8 * WIDTH])
    table.setStyle(TableStyle(_LINES))
    return table


_LINES: list[tuple[Any, ...]] = [
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("LINEBELOW", (0, 0), (-1, -1), 0.4, LINE),
    ("LEFTPADDING", (0, 0), (-1, -1), 3),
    ("RIGHTPADDING", (0, 0), (-1, -1), 3),
    ("TOPPADDING", (0, 0), (-1, -1), 2),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
]


def _furniture(canvas: Canvas, page: int, words: str) -> None:
    """The line at the top and the number at the foot of every page."""
    canvas.saveState()
    canvas.setFillColor(QUIET)
    canvas.setFont(PLAIN, 7.5)
    canvas.drawString(MARGIN, A4[1] - 13 * mm, _drawable(words))
    canvas.drawRightString(A4[0] - MARGIN, A4[1] - 13 * mm, "Confidential")
    canvas.setStrokeColor(LINE)
    canvas.line(MARGIN, A4[1] - 15 * mm, A4[0] - MARGIN, A4[1] - 15 * mm)
    canvas.drawRightString(A4[0] - MARGIN, 10 * mm, f"Page {page}")
    canvas.restoreState()
