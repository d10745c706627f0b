"""What other thresholds would have done to the decisions of the last days, as counted from stored rows.

The rows are folded into a histogram by channel, the least outcome that live rules or block lists demanded, and score,
so that any thresholds can be tried on it without the database: here for the effect frozen into a proposal, and in the
browser (static/scoring/thresholds.js, the same sums) while a slider is dragged. Scores, rule and list hits are those
stored; rules count as they are live or not in the release in force; labels as they are known now, the highest-ranking
one of each payment.

Values are in minor units of the lane's base currency. A payment that nobody labelled is neither fraud nor legitimate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.cache import cache
from django.db import OperationalError, connection
from django.db.transaction import atomic
from django.utils import timezone

from scoring import matching
from scoring.entries import Subject
from scoring.models import BASIS, LOG_KIND, SCREENINGS, Release, RuleVersion
from scoring.policy import APPROVE, CHALLENGE, DECLINE, DEFAULT, REVIEW, STEPS, limits
from transactions.codes import CHANNEL, OUTCOME, VERDICT
from transactions.models import Lane

DAYS = 30
NEWEST = 1_000_000  # entries of the lane's log looked at, at most
NEWEST_HITS = 500_000
PATIENCE_MS = 15_000
KEPT_SECONDS = 60

FRAUD, LEGITIMATE = VERDICT.code("fraud"), VERDICT.code("legitimate")
COLUMNS = ("score", "payments", "fraud", "fraud_value", "legitimate", "legitimate_value")

# The label that counts, of the payments above an id: by rank of its source, then time, then id, as the lane has it.
EFFECTIVE = """
    SELECT DISTINCT ON (transaction_id) transaction_id, verdict FROM label
     WHERE lane = %(lane)s AND transaction_id > %(lowest)s
     ORDER BY transaction_id, source DESC, known_at DESC, id DESC
"""
# The first of about the newest payments that the lane judged, by its own log: other lanes share the ids.
LOWEST = f"""
    SELECT g.transaction_id FROM lane_log g JOIN lane_cursor c ON c.lane = g.lane
     WHERE g.lane = %(lane)s AND g.seq > c.seq - %(newest)s AND g.kind = {LOG_KIND.code("judged")}
     ORDER BY g.seq LIMIT 1
"""
FOLD = f"""
    WITH effective AS MATERIALIZED ({EFFECTIVE})
    SELECT t.channel, d.score, d.release_id, d.rule_hits, coalesce(e.verdict, 0), count(*), sum(t.amount_base),
           min(t.occurred_at), max(t.occurred_at),
           CASE d.basis WHEN {BASIS.code("block_list")} THEN d.outcome ELSE {APPROVE} END
      FROM decision d
      JOIN transaction t ON t.id = d.transaction_id
      LEFT JOIN effective e ON e.transaction_id = d.transaction_id
     WHERE d.lane = %(lane)s AND d.screening = 1 AND d.outcome <> %(recorded)s AND d.id > %(lowest)s * {SCREENINGS}
       AND d.decided_at >= %(since)s AND t.occurred_at >= %(since)s AND t.id > %(lowest)s
     GROUP BY 1, 2, 3, 4, 5, 10
"""
HITS = f"""
    WITH effective AS MATERIALIZED ({EFFECTIVE})
    SELECT d.release_id, d.rule_hits, d.decided_at >= %(day)s, coalesce(e.verdict, 0), count(*)
      FROM decision d
      LEFT JOIN effective e ON e.transaction_id = d.transaction_id
     WHERE d.lane = %(lane)s AND d.screening = 1 AND d.id > %(lowest)s * {SCREENINGS} AND d.decided_at >= %(since)s
       AND position('\\x01'::bytea IN d.rule_hits) > 0
     GROUP BY 1, 2, 3, 4
