"""The whole climb in one page: claim → features → model → rules → policy → decisions, alerts, log, cursor: one commit.

`judge` is that commit. What is owed after it (replies, pushes, cases, explanations) is done by `settle`, and found
again by sweeps of their own when it is lost. `run` keeps a lane going for as long as its process lives; `drain`
judges what is owed now. How a lane is owned, claims and sweeps stands in `scoring/lanes.py`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import psycopg2
from django.db import InterfaceError, OperationalError, connection, connections

from alerts import live
from alerts.services import alert_rows, stopped
from fraudsite import doorbell
from fraudsite.answering import decision_object, find, judge_now
from fraudsite.reporting import Report
from scoring import epochs, features, releases
from scoring.lanes import Claim, Commit, Lane, LaneLost, LaneTaken, NotNow, own_lane
from scoring.models import LOG_KIND
from scoring.profiles import LABEL_ROW, Profiles
from scoring.services import Decisions, decide, decide_unseen, is_judged
from transactions import binary, ring
from transactions.binary import Column
from transactions.facts import FACT_COLUMNS, FACTS, blank, micros
from transactions.services import Inserted, Prepared, insert

__all__ = ["drain", "find", "judge", "judge_now", "run"]

log = logging.getLogger(__name__)

IDLE_SECONDS = 1.0  # the longest wait for a ring; the lane's session is touched at least this often
LOCK_MILLISECONDS = 100  # how long the lane waits for a key that another ingest holds
REST_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)  # before a lane is owned again after its session was lost
# The session's fault, not the claim's.
LOST = (LaneLost, psycopg2.OperationalError, psycopg2.InterfaceError, OperationalError, InterfaceError)
JUDGED, PROFILED, LABEL = (LOG_KIND.code(text) for text in ("judged", "profiled", "label"))

FACTS_OF = f"SELECT {', '.join(FACT_COLUMNS)} FROM transaction t WHERE t.lane = %(lane)s"
UNDECIDED = " AND t.intake = 1 AND NOT EXISTS (SELECT FROM decision d WHERE d.id = t.id * 64 + 1)"
LABELS_DUE = """
    SELECT l.id, l.transaction_id, l.known_at, l.verdict, l.source FROM label l
     WHERE l.lane = %(lane)s AND l.id = ANY(%(ids)s::bigint[])
       AND NOT EXISTS (SELECT FROM lane_log g WHERE g.label_id = l.id)
       AND (l.transaction_id = ANY(%(batch)s::bigint[])
         OR EXISTS (SELECT FROM decision d WHERE d.id = l.transaction_id * 64 + 1)
         OR EXISTS (SELECT FROM transaction b WHERE b.id = l.transaction_id AND b.import_job = ANY(%(imports)s::int[])))
       AND (l.import_job IS NULL OR NOT (IMPORTED_LABEL))
     ORDER BY l.id""".replace("IMPORTED_LABEL", epochs.IMPORTED_LABEL)
NEW_LINKS = """
    INSERT INTO entity_link (lane, left_kind, left_key, right_kind, right_key, transaction_id, seen_at)
    SELECT %s, a, b, c, d, e, '2000-01-01Z'::timestamptz + f * interval '1 microsecond'
      FROM unnest(%s::smallint[], %s::bigint[], %s::smallint[], %s::bigint[], %s::bigint[], %s::bigint[])
           AS u (a, b, c, d, e, f)
    ON CONFLICT DO NOTHING"""


class KeysHeld(NotNow):
    """Another ingest holds a key of a waiting request's payment: its web process will keep the payment itself."""


class NoRelease(NotNow):
    """Nothing says yet what to judge by."""


@dataclass
class Kept:
    """The payments of waiting requests, what inserting them came to, and where each request's own payment stands."""

    places: dict[bytes, int]
    facts: np.ndarray
    inserted: Inserted

    def fresh(self) -> tuple[np.ndarray, np.ndarray]:
        """The payments stored just now, with their ids, and the ids of those that were there before."""
        won, conflict, ids = self.inserted.won, self.inserted.conflict, self.inserted.ids
        facts = self.facts[won]
        facts["id"] = ids[won]
        return facts, ids[~won & ~conflict]


@dataclass
class Done:
    """What one commit took in, for `settle`."""

    payments: int = 0
    labels: int = 0
    decided_at: int = 0
    kept: Kept | None = None
    decisions: Decisions | None = None
    alerts: dict[str, Column] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.payments + self.labels


