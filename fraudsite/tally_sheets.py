"""What one commit of the lane adds to the tallies, written down by the lane itself: nobody reads its payments again.

The lane has facts and decisions of a batch in memory. It adds them up there and lets a row of `tally_sheet` go along
with its commit, so that the sheet stands or falls with the decisions and covers just the seqs of its commit. The beat
(`fraudsite/tallies.py`) adds whole sheets, and counts rows only where no sheet is: of commits of a few payments, of
fills, and of what was decided before there were sheets. Counting the rows again gives the same; a rebuild does.

A sheet names rules by their place and models by their release: what these are, the release says when it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from alerts.services import country
from scoring.models import Release
from scoring.services import RECORDED, Decisions
from transactions import clock
from transactions.binary import Column
from transactions.codes import STAGE, TYPE
from transactions.facts import HOUR

TOTAL, CHANNEL, COUNTRY, SCORE, RULE, LATENCY, DEGRADED, FATE = range(1, 9)
"""The cuts. Their keys: 0; channel code; country code; model id × 32 + twentieth of the score (31: none); rule version
id × 2 + 1 if in shadow; step of the latency scale; cause; channel code. `outcome` is the decision's, of FATE one of
`tallies.FATES`."""
NO_SCORE = 31
SCORE_STEP = 50
LATENCY_STEPS = 8  # of the scale, in each doubling of micro-seconds

WORTH = 20  # payments of a commit from which a sheet costs less than reading them again
LINE = np.dtype(
    [("cut", "u1"), ("outcome", "u1"), ("hour", "<i4"), ("key", "<i4"), ("payments", "<i4"), ("value", "<i8")]
)
"""A line of a sheet; `hour` counts hours since 2000-01-01 UTC."""
LINES = np.dtype([("cut", "i2"), ("outcome", "i2"), ("hour", "i4"), ("key", "i8"), ("payments", "i8"), ("value", "i8")])
"""Lines of many sheets, their keys as the tallies have them; the same fields in the same order, as `astype` wants."""

_REVERSAL, _BACK = STAGE.code("reversal"), (TYPE.code("refund"), TYPE.code("reversal"))


def columns(facts: np.ndarray, decisions: Decisions, *, after: int, upto: int, decided_at: int) -> dict[str, Column]:
    """The row of `tally_sheet` for one commit, which takes the lane from the seq `after` to `upto`.

    `facts` (n,) of dtype FACTS, in the order of `decisions`; `decided_at` in micro-seconds since 2000.
    """
    ids = facts["id"]
    back = (facts["original"] != 0) & ((facts["stage"] == _REVERSAL) | np.isin(facts["type"], _BACK))
    return {
        "lane": ("int2", facts["lane"][:1]),
        "since": ("int8", after),
        "upto": ("int8", upto),
        "release_id": ("int4", decisions.judge.release_id),
        "first_id": ("int8", int(ids.min())),
        "last_id": ("int8", int(ids.max())),
        "lines": ("bytea", [lines(facts, decisions, decided_at).tobytes()]),
        "bringing_back": ("bytea", [ids[back].astype("<i8").tobytes()]),
    }


def lines(facts: np.ndarray, decisions: Decisions, decided_at: int) -> np.ndarray:
    """The judged payments added up along each cut: (m,) of dtype LINE."""
    judged = decisions.outcomes != RECORDED
    moments = np.where(facts["import_job"] > 0, facts["occurred_at"], clock.each(facts["received_at"], decided_at))
    score = decisions.scores
    of = _Payments(
        hour=moments[judged] // HOUR,
        outcome=decisions.outcomes[judged].astype("i8"),
        channel=facts["channel"][judged].astype("i8"),
        country=country(facts)[judged].astype("i8"),
        degraded=decisions.causes()[judged].astype("i8"),
        step=np.where(score < 0, NO_SCORE, np.minimum(score // SCORE_STEP, 19))[judged].astype("i8"),
        payments=np.ones(int(judged.sum()), "i8"),
        value=facts["amount_base"][judged].astype("i8"),
    )
    # Most payments are alike in what the cuts ask: they are added up once by all of it, then along each cut.
    alike = _Payments(*_summed(of[:-2], *of[-2:]))
    nothing = np.zeros(len(alike.hour), "i8")
    parts = [
        _line(TOTAL, alike, nothing),
        _line(CHANNEL, alike, alike.channel),
        _line(COUNTRY, alike, alike.country),
        _line(SCORE, alike, alike.step),
        _line(DEGRADED, alike, alike.degraded, alike.degraded != 0),
    ]
    waited = decisions.latency(decided_at)[judged]
    live = (waited > 0) & (facts["import_job"][judged] == 0)
    parts.append(_line(LATENCY, of._replace(outcome=np.zeros(len(of.hour), "i8")), steps_of(waited), live))
    places, rules = np.nonzero(decisions.mask[judged] == 1)
    hit = _Payments(*(column[places] for column in of))
    parts.append(_line(RULE, hit, rules.astype("i8")))
    return np.concatenate(parts)


class _Payments(NamedTuple):
    """Columns of payments, or of groups of them; the last two are sums."""

    hour: np.ndarray
    outcome: np.ndarray
    channel: np.ndarray
    country: np.ndarray
    degraded: np.ndarray
    step: np.ndarray
    payments: np.ndarray
    value: np.ndarray


def steps_of(micros: np.ndarray) -> np.ndarray:
    """The step of the latency scale that each wait falls into, as the tallies' statement has it."""
    return np.floor(LATENCY_STEPS / np.log(2) * np.log(np.maximum(micros, 1)) + 1e-9).astype("i8")