"""


class TooSlow(Exception):
    """The question took longer than people wait; nothing is shown rather than half an answer."""


# --- the histogram ----------------------------------------------------------------------------------------------------


def histogram(lane: Lane, *, days: int = DAYS, now: datetime | None = None) -> dict[str, Any]:
    """Decisions of the last `days`, folded; as plain JSON, kept for KEPT_SECONDS. Raises TooSlow.

    {"bars": {channel: {floor: [[score, payments, fraud, fraud_value, legitimate, legitimate_value], …]}},
     "since", "first", "last" (ISO times), "days" (of traffic, at least 1), "payments", "currency"}; `floor` is the
    outcome code that live rules demanded, score -1 a payment no model scored.
    """
    key = f"whatif:{lane.pk}:{days}:{_release_id(lane)}"
    found = cache.get(key) if now is None else None
    if found is None:
        found = _histogram(lane, days, now or timezone.now())
        if now is None:
            cache.set(key, found, KEPT_SECONDS)
    return found


def _histogram(lane: Lane, days: int, now: datetime) -> dict[str, Any]:
    since = now - timedelta(days=days)
    rows = _ask(FOLD, lane, NEWEST, since=since, recorded=OUTCOME.code("recorded"))
    floors = _Floors(lane)
    bars: dict[tuple[str, int], dict[int, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0] * 5))
    for channel, score, release, hits, verdict, count, value, _, _, listed in rows:
        bar = bars[CHANNEL.text(channel), max(listed, floors.of(release, hits))][score]
        _add(bar, verdict, count, int(value))
    first, last = min((row[7] for row in rows), default=now), max((row[8] for row in rows), default=now)
    return {
        "bars": _plain(bars),
        "since": since.isoformat(),
        "first": first.isoformat(),
        "last": last.isoformat(),
        "days": max((last - first) / timedelta(days=1), 1.0),
        "payments": sum(row[5] for row in rows),
        "currency": lane.base_currency,
    }


def _add(bar: list[int], verdict: int, count: int, value: int) -> None:
    bar[0] += count
    if verdict in (FRAUD, LEGITIMATE):
        at = 1 if verdict == FRAUD else 3
        bar[at] += count
        bar[at + 1] += value


def _plain(bars: Mapping[tuple[str, int], Mapping[int, list[int]]]) -> dict[str, dict[str, list[list[int]]]]:
    plain: dict[str, dict[str, list[list[int]]]] = {}
    for (channel, floor), scores in sorted(bars.items()):
        plain.setdefault(channel, {})[str(floor)] = [[score, *scores[score]] for score in sorted(scores)]
    return plain


class _Floors:
    """The least outcome that a decision's rule hits demand under the rules live now."""

    def __init__(self, lane: Lane):
        release = Release.objects.filter(lane=lane).order_by("-id").first()
        entries = release.rules if release else []
        live = {entry["version"] for entry in entries if entry["mode"] == "live"}
        off = release.pulled.get("rules", []) if release else []
        versions = RuleVersion.objects.filter(pk__in=live).exclude(rule__in=off)
        self.outcomes = {version.pk: OUTCOME.code(version.outcome) for version in versions}
        self.orders = Orders()
        self.known: dict[tuple[int, bytes], int] = {}

    def of(self, release: int, hits: Any) -> int:
        key = release, bytes(hits)
        if key not in self.known:
            hit = self.orders.versions(*key)
            self.known[key] = max((self.outcomes.get(version, APPROVE) for version in hit), default=APPROVE)
        return self.known[key]


class Orders:
    """Which rule versions the bytes of a hit mask stand for, release by release."""

    def __init__(self) -> None:
        self.releases: dict[int, list[int]] = {}

    def versions(self, release: int, hits: bytes) -> list[int]:
        """The rule version ids that hit."""
        if release not in self.releases:
            rules = Release.objects.filter(pk=release).values_list("rules", flat=True).first() or []
            self.releases[release] = [entry["version"] for entry in rules]
        return [version for version, hit in zip(self.releases[release], hits, strict=False) if hit]


def _ask(sql: str, lane: Lane, newest: int, **values: Any) -> list[tuple]:
    try:
        with atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {PATIENCE_MS}; SET LOCAL work_mem = '64MB'")
            cursor.execute(LOWEST, {"lane": lane.pk, "newest": newest})
            lowest = (cursor.fetchone() or [1])[0] - 1
            cursor.execute(sql, {"lane": lane.pk, "lowest": lowest, **values})
            return cursor.fetchall()
    except OperationalError as error:  # the statement's time-out, or Postgres gone: either way there is no answer
        raise TooSlow(str(error)) from error