# --- the commit -------------------------------------------------------------------------------------------------------


def judge(lane: Lane, claim: Claim) -> Done:
    """One commit: the claimed payments kept, decided, their alerts raised, labels taken in, log and cursor moved on.

    Then what is owed after it. Raises NoRelease and leaves everything as it was; any other error ends the lane's
    session.
    """
    try:
        done = _commit(lane, claim)
    except KeysHeld:
        done = _commit(lane, replace(claim, bodies=[]))
    try:
        settle(lane, done)
    except Exception:  # the commit stands, and all that is owed after it is found again from rows
        log.exception("lane %s could not settle %s payments", lane.id, done.payments)
    return done


def _commit(lane: Lane, claim: Claim) -> Done:
    with lane.commit() as commit:
        cursor = commit.cursor
        judge = _in_force(cursor, lane.id)
        kept = _keep(cursor, claim.bodies)
        facts = _payments(cursor, lane.id, claim.payments, kept)
        labels = _labels(cursor, lane, claim.labels, facts["id"])
        done = Done(len(facts), len(labels), kept=kept)
        if not len(done):
            return done
        seqs = np.arange(commit.before.seq + 1, commit.before.seq + 1 + len(done))
        events = np.empty(0, features.EVENT)
        if claim.fallback:
            decisions, links = decide_unseen(facts, judge), np.empty(0, features.LINK)
        else:
            labelled = _labelled(cursor, lane.id, labels)
            events, advanced = _advance(commit.memory, facts, labels, labelled, int(seqs[0]))
            decisions, links = decide(facts, advanced.matrix[: len(facts)], judge), advanced.links
        done.decisions, done.decided_at = decisions, micros(datetime.now(UTC))
        _store(cursor, commit, done, seqs, fallback=claim.fallback)
        _log_labels(cursor, commit, lane.id, labels, events[len(facts) :])
        _link(cursor, lane.id, links)
        commit.to(int(seqs[-1]))
    return done


def _in_force(cursor: Any, lane_id: int) -> releases.Judge:
    """The judge of the release that is in force now, read under the lane's lock."""
    release_id = releases.current(cursor, lane_id)
    if release_id is None:
        raise NoRelease(f"lane {lane_id} has no release")
    return releases.assemble(release_id)


def _keep(cursor: Any, bodies: list[ring.Body]) -> Kept | None:
    """Insert the payments of waiting requests together, never waiting long for a key. Raises KeysHeld."""
    read = [(body, prepared) for body in bodies if (prepared := _read(body)) is not None]
    if not read:
        return None
    prepared = Prepared.join([each for _, each in read])
    cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_MILLISECONDS}ms'")
    try:
        inserted = insert(cursor, prepared)
    except psycopg2.errors.LockNotAvailable as error:
        raise KeysHeld(str(error)) from error
    cursor.execute("SET LOCAL lock_timeout = 0")
    starts = np.cumsum([0, *(len(each) for _, each in read)])[:-1].tolist()
    return Kept({body.token: start for (body, _), start in zip(read, starts, strict=True)}, prepared.facts, inserted)


def _read(body: ring.Body) -> Prepared | None:
    """The payments of a body; None if it cannot be read: then its web process keeps them itself."""
    try:
        return Prepared.load(body.prepared)
    except ValueError as error:
        log.error("a waiting request could not be read: %s", error)
        return None


def _payments(cursor: Any, lane_id: int, ids: np.ndarray, kept: Kept | None) -> np.ndarray:
    """Facts of all that is to be judged, each once, in order of time: claimed, live and undecided, or just inserted."""
    if kept is None:
        facts = _undecided(cursor, lane_id, np.unique(ids))
    else:
        fresh, known = kept.fresh()
        facts = np.concatenate([fresh, _undecided(cursor, lane_id, np.setdiff1d(np.append(ids, known), fresh["id"]))])
    return facts[np.lexsort((facts["id"], facts["occurred_at"]))]