def _line(cut: int, of: _Payments, key: np.ndarray, some: np.ndarray | None = None) -> np.ndarray:
    """One cut's lines; `some` says which of the groups count under it."""
    given = of.hour, key, of.outcome, of.payments, of.value
    hour, key, outcome, payments, value = given if some is None else [column[some] for column in given]
    hour, key, outcome, payments, value = _summed((hour, key, outcome), payments, value)
    found = np.empty(len(hour), LINE)
    found["cut"] = cut
    found["hour"], found["key"], found["outcome"] = hour, key, outcome
    found["payments"], found["value"] = payments, value
    return found


def _summed(by: Sequence[np.ndarray], *sums: np.ndarray) -> list[np.ndarray]:
    """The distinct rows of the columns `by`, and of `sums` what each adds up to."""
    if not len(by[0]):
        return [*by, *sums]
    key = _packed(by)
    order = np.lexsort(by) if key is None else np.argsort(key)
    by = [column[order] for column in by]
    begins = np.ones(len(order), bool)
    sorted_by = by if key is None else [key[order]]
    begins[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in sorted_by])
    starts = np.flatnonzero(begins)
    return [column[starts] for column in by] + [np.add.reduceat(column[order], starts) for column in sums]


def _packed(by: Sequence[np.ndarray]) -> np.ndarray | None:
    """The columns as one integer, which is sorted many times faster; None where they do not fit."""
    key, used = np.zeros(len(by[0]), "i8"), 0
    for column in by:
        least = column.min()
        width = int(column.max() - least).bit_length()
        used += width
        if used > 62:
            return None
        key = (key << width) | (column - least)
    return key


# --- reading ----------------------------------------------------------------------------------------------------------


class Sheet(NamedTuple):
    """A row of `tally_sheet`."""

    since: int
    upto: int
    release_id: int
    first_id: int
    last_id: int
    lines: memoryview
    bringing_back: memoryview


def added(sheets: Sequence[Sheet]) -> np.ndarray:
    """The lines of all sheets added up, with keys as the tallies have them: (m,) of dtype LINES."""
    releases = Release.objects.in_bulk({sheet.release_id for sheet in sheets})
    found = np.concatenate([_resolved(np.frombuffer(each.lines, LINE), releases[each.release_id]) for each in sheets])
    names = ("cut", "hour", "key", "outcome")
    result = np.empty(0, LINES)
    if len(found):
        together = _summed([found[name] for name in names], found["payments"], found["value"])
        result = np.empty(len(together[0]), LINES)
        for name, column in zip((*names, "payments", "value"), together, strict=True):
            result[name] = column
    return result


def _resolved(given: np.ndarray, release: Release) -> np.ndarray:
    """The same lines, with the model of the release and the versions of its rules in their keys."""
    found = given.astype(LINES)
    scored, hit = found["cut"] == SCORE, found["cut"] == RULE
    found["key"][scored] += (release.model_id or 0) * 32
    versions = np.array([each["version"] * 2 + (each["mode"] != "live") for each in release.rules], "i8")
    if hit.any():
        found["key"][hit] = versions[found["key"][hit]]
    return found


def brought_back(sheets: Sequence[Sheet]) -> list[int]:
    """Ids of the payments that bring money back, refunds and reversals that name another."""
    return [each for sheet in sheets for each in np.frombuffer(sheet.bringing_back, "<i8").tolist()]