def _release_id(lane: Lane) -> int | None:
    return Release.objects.filter(lane=lane).order_by("-id").values_list("pk", flat=True).first()


# --- thresholds on it -------------------------------------------------------------------------------------------------

COUNTS = (
    "payments",
    "challenged",
    "reviewed",
    "declined",
    "fraud",
    "fraud_value",
    "caught",
    "caught_value",
    "false_positives",
    "false_positive_value",
    "wrongly_declined",
)


def measure(found: Mapping[str, Any], thresholds: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """What `thresholds` would have done to the histogram `found`: the measures of all channels together.

    Caught, false positives: labelled fraud and labelled legitimate payments that would have been stopped (challenge,
    review or decline). Rates are None where nothing stands below the line.
    """
    table = limits(thresholds)
    totals = dict.fromkeys(COUNTS, 0)
    for channel, floors in found["bars"].items():
        steps = table[CHANNEL.code(channel) if channel in CHANNEL else 0]
        for floor, bars in floors.items():
            _count(totals, steps, int(floor), bars)
    return _rates(totals, found["days"])


def by_channel(found: Mapping[str, Any], thresholds: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, Any]]:
    """The same measures for each channel that had payments."""
    return {channel: measure({**found, "bars": {channel: bars}}, thresholds) for channel, bars in found["bars"].items()}


def _count(totals: dict[str, int], steps: Iterable[int], floor: int, bars: list[list[int]]) -> None:
    challenge, review, decline = (int(step) for step in steps)
    for score, payments, fraud, fraud_value, legitimate, legitimate_value in bars:
        outcome = max(floor, APPROVE + (score >= challenge) + (score >= review) + (score >= decline))
        totals["payments"] += payments
        totals["fraud"] += fraud
        totals["fraud_value"] += fraud_value
        if outcome == APPROVE:
            continue
        totals[{CHALLENGE: "challenged", REVIEW: "reviewed", DECLINE: "declined"}[outcome]] += payments
        totals["caught"] += fraud
        totals["caught_value"] += fraud_value
        totals["false_positives"] += legitimate
        totals["false_positive_value"] += legitimate_value
        totals["wrongly_declined"] += legitimate if outcome == DECLINE else 0


def _rates(totals: dict[str, int], days: float) -> dict[str, Any]:
    alerts = totals["challenged"] + totals["reviewed"] + totals["declined"]
    decided = totals["caught"] + totals["false_positives"]
    return totals | {
        "alerts": alerts,
        "alerts_a_day": round(alerts / days, 6),
        "missed": totals["fraud"] - totals["caught"],
        "missed_value": totals["fraud_value"] - totals["caught_value"],
        "precision": totals["caught"] / decided if decided else None,
        "recall": totals["caught"] / totals["fraud"] if totals["fraud"] else None,
        "value_recall": totals["caught_value"] / totals["fraud_value"] if totals["fraud_value"] else None,
    }


def effect(lane: Lane, now: Mapping[str, Any], proposed: Mapping[str, Any], *, days: int = DAYS) -> dict[str, Any]:
    """The effect of `proposed` thresholds against those of `now`, to be frozen into a proposal."""
    try:
        found = histogram(lane, days=days)
    except TooSlow:
        return {"failed": "The effect took too long to count."}
    about = {name: found[name] for name in ("since", "first", "last", "days", "payments", "currency")}
    return about | {
        "now": measure(found, now),
        "proposed": measure(found, proposed),
        "channels": {"now": by_channel(found, now), "proposed": by_channel(found, proposed)},
    }


# --- lists ------------------------------------------------------------------------------------------------------------

TOUCHED = f"""
    WITH effective AS MATERIALIZED ({EFFECTIVE})
    SELECT count(*), count(*) FILTER (WHERE d.outcome > {APPROVE}), coalesce(sum(t.amount_base), 0)::bigint,
           count(*) FILTER (WHERE e.verdict = {FRAUD}), count(*) FILTER (WHERE e.verdict = {LEGITIMATE})
      FROM transaction t
      JOIN decision d ON d.id = t.id * {SCREENINGS} + 1
      LEFT JOIN effective e ON e.transaction_id = t.id
     WHERE t.lane = %(lane)s AND t.id > %(lowest)s AND t.occurred_at >= %(since)s AND d.outcome <> %(recorded)s
       AND (SUBJECT)
"""
MOST_NETWORKS = 50  # each is one more condition on every payment looked at
NETWORK = (
    "(t.ip <> 0 AND t.ip_high & '{upper}'::bigint = '{high}'::bigint"
    " AND t.ip_low & '{lower}'::bigint = '{low}'::bigint)"
)