def _undecided(cursor: Any, lane_id: int, ids: np.ndarray) -> np.ndarray:
    if not len(ids):
        return np.empty(0, FACTS)
    first, last = int(ids[0]), int(ids[-1])
    if last - first < 2 * len(ids):
        where, params = " AND t.id BETWEEN %(first)s AND %(last)s", {"lane": lane_id, "first": first, "last": last}
        facts = binary.fetch(cursor, FACTS_OF + where + UNDECIDED, params, FACTS)
        return facts[np.isin(facts["id"], ids)]
    params = {"lane": lane_id, "ids": ids.tolist()}
    return binary.fetch(cursor, FACTS_OF + " AND t.id = ANY(%(ids)s::bigint[])" + UNDECIDED, params, FACTS)


def _labels(cursor: Any, lane: Lane, ids: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Label rows that are due and whose payments are taken in, now or earlier, in order of their ids."""
    if not len(ids):
        return np.empty(0, LABEL_ROW)
    params = {"lane": lane.id, "ids": ids.tolist(), "batch": batch.tolist(), "imports": lane.imports}
    return binary.fetch(cursor, LABELS_DUE, params, LABEL_ROW)


def _labelled(cursor: Any, lane_id: int, labels: np.ndarray) -> np.ndarray:
    """Facts of the labelled payments, one row for each label."""
    if not len(labels):
        return np.empty(0, FACTS)
    ids = np.unique(labels["transaction_id"])
    params = {"lane": lane_id, "ids": ids.tolist()}
    facts = binary.fetch(cursor, FACTS_OF + " AND t.id = ANY(%(ids)s::bigint[]) ORDER BY t.id", params, FACTS)
    return facts[np.searchsorted(facts["id"], labels["transaction_id"])]


def _advance(
    memory: Profiles, facts: np.ndarray, labels: np.ndarray, labelled: np.ndarray, first_seq: int
) -> tuple[np.ndarray, features.Advanced]:
    """The kernel over the batch, payments first, then labels. From here on the memory is ahead of the database."""
    payments = features.events_from_facts(facts, first_seq)
    effects = features.label_events(memory, labels, labelled, first_seq + len(facts))
    events = np.concatenate([payments, effects])
    return events, features.advance(memory, events)


def _store(cursor: Any, commit: Commit, done: Done, seqs: np.ndarray, *, fallback: bool) -> None:
    """Decisions, their log rows and their alerts."""
    decisions = done.decisions
    if decisions is None or not done.payments:
        return
    facts, seqs = decisions.facts, seqs[: done.payments]
    binary.store(cursor, "decision", decisions.columns(seqs, done.decided_at))
    entries: dict[str, Column] = {
        "lane": ("int2", facts["lane"]),
        "seq": ("int8", seqs),
        "epoch": ("int4", commit.before.epoch),
        "token": ("uuid", commit.token),
        "kind": ("int2", np.where(is_judged(facts), JUDGED, PROFILED)),
        "transaction_id": ("int8", facts["id"]),
    }
    binary.store(cursor, "lane_log", entries | ({"old": ("int2", epochs.LEFT_OUT)} if fallback else {}))
    done.alerts = _alerts(cursor, decisions, seqs, done.decided_at)
    if done.alerts:
        binary.store(cursor, "alert", done.alerts)


def _alerts(cursor: Any, decisions: Decisions, seqs: np.ndarray, decided_at: int) -> dict[str, Column]:
    """The alerts of the batch as columns; empty when nothing was stopped."""
    places = np.flatnonzero(stopped(decisions.outcomes))
    if not len(places):
        return {}
    facts = decisions.facts[places]
    cursor.execute("SELECT id, customer_ref FROM transaction WHERE id = ANY(%s)", [facts["id"].tolist()])
    customers = dict(cursor.fetchall())
    head = np.zeros(
        len(places), [("id", "i8"), ("seq", "i8"), ("decided_at", "i8"), ("outcome", "i2"), ("score", "i2")]
    )
    head["id"], head["seq"], head["decided_at"] = decisions.ids[places], seqs[places], decided_at
    head["outcome"], head["score"] = decisions.outcomes[places], decisions.scores[places]
    return alert_rows(
        facts,
        head,
        customer_refs=[customers[each] for each in facts["id"].tolist()],
        reasons=[[dict(each) for each in decisions.reasons(place)] for place in places.tolist()],
        rules=[decisions.hits(place) for place in places.tolist()],
        hold_minutes=decisions.judge.policy.hold_minutes,
    )


def _log_labels(cursor: Any, commit: Commit, lane_id: int, labels: np.ndarray, effects: np.ndarray) -> None:
    """A log row for each label row taken in, also where nothing changes."""
    if not len(labels):
        return
    columns: dict[str, Column] = {
        "lane": ("int2", lane_id),
        "seq": ("int8", effects["seq"]),
        "epoch": ("int4", commit.before.epoch),
        "token": ("uuid", commit.token),
        "kind": ("int2", LABEL),
        "transaction_id": ("int8", labels["transaction_id"]),
        "label_id": ("int8", labels["id"]),
        "old": ("int2", effects["old"]),
        "new": ("int2", effects["new"]),
    }
    binary.store(cursor, "lane_log", columns)


def _link(cursor: Any, lane_id: int, links: np.ndarray) -> None:
    """First sightings of pairs. A pair known from an earlier epoch keeps its row."""
    if len(links):
        names = ("left_kind", "left_key", "right_kind", "right_key", "transaction_id", "seen_at")
        cursor.execute(NEW_LINKS, [lane_id, *(links[name].tolist() for name in names)])


# --- after the commit -------------------------------------------------------------------------------------------------


def settle(lane: Lane, done: Done) -> None:
    """What is owed after the commit: replies, pushes, doorbells. Nothing here undoes it, and none of it waits long."""
    _reply(done)
    decisions = done.decisions
    if decisions is None or not done.payments:
        return
    live.publish_sample(
        lane.id, decisions.facts, decisions.outcomes, decisions.scores, decisions.latency(done.decided_at)
    )
    if done.alerts:
        live.publish(lane.id, done.alerts)
        doorbell.ring("cases.open_cases")
        doorbell.ring("alerts.explain")


def _reply(done: Done) -> None:
    """Wake the waiting requests. What is lost here, patience ends."""
    if done.kept is None:
        return
    places = {} if done.decisions is None else {each: i for i, each in enumerate(done.decisions.facts["id"].tolist())}
    answers = {token: _answer(done, done.kept.inserted, n, places) for token, n in done.kept.places.items()}
    try:
        ring.reply({token: msgspec.json.encode(answer) for token, answer in answers.items()})
    except ring.RingGone as error:
        log.warning("replies were lost: %s", error)


def _answer(done: Done, inserted: Inserted, n: int, places: dict[int, int]) -> dict[str, Any]:
    """The reply for the one payment of a body; without a decision if it was decided earlier, or conflicts."""
    id_, conflict = int(inserted.ids[n]), bool(inserted.conflict[n])
    answer: dict[str, Any] = {"id": id_, "created": bool(inserted.won[n]), "conflict": conflict, "decision": None}
    if not conflict and id_ in places and done.decisions is not None:
        answer["decision"] = _told(done, done.decisions, places[id_])
    return answer


def _told(done: Done, decisions: Decisions, place: int) -> dict[str, Any]:
    reasons = decisions.reasons(place) if stopped(decisions.outcomes[place]) else ()
    return decision_object(
        outcome=int(decisions.outcomes[place]),
        score=int(decisions.scores[place]),
        band=int(decisions.bands[place]),
        degraded=decisions.degraded,
        latency=int(decisions.latency(done.decided_at)[place]),
        release=decisions.judge.release_id,
        names=decisions.judge.names,
        reasons=reasons,
    )


# --- keeping a lane going ---------------------------------------------------------------------------------------------


class Trouble:
    """Claims that failed, waiting to be tried again so that nothing poisons the lane.

    A claim that failed twice is halved; a single payment that failed twice is decided by the fallback. A label that
    fails twice stays owed, and the whole sweep tries it again.
    """

    def __init__(self) -> None:
        self.waiting: list[Claim] = []

    def note(self, claim: Claim) -> None:
        """Take in a claim whose judging raised. Bodies are left to their web processes."""
        if claim.fallback:
            return
        again = replace(claim, bodies=[], tries=claim.tries + 1)
        self.waiting += [each for each in ([again] if again.tries < 2 else self._parts(again)) if each]

    def _parts(self, claim: Claim) -> list[Claim]:
        payments, labels = claim.payments, claim.labels
        if len(payments) + len(labels) == 1:
            return [replace(claim, fallback=True)] if len(payments) else []
        if len(payments) and len(labels):
            halves = [(payments, labels[:0]), (payments[:0], labels)]
        else:
            middle = (len(payments) + 1) // 2, (len(labels) + 1) // 2
            halves = [(payments[: middle[0]], labels[: middle[1]]), (payments[middle[0] :], labels[middle[1] :])]
        tries = [1 if len(some) + len(others) > 1 else 0 for some, others in halves]
        return [Claim(*half, tries=n) for half, n in zip(halves, tries, strict=True)]

    def next(self) -> Claim | None:
        """The next claim to try again."""
        return self.waiting.pop(0) if self.waiting else None


def run(lane_id: int, *, until: threading.Event | None = None) -> None:
    """Own the lane and judge until `until` is set, owning it again whenever the session is lost.

    Returns at once if another process owns it. Raises UnknownLane.
    """
    until = until or threading.Event()
    try:
        _run(Keeper(lane_id, until.is_set), until)
    finally:
        connections.close_all()


def _run(keeper: Keeper, until: threading.Event) -> None:
    rests, warm = 0, False
    while not until.is_set():
        started = time.monotonic()
        try:
            if not warm:
                warm_up(keeper.lane_id)
                warm = True
            keeper.work()
        except LaneTaken:
            return
        except LOST as error:
            log.warning("lane %s lost its session: %s", keeper.lane_id, str(error).strip())
            connections.close_all()
            rests = 0 if time.monotonic() - started > 10 else min(rests + 1, len(REST_SECONDS) - 1)
            until.wait(REST_SECONDS[rests])


def drain_if_free(lane_id: int) -> int:
    """`drain`, or nothing where the lane has an owner, whose work it then is."""
    try:
        return drain(lane_id)
    except LaneTaken:
        return 0


def drain(lane_id: int) -> int:
    """Judge everything that is owed now, and return how many payments and labels that were. Raises LaneTaken."""
    keeper = Keeper(lane_id, lambda: False, once=True)
    keeper.work()
    return keeper.taken


def warm_up(lane_id: int) -> None:
    """Load model and rules and run them once on payments of nobody, before the lane is owned."""
    with connection.cursor() as cursor:
        release_id = releases.current(cursor, lane_id)
    if release_id is not None:
        decide(blank(2), np.zeros((2, features.N_FEATURES), "f4"), releases.assemble(release_id))


class Keeper:
    """One process's hold on a lane, over as many sessions as it takes; `work` is one session."""

    def __init__(self, lane_id: int, is_over: Callable[[], bool], *, once: bool = False) -> None:
        self.lane_id = lane_id
        self.is_over = is_over
        self.once = once
        self.memory: Any = None
        self.trouble = Trouble()
        self.taken = 0

    def work(self) -> None:
        """Own the lane until it is over or the session is lost. Claims that fail are tried again, then taken apart."""
        while not self.is_over():
            with own_lane(self.lane_id, memory=self.memory) as lane:
                self.memory = None
                try:
                    if self._until_trouble(lane):
                        return
                finally:
                    self.memory = lane.memory

    def _until_trouble(self, lane: Lane) -> bool:
        """True when there is nothing more to do; False when a claim failed and the lane must be owned again."""
        report = Report(lane)
        epochs.switch_if_ready(lane)
        if self.once:
            lane.sweep_all()
        while not self.is_over():
            if not self.once:
                self._between(lane, report)
            claim = self.trouble.next() or lane.claim(patience=0.0 if self.once else IDLE_SECONDS)
            if claim and not self._judged(lane, claim, report):
                return False
            if not claim and self.once:
                lane.move_marks()
                return True
        lane.save_if_due(now=True)
        report.leave()
        return True

    def _judged(self, lane: Lane, claim: Claim, report: Report) -> bool:
        try:
            done = judge(lane, claim)
        except NoRelease as error:
            report.waits_for(str(error))
            lane.forget_sweeps()
            time.sleep(0.0 if self.once else IDLE_SECONDS)
            if self.once:
                raise
            return True
        except LOST:
            raise
        except Exception:  # whatever a claim breaks in model, rules, kernel or rows must not poison the lane
            log.exception("lane %s could not judge a claim of %s payments", lane.id, len(claim.payments))
            self.trouble.note(claim)
            return False
        self.taken += len(done)
        report.note(done)
        return True

    def _between(self, lane: Lane, report: Report) -> None:
        """What happens between two commits: a waiting epoch, a due snapshot, a word about how it goes."""
        if report.due():
            if epochs.switch_if_ready(lane):
                lane.forget_sweeps()
            lane.save_if_due()
            report.write()
