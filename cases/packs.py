"""The report pack of a case: one document for people (PDF), the same for machines (JSON), and the files themselves.

The pack says what the desk says: masked as the desk masks, frozen as the decision was. `document` gathers it once; the
PDF is drawn from it (cases/report.py), and the ZIP carries both with the files and the SHA-256 of each. A colleague who
takes a pack leaves a sighting with its hash, so that a copy found later can be told from a forged one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import islice
from typing import IO, Any

from django.utils import timezone

from alerts.live import amount_text
from cases import attachments, audit, dossier, factsheet, filings, late_labels, notes, report
from cases.models import Attachment, Case, Filing
from cases.timeline import timeline
from transactions.masks import masked

MOST_IN_FULL = 10  # alerts with facts and reasons; the others are listed
MOST_LINES = 400  # of timeline and history each; the audit export has them all


def document(case: Case, reader: Any) -> dict[str, Any]:
    """Everything the pack says, as plain values; what there is too much of is cut, and `cut` says so."""
    alerts = dossier.flagged(case)
    entries, more = _timeline(case)
    lines = list(islice(audit.every_line(case, reader), MOST_LINES + 1))
    cut = {"timeline": more, "history": len(lines) > MOST_LINES, "alerts": case.alert_count > len(alerts)}
    return {
        "case": _case(case),
        "made": {"at": _utc(timezone.now()), "by": _name(reader), "username": reader.get_username()},
        "alerts": [_alert(each) for each in alerts],
        "in_full": [_in_full(case, alert_id) for alert_id in _told_in_full(case, alerts)],
        "late_labels": [_late(each) for each in late_labels.of(case)],
        "notes": [_note(note) for note in reversed(notes.of_case(case))],
        "files": [_file(each) for each in attachments.of(case)],
        "filings": [_filing(each) for each in filings.of(case, reader)],
        "timeline": entries,
        "history": [_line(line) for line in lines[:MOST_LINES]],
        "cut": [name for name, was in cut.items() if was],
    }


def make_pdf(case: Case, reader: Any) -> bytes:
    """The report of a case as PDF."""
    return report.drawn(document(case, reader))


def make_zip(case: Case, reader: Any) -> tuple[IO[bytes], str]:
    """The pack as an open file that is gone when it is closed, and its SHA-256.

    Raises LostFile if a file of the case is not what was stored: a pack must not be silently short.
    """
    told = document(case, reader)
    with ExitStack() as kept:
        out: Any = kept.enter_context(tempfile.TemporaryFile())
        _write_out(out, case, told)
        out.seek(0)
        digest = hashlib.file_digest(out, "sha256").hexdigest()
        out.seek(0)
        kept.pop_all()  # whole: from here on it is the caller's to close
    return out, digest


def _write_out(out: IO[bytes], case: Case, told: dict[str, Any]) -> None:
    sums: list[tuple[str, str]] = []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        _put(archive, sums, f"{case.number}.pdf", report.drawn(told))
        _put(archive, sums, f"{case.number}.json", json.dumps(told, ensure_ascii=False, indent=1).encode())
        for each in attachments.of(case):
            if each.removed_at is None:
                _put_file(archive, sums, each)
        archive.writestr("SHA256SUMS", "".join(f"{digest}  {name}\n" for name, digest in sums))


def _put(archive: zipfile.ZipFile, sums: list[tuple[str, str]], name: str, content: bytes) -> None:
    archive.writestr(name, content)
    sums.append((name, hashlib.sha256(content).hexdigest()))


def _put_file(archive: zipfile.ZipFile, sums: list[tuple[str, str]], each: Attachment) -> None:
    """One file, copied piece by piece; its number goes before its name, which other files may share."""
    part = zipfile.ZipInfo(f"files/{each.pk}-{each.name}", each.at.astimezone(UTC).timetuple()[:6])
    part.compress_type = zipfile.ZIP_DEFLATED if each.kind in ("txt", "csv", "eml") else zipfile.ZIP_STORED
    with attachments.path_of(each).open("rb") as source, archive.open(part, "w") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    sums.append((part.filename, each.sha256))


def _case(case: Case) -> dict[str, Any]:
    return {
        "number": case.number,
        "queue": case.queue.name,
        "status": case.get_status_display(),
        "disposition": case.get_disposition_display() if case.disposition else "",
        "fraud_type": factsheet.spoken(case.fraud_type),
        "close_reason": case.close_reason.title if case.close_reason else "",
        "rationale": case.rationale,
        "priority": f"P{case.priority}",
        "score": case.score,
        "customer": masked(case.customer_ref, "CU"),
        "amount_at_risk": f"{amount_text(case.amount_base, case.lane.base_currency)} {case.lane.base_currency}",
        "alerts": case.alert_count,
        "tags": list(case.tags),
        "opened_at": _utc(case.opened_at),
        "due_at": _utc(case.due_at),
        "closed_at": _utc(case.closed_at) if case.closed_at else "",
        "assignee": _name(case.assignee) if case.assignee else "",
        "closed_by": _name(case.closed_by) if case.closed_by else "",
    }


def _alert(each: dossier.Flagged) -> dict[str, Any]:
    alert = each.alert
    return {
        "payment": alert.pk,
        "at": _utc(alert.occurred_at),
        "amount": each.amount_text,
        "outcome": alert.outcome,
        "score": alert.score,
        "money": each.money,
        "verdict": each.row.verdict,
        "reason": alert.top_reason,
    }


def _told_in_full(case: Case, alerts: list[dossier.Flagged]) -> list[int]:
    """The alerts that the pack tells in full: the worst of the whole case, then the worst of those listed."""
    worst = dossier.in_full(case)
    ordered = sorted(alerts, key=lambda each: (-each.alert.score, -each.alert.amount_base, each.alert.pk))
    named = dict.fromkeys(([worst.alert.pk] if worst else []) + [each.alert.pk for each in ordered])
    return list(named)[:MOST_IN_FULL]


def _in_full(case: Case, alert_id: int) -> dict[str, Any]:
    """One alert with its reasons, its facts and what judged it."""
    each = dossier.in_full(case, alert_id)
    assert each is not None  # it was listed a moment ago, and alerts never leave a case
    payment, decision, release = each.alert.transaction, each.alert.decision, each.release
    words = f"{decision.outcome.capitalize()}, {each.latency_ms:,.0f} ms"
    groups = factsheet.facts(payment, each.document, factsheet.past(case, payment, queues=[case.queue_id]), words)
    return {
        "payment": payment.pk,
        "external_id": payment.external_id,
        "amount": each.amount_text,
        "at": _utc(payment.occurred_at),
        "decided_at": _utc(decision.decided_at),
        "score": each.alert.score,
        "model": release.model.version if release.model else "no model",
        "policy": release.policy.number,
        "release": release.pk,
        "rules": [_evidence(line) for line in each.rules],
        "lists": [_evidence(line) for line in each.listed],
        "factors": [_evidence(line) for line in each.factors],
        "facts": [{"group": heading, "lines": [_fact(fact) for fact in facts]} for heading, facts in groups],
    }


def _fact(fact: factsheet.Fact) -> dict[str, str]:
    hint = "; ".join(filter(None, [fact.hint, fact.seen]))
    return {"name": fact.name, "value": fact.value or "not sent", "hint": hint}


def _evidence(line: dossier.Evidence) -> dict[str, str]:
    return {"text": line.text, "source": " · ".join(line.source), "weight": line.weight}


def _late(each: late_labels.LateLabel) -> dict[str, str]:
    return {
        "at": _utc(each.recorded_at),
        "source": each.source,
        "verdict": each.verdict,
        "payment": str(each.transaction_id),
        "closed_as": each.said_words,
    }


def _note(note: Any) -> dict[str, Any]:
    return {
        "number": note.pk,
        "at": _utc(note.at),
        "by": _name(note.author),
        "about": notes.ABOUT.get(note.entity_kind, ""),
        "corrects": note.corrects_id or 0,
        "text": note.text,
    }


def _file(each: Attachment) -> dict[str, Any]:
    return {
        "number": each.pk,
        "name": each.name,
        "kind": each.kind,
        "size": each.size,
        "sha256": each.sha256,
        "scanned": each.scanned or "not scanned",
        "at": _utc(each.at),
        "by": _name(each.author),
        "removed": f"{_utc(each.removed_at)} by {_name(each.removed_by)}: {each.removed_for}"
        if each.removed_at
        else "",
    }


def _filing(each: Filing) -> dict[str, str]:
    return {
        "at": _utc(each.at),
        "by": _name(each.author),
        "decision": each.get_decision_display(),
        "detected_on": each.detected_on.isoformat(),
        "filed_on": each.filed_on.isoformat() if each.filed_on else "",
        "reference": each.reference,
        "note": each.note,
    }


def _timeline(case: Case) -> tuple[list[dict[str, str]], bool]:
    """The timeline page by page, up to a bound."""
    told: list[dict[str, str]] = []
    before = ""
    while len(told) < MOST_LINES:
        entries, before = timeline(case, queues=[case.queue_id], before=before)
        told += [_entry(entry) for entry in entries]
        if not before:
            break
    return told[:MOST_LINES], bool(before)


def _entry(entry: Any) -> dict[str, str]:
    hint = ", ".join(filter(None, [entry.hint, entry.amount, entry.outcome]))
    return {"at": _utc(entry.at), "kind": entry.kind, "title": entry.title, "hint": hint}


def _line(line: audit.Line) -> dict[str, str]:
    change = f"{line.before or '–'} → {line.after or '–'}" if line.before or line.after else ""
    return {
        "number": line.number,
        "at": _utc(line.at),
        "kind": line.kind.replace("_", " "),
        "who": line.who,
        "role": line.role,
        "ip": line.ip,
        "change": change,
        "note": line.note,
    }


def _name(user: Any) -> str:
    return user.get_full_name() or user.get_username()


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