def list_effect(lane: Lane, subject: str, subjects: Sequence[Subject]) -> dict[str, Any]:
    """Payments of the last DAYS, among the newest NEWEST_HITS, that entries for these subjects would have hit."""
    if subject == "ip" and len(subjects) > MOST_NETWORKS:
        return {"failed": f"Payments are counted for up to {MOST_NETWORKS} networks at once."}
    values = {"since": timezone.now() - timedelta(days=DAYS), "recorded": OUTCOME.code("recorded")}
    keys = [each.key for each in subjects]
    sql = TOUCHED.replace("SUBJECT", _touched(subject, subjects))
    try:
        [(payments, stopped, value, fraud, legitimate)] = _ask(sql, lane, NEWEST_HITS, keys=keys, **values)
    except TooSlow:
        return {"failed": "The payments it would have hit took too long to count."}
    found = {"payments": payments, "stopped": stopped, "value": value, "fraud": fraud, "legitimate": legitimate}
    return {"touched": found, "days": DAYS, "currency": lane.base_currency}


def _touched(subject: str, subjects: Sequence[Subject]) -> str:
    """The condition on `t` that an entry for one of these holds; nothing in it comes from people but numbers."""
    if subject == "ip":
        return " OR ".join(_network(each) for each in subjects)
    if subject == "bin":
        return "t.bin = ANY(%(keys)s) OR t.bin > 999999 AND t.bin / 100 = ANY(%(keys)s)"
    return " OR ".join(f"t.{column} = ANY(%(keys)s)" for column in matching.COLUMNS[subject])


def _network(subject: Subject) -> str:
    upper, lower = (_signed(bits) for bits in (min(subject.prefix, 64), max(subject.prefix - 64, 0)))
    return NETWORK.format(upper=upper, lower=lower, high=subject.high & upper, low=subject.low & lower)


def _signed(bits: int) -> int:
    """The leading `bits` of 64 set, as Postgres has them."""
    return -(1 << (64 - bits)) if bits else 0


# --- rules ------------------------------------------------------------------------------------------------------------


def rule_hits(lane: Lane) -> dict[int, dict[str, int]]:
    """Hits of each rule version: {version id: {"day", "week", "fraud", "legitimate"}}, labels among those of the week.

    Counted over the newest NEWEST_HITS payments at most, kept for KEPT_SECONDS. Raises TooSlow.
    """
    key = f"rule-hits:{lane.pk}"
    found = cache.get(key)
    if found is None:
        found = _rule_hits(lane, timezone.now())
        cache.set(key, found, KEPT_SECONDS)
    return found


def _rule_hits(lane: Lane, now: datetime) -> dict[int, dict[str, int]]:
    rows = _ask(HITS, lane, NEWEST_HITS, since=now - timedelta(days=7), day=now - timedelta(days=1))
    orders = Orders()
    hits: dict[int, dict[str, int]] = defaultdict(lambda: {"day": 0, "week": 0, "fraud": 0, "legitimate": 0})
    for release, mask, today, verdict, count in rows:
        for version in orders.versions(release, bytes(mask)):
            _tally(hits[version], today, verdict, count)
    return dict(hits)


def _tally(hits: dict[str, int], today: bool, verdict: int, count: int) -> None:
    hits["week"] += count
    hits["day"] += count if today else 0
    if verdict in (FRAUD, LEGITIMATE):
        hits["fraud" if verdict == FRAUD else "legitimate"] += count


def segments(thresholds: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """Every segment that may have thresholds of its own: name, whether it has, and what applies to it now."""
    return [
        {
            "name": name,
            "own": name in thresholds,
            "steps": {step: thresholds.get(name, thresholds[DEFAULT])[step] for step in STEPS},
        }
        for name in [DEFAULT, *CHANNEL]
    ]
