"""Judging again: a request row with a reason re-judges payments from their stored feature vectors.

The lane has no part in it. Profiles do not advance and the log is not touched: the vector is the one that was stored,
rules, lists, policy and model are those in force now, and the decision gets the payment's next screening number and
the seq of its first. Progress is committed together with the decisions, under a lock of the request's row that a second
worker passes by, and the database itself refuses a second decision of one payment for one request: so a worker may be
killed anywhere. A payment's live decision is the one with the highest screening (docs/decisions/0007-rescreening.md).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg2
from django.db import IntegrityError, connection
from django.db.models import Max
from django.db.transaction import atomic
from django.dispatch import Signal
from django.utils import timezone

from scoring import features, releases
from scoring.models import DEGRADED, LOG_KIND, SCREENINGS, LaneCursor, Rescreened, Rescreening
from scoring.services import FAILED_TWICE, MODEL_UNAVAILABLE, RECORDED, Decisions, decide
from transactions import binary, pan
from transactions.codes import OUTCOME
from transactions.facts import FACT_COLUMNS, FACTS, micros
from transactions.models import Lane

log = logging.getLogger(__name__)

STEP = 2_000  # payments of one commit
WALK = 5_000  # rows of the log that one commit of a filter looks at
MOST_NAMED = 10_000  # payments that one request may name
LAST_SCREENING = SCREENINGS - 1
SHORTEST_REASON = 3
CLOCK = "schedule"  # author of automatic requests
JUDGED = LOG_KIND.code("judged")
VECTOR_BYTES = features.N_FEATURES * 4

HEAD = np.dtype(
    [
        ("id", "i8"),
        ("seq", "i8"),
        ("screening", "i2"),
        ("outcome", "i2"),
        ("degraded", "i2"),
        ("kernel", "i2"),
        ("release", "i4"),
        ("bytes", "i4"),
    ]
)
_HEADS = """
    SELECT d.transaction_id, d.seq, l.screening, l.outcome, l.degraded, l.kernel_version, l.release_id,
           octet_length(l.features)
      FROM {source}
      JOIN LATERAL (SELECT * FROM decision x WHERE x.id BETWEEN d.id AND d.id + 62 ORDER BY x.id DESC LIMIT 1) l ON true
     WHERE d.lane = %(lane)s AND {which}"""
NAMED = _HEADS.format(source="decision d", which="d.id = ANY(%(ids)s::bigint[]) ORDER BY d.id")
WITHOUT_MODEL = _HEADS.format(
    source="decision d",
    which="d.seq > %(after)s AND d.seq <= %(upto)s AND d.degraded = 1 AND d.screening = 1"
    " ORDER BY d.seq LIMIT %(step)s",
)
WALKED = _HEADS.format(
    source="lane_log g JOIN decision d ON d.id = g.transaction_id * 64 + 1",
    which=f"g.lane = %(lane)s AND g.seq > %(after)s AND g.seq <= %(upto)s AND g.kind = {JUDGED} ORDER BY g.seq",
)
STORED = np.dtype([*((name, FACTS[name]) for name in FACT_COLUMNS), ("features", "f4", (features.N_FEATURES,))])
_STORED = f"""
    SELECT {", ".join(f't."{name}"' for name in FACT_COLUMNS)}, d.features
      FROM unnest(%(ids)s::bigint[]) WITH ORDINALITY AS asked (id, place)
      JOIN transaction t ON t.id = asked.id JOIN decision d ON d.id = asked.id * 64 + 1 ORDER BY place"""
BETWEEN = """
    SELECT min(seq), max(seq) FROM decision
     WHERE lane = %s AND screening = 1 AND decided_at >= %s AND decided_at < %s"""
WAITING = """
    SELECT d.seq FROM decision d WHERE d.lane = %s AND d.seq > %s AND d.degraded = 1 AND d.screening = 1 LIMIT 1"""
OWED = """
    SELECT count(*) FROM (SELECT FROM decision d WHERE d.lane = %s AND d.seq > %s AND d.degraded = 1 AND d.screening = 1
                           LIMIT %s) few"""

asked = Signal()  # a request was made: whoever can may wake a worker

Raise = Callable[[Any, Decisions, np.ndarray, int], int]


class CannotRescreen(Exception):
    """This cannot be judged again; the sentence says why."""


# --- asking -----------------------------------------------------------------------------------------------------------


def ask(
    lane: Lane,
    *,
    reason: str,
    by: str,
    payments: Sequence[int] | None = None,
    degraded: Sequence[str] = (),
    release: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Rescreening:
    """Have payments judged again: those that are named by id, or all of the lane whose live decision fits the filter.

    A filter names causes of DEGRADED, a release, times of the first decision (`since` ≤ decided < `until`), or several.
    A request that stands open in the same words is returned instead of a second one. A single payment that
    cannot be judged again is refused at once; of several, those are left out and counted. Raises CannotRescreen.
    """
    reason = " ".join(reason.split())
    if len(reason) < SHORTEST_REASON or not reason.isprintable():
        raise CannotRescreen("Say in plain words why the payments are to be judged again.")
    if pan.in_free_text(reason):
        raise CannotRescreen("The reason holds what looks like a card number.")
    given: dict[str, Any] = {"lane": lane, "reason": reason[:500], "author": by}
    if payments is not None:
        given |= _named(lane.pk, payments)
    else:
        given |= _filtered(lane.pk, degraded, release, since, until)
    request = Rescreening.objects.filter(finished_at__isnull=True, **given).first() or Rescreening.objects.create(
        **given
    )
    asked.send(Rescreening)
    return request


def _named(lane_id: int, payments: Sequence[int]) -> dict[str, Any]:
    ids = sorted({int(each) for each in payments if 0 < int(each) < 2**57})
    if not ids:
        raise CannotRescreen("Name at least one payment.")
    if len(ids) > MOST_NAMED:
        raise CannotRescreen(f"Name at most {MOST_NAMED:,} payments, or use a filter.")
    if len(ids) == 1:
        _check(lane_id, ids[0])
    return {"payments": ids, "upto": ids[-1]}


def _check(lane_id: int, payment: int) -> None:
    with connection.cursor() as cursor:
        heads = _heads(cursor, NAMED, {"lane": lane_id, "ids": _first([payment])})
    why = _unfit(heads)[0] if len(heads) else "undecided"
    if why:
        raise CannotRescreen(SENTENCES[why].format(payment))


def _filtered(
    lane_id: int, degraded: Sequence[str], release: int | None, since: datetime | None, until: datetime | None
) -> dict[str, Any]:
    if not (degraded or release or since or until):
        raise CannotRescreen("Name payments, a cause, a release or a time.")
    if unknown := [cause for cause in degraded if cause not in DEGRADED]:
        raise CannotRescreen(f"{unknown[0]} is no cause of a degraded decision.")
    chosen: dict[str, Any] = {"degraded": sorted(set(degraded))} if degraded else {}
    if release:
        chosen["release"] = int(release)
    first, last = 1, LaneCursor.objects.filter(lane=lane_id).values_list("seq", flat=True).first() or 0
    if since or until:
        first, last = _between(lane_id, since or datetime(2000, 1, 1, tzinfo=UTC), until or timezone.now())
        chosen |= {"since": since.isoformat() if since else None, "until": until.isoformat() if until else None}
    return {"filter": chosen, "after": first - 1, "upto": last}


def _between(lane_id: int, since: datetime, until: datetime) -> tuple[int, int]:
    """The seqs of what was decided between two times, by the index on the time."""
    with connection.cursor() as cursor:
        cursor.execute(BETWEEN, [lane_id, since, until])
        first, last = cursor.fetchone()
    return (first, last) if first is not None else (1, 0)


@atomic
def ask_for_degraded(lane: Lane) -> Rescreening | None:
    """A request for all that was decided while the model could not be loaded, once it can be; None if nothing waits.

    By seq: one writer commits in that order, so nothing below the lane's cursor can turn up later.
    """
    Lane.objects.select_for_update(no_key=True).get(pk=lane.pk)
    mark = _mark(lane.pk)
    upto = LaneCursor.objects.filter(lane=lane).values_list("seq", flat=True).first() or 0
    with connection.cursor() as cursor:
        cursor.execute(WAITING, [lane.pk, mark])
        if cursor.fetchone() is None or not _is_whole(cursor, lane.pk):
            return None
    return Rescreening.objects.create(
        lane=lane,
        author=CLOCK,
        reason="Decided while the model could not be loaded",
        is_automatic=True,
        filter={"degraded": [DEGRADED.text(MODEL_UNAVAILABLE)]},
        after=mark,
        upto=upto,
    )


def _mark(lane_id: int) -> int:
    """The seq up to which degraded decisions were asked for."""
    found = Rescreening.objects.filter(lane=lane_id, is_automatic=True).aggregate(upto=Max("upto"))
    return found["upto"] or 0


def _is_whole(cursor: Any, lane_id: int) -> bool:
    """Whether the release in force has a model here and now."""
    release_id = releases.current(cursor, lane_id)
    return release_id is not None and releases.assemble(release_id).scorer is not None


def waiting(lane_id: int, *, most: int = 1_000) -> int:
    """Decisions made while the model could not be loaded and not asked for again yet; counted up to `most`."""
    with connection.cursor() as cursor:
        cursor.execute(OWED, [lane_id, _mark(lane_id), most])
        return int(cursor.fetchone()[0])


# --- what may be judged again -----------------------------------------------------------------------------------------

SENTENCES = {
    "undecided": "Payment {} is not decided in this lane.",
    "recorded": "Payment {} is only recorded, not judged.",
    "kernel": "Payment {} was judged by an older kernel; its stored vector means something else now.",
    "unseen": "Payment {} could not be judged and has no vector; a person decides it.",
    "screenings": f"Payment {{}} was judged {LAST_SCREENING} times, which is the most there is room for.",
}


def _unfit(heads: np.ndarray) -> list[str]:
    """Why each payment cannot be judged again; "" where it can."""
    tests = [
        (heads["outcome"] == RECORDED, "recorded"),
        ((heads["kernel"] != features.KERNEL_VERSION) | (heads["bytes"] != VECTOR_BYTES), "kernel"),
        (heads["degraded"] == FAILED_TWICE, "unseen"),
        (heads["screening"] >= LAST_SCREENING, "screenings"),
    ]
    return np.select([broken for broken, _ in tests], [why for _, why in tests], "").tolist()


def _first(payments: Sequence[int]) -> list[int]:
    return [each * SCREENINGS + 1 for each in payments]


def _heads(cursor: Any, query: str, params: dict[str, Any]) -> np.ndarray:
    return binary.fetch(cursor, query, params, HEAD)


# --- what was judged again --------------------------------------------------------------------------------------------

HISTORIES = """
    SELECT d.transaction_id, d.screening, d.outcome, d.score, d.degraded, d.decided_at, d.release_id, q.reason
      FROM unnest(%s) AS asked (id) JOIN decision d ON d.id BETWEEN asked.id * 64 + 1 AND asked.id * 64 + 63
      LEFT JOIN rescreened r ON r.decision_id = d.id LEFT JOIN rescreening q ON q.id = r.request_id ORDER BY d.id"""


def histories(payments: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """All decisions of each payment as the API shows them, the first one first; `reason`: of the request, or None."""
    with connection.cursor() as cursor:
        cursor.execute(HISTORIES, [list(payments)])
        rows = cursor.fetchall()
    found: dict[int, list[dict[str, Any]]] = {}
    for payment, screening, outcome, score, degraded, at, release, reason in rows:
        entry = {
            "screening": screening,
            "outcome": OUTCOME.text(outcome),
            "score": score if score >= 0 else None,
            "degraded": degraded > 0,
            "decided_at": at.isoformat(),
            "release": release,
            "reason": reason,
        }
        found.setdefault(payment, []).append(entry)
    return found


# --- working ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """What one commit of a request takes on: live decisions to judge anew, and where the request then stands."""

    heads: np.ndarray
    after: int


def work(raise_alerts: Raise, *, steps: int = 1_000) -> int:
    """Work off open requests, at most `steps` commits; how many payments were judged again.

    `raise_alerts(cursor, decisions, seqs, decided_at)` adds the alerts of what is stopped newly, in the same commit,
    and returns how many. A request whose lane's model cannot be loaded waits. Safe to run twice and at once.
    """
    done, waits = 0, set[int]()
    for _ in range(steps):
        try:
            judged = _step(raise_alerts, waits)
        except (
            IntegrityError,
            psycopg2.IntegrityError,
        ) as error:  # another request judged one of these payments in the meantime: look again
            log.info("a step of a re-screening is done again: %s", str(error).splitlines()[0])
            continue
        if judged is None:
            break
        done += judged
    return done


@atomic
def _step(raise_alerts: Raise, waits: set[int]) -> int | None:
    """One commit of the oldest open request that nobody else holds; None when there is none left to do."""
    free = Rescreening.objects.select_for_update(skip_locked=True).filter(finished_at__isnull=True)
    request = free.exclude(pk__in=waits).order_by("pk").first()
    if request is None:
        return None
    with connection.cursor() as cursor:
        release_id = releases.current(cursor, request.lane_id)
        judge = releases.assemble(release_id) if release_id is not None else None
        if judge is None or judge.flaw:
            waits.add(request.pk)
            return 0
        part = _part(cursor, request)
        judged = _judge(cursor, request, judge, part, raise_alerts)
    request.after = part.after
    request.release_id = release_id
    if request.after >= request.upto:
        request.finished_at = timezone.now()
    request.save()
    return judged


def _part(cursor: Any, request: Rescreening) -> Part:
    if request.payments is not None:
        ids = [each for each in request.payments if each > request.after][:STEP]
        heads = _heads(cursor, NAMED, {"lane": request.lane_id, "ids": _first(ids)})
        _leave_out(request, "undecided", len(ids) - len(heads))
        return Part(heads, ids[-1] if ids else request.upto)
    bounds = {"lane": request.lane_id, "after": request.after, "upto": request.upto, "step": STEP}
    if request.filter.get("degraded") == [DEGRADED.text(MODEL_UNAVAILABLE)]:
        heads = _heads(cursor, WITHOUT_MODEL, bounds)
        after = int(heads["seq"][-1]) if len(heads) == STEP else request.upto
    else:
        after = min(request.after + WALK, request.upto)
        heads = _heads(cursor, WALKED, bounds | {"upto": after})
    return Part(heads[_fits(heads, request.filter)], after)


def _fits(heads: np.ndarray, chosen: dict[str, Any]) -> np.ndarray:
    """Which live decisions the filter means."""
    fits = heads["outcome"] != RECORDED
    if "degraded" in chosen:
        fits &= np.isin(heads["degraded"], [DEGRADED.code(cause) for cause in chosen["degraded"]])
    if "release" in chosen:
        fits &= heads["release"] == chosen["release"]
    return fits


def _leave_out(request: Rescreening, why: str, count: int) -> None:
    if count:
        request.left_out = request.left_out | {why: request.left_out.get(why, 0) + count}


def _judge(cursor: Any, request: Rescreening, judge: releases.Judge, part: Part, raise_alerts: Raise) -> int:
    """Judge a part from its stored vectors: decisions, their link to the request, new alerts, and the counts."""
    unfit = np.array(_unfit(part.heads), "U16")
    for why in np.unique(unfit[unfit != ""]).tolist():
        _leave_out(request, why, int((unfit == why).sum()))
    heads = part.heads[unfit == ""]
    if not len(heads):
        return 0
    stored = binary.fetch(cursor, _STORED, {"ids": heads["id"].tolist()}, STORED)
    facts = np.empty(len(stored), FACTS)
    for name in FACT_COLUMNS:
        facts[name] = stored[name]
    decisions = decide(facts, np.ascontiguousarray(stored["features"]), judge)
    decisions = replace(decisions, screenings=(heads["screening"] + 1).astype("i2"))
    at = micros(datetime.now(UTC))
    # No latency: nobody waited for it, and figures of live traffic leave it out.
    binary.store(cursor, "decision", decisions.columns(heads["seq"], at) | {"latency": ("int4", 0)})
    Rescreened.objects.bulk_create(
        Rescreened(decision_id=decision, request=request, transaction_id=payment)
        for decision, payment in zip(decisions.ids.tolist(), heads["id"].tolist(), strict=True)
    )
    request.judged += len(heads)
    request.changed += int((decisions.outcomes != heads["outcome"]).sum())
    request.alerts += raise_alerts(cursor, decisions, heads["seq"], at)
    return len(heads)
