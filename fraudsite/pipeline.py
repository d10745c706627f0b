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
from functools import partial
from typing import Any

import msgspec
import numpy as np
import psycopg2
import psycopg2.errors
from django.db import InterfaceError, OperationalError, close_old_connections, connection, connections

from alerts import live
from alerts.services import alert_rows, stopped
from fraudsite import doorbell, metrics, tally_sheets
from fraudsite.answering import decision_object, find, judge_now
from fraudsite.reporting import Report
from scoring import epochs, features, releases
from scoring.lanes import LIVE, LOCK_MILLISECONDS, Claim, Commit, KeysHeld, Lane, LaneLost, LaneTaken, NotNow, own_lane
from scoring.models import LOG_KIND
from scoring.profiles import LABEL_ROW, Profiles
from scoring.services import Decisions, decide, decide_unseen, is_judged, joined
from transactions import binary, clock, few, ring
from transactions.binary import Column
from transactions.facts import FACT_COLUMNS, FACTS, blank, micros, together
from transactions.services import Inserted, Prepared, insert

__all__ = ["drain", "find", "judge", "judge_now", "run"]

log = logging.getLogger(__name__)

STRETCH = 2_000  # payments of one commit that are decided at a time
IDLE_SECONDS = 1.0  # the longest wait for a ring; the lane's session is touched at least this often
REST_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)  # before a lane is owned again after its session was lost
# The session's or the server's fault, not the claim's.
LOST = (
    LaneLost,
    psycopg2.OperationalError,
    psycopg2.InterfaceError,
    psycopg2.errors.ReadOnlySqlTransaction,
    OperationalError,
    InterfaceError,
)
JUDGED, PROFILED, LABEL = (LOG_KIND.code(text) for text in ("judged", "profiled", "label"))

FACTS_OF = f"SELECT {', '.join(FACT_COLUMNS)} FROM transaction t WHERE t.lane = %(lane)s"
STILL_LIVE = f" AND t.intake = {LIVE}"
UNDECIDED = " AND NOT EXISTS (SELECT FROM decision d WHERE d.id = t.id * 64 + 1 OFFSET 0)"
DECIDED = "SELECT id / 64 FROM decision WHERE id BETWEEN %(first)s * 64 + 1 AND %(last)s * 64 + 1 AND id %% 64 = 1"
ID = np.dtype([("id", "i8")])
LABELS_DUE = """
    SELECT l.id, l.transaction_id, l.known_at, l.verdict, l.source FROM label l
     WHERE l.lane = %(lane)s AND l.id = ANY(%(ids)s::bigint[])
       AND NOT EXISTS (SELECT FROM lane_log g WHERE g.label_id = l.id)
       AND (l.transaction_id = ANY(%(batch)s::bigint[])
         OR EXISTS (SELECT FROM decision d WHERE d.id = l.transaction_id * 64 + 1)
         OR EXISTS (SELECT FROM transaction b WHERE b.id = l.transaction_id AND b.import_job = ANY(%(imports)s::int[])))
       AND (l.import_job IS NULL OR NOT (IMPORTED_LABEL))
     ORDER BY l.id""".replace("IMPORTED_LABEL", epochs.IMPORTED_LABEL)
FOUND_LINKS = """
    CREATE TEMPORARY TABLE IF NOT EXISTS found_link (LIKE entity_link) ON COMMIT DELETE ROWS"""
NEW_LINKS = "INSERT INTO entity_link SELECT * FROM found_link ON CONFLICT DO NOTHING"


class NoRelease(NotNow):
    """Nothing says yet what to judge by."""


class NotLoaded(NotNow):
    """A release just came into force. Its model takes seconds to load: not while a transaction is open."""

    def __init__(self, release_id: int) -> None:
        super().__init__(f"release {release_id} is not loaded")
        self.release_id = release_id


@dataclass
class Kept:
    """The payments of waiting requests, what inserting them came to, and where each request's own payment stands."""

    places: dict[bytes, int]
    prepared: Prepared
    inserted: Inserted

    def fresh(self) -> tuple[np.ndarray, np.ndarray]:
        """The payments stored just now, with their ids, and the ids of those that were there before."""
        won, conflict, ids = self.inserted.won, self.inserted.conflict, self.inserted.ids
        facts = self.prepared.facts[won]
        facts["id"] = ids[won]
        return facts, ids[~won & ~conflict]

    def customers(self) -> dict[int, str]:
        """The bank's own ids of the customers, by payment."""
        return dict(zip(self.inserted.ids.tolist(), self.prepared.customer_refs, strict=True))


@dataclass
class Done:
    """What one commit took in, for `settle`."""

    payments: int = 0
    labels: int = 0
    decided_at: int = 0
    kept: Kept | None = None
    decisions: Decisions | None = None
    alerts: dict[str, Column] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)  # seconds by stage

    def __len__(self) -> int:
        return self.payments + self.labels


# --- the commit -------------------------------------------------------------------------------------------------------


def judge(lane: Lane, claim: Claim) -> Done:
    """One commit: the claimed payments kept, decided, their alerts raised, labels taken in, log and cursor moved on.

    Then what is owed after it. Raises NoRelease and leaves everything as it was; any other error ends the lane's
    session.
    """
    done = None
    while done is None:
        try:
            done = _commit(lane, claim)
        except KeysHeld:
            claim = replace(claim, bodies=[])
        except NotLoaded as wanted:
            releases.assemble(wanted.release_id)
    try:
        settle(lane, done)
    except Exception:  # the commit stands, and all that is owed after it is found again from rows
        log.exception("lane %s could not settle %s payments", lane.id, done.payments)
        close_old_connections()  # Django mends a connection that was cut only where a request ends: here none does
    return done


def _commit(lane: Lane, claim: Claim) -> Done:
    places, bodies = _waiting(claim.bodies)
    keeping = bodies if bodies is not None and len(bodies) <= few.FEW and not bodies.originals else None
    with lane.commit(keeping) as commit:
        cursor = commit.cursor
        judge = _in_force(commit, lane.id)
        kept = None if bodies is None else Kept(places, bodies, commit.inserted or _keep(cursor, bodies))
        facts = _payments(cursor, lane.id, claim.payments, kept)
        labels = _labels(cursor, lane, claim.labels, facts["id"])
        done = Done(len(facts), len(labels), kept=kept)
        if not len(done):
            return done
        seqs = np.arange(commit.before.seq + 1, commit.before.seq + 1 + len(done))
        labelled = None if claim.fallback else _labelled(cursor, lane.id, labels)
        work = Work(commit.memory, judge, facts, labels, labelled, seqs)
        _log(commit, facts, seqs, fallback=claim.fallback, beside=partial(work.begin, done))
        _store(commit, done, work)
        _log_labels(commit, lane.id, labels, work.events[len(facts) :])
        _link(commit, lane.id, work.links)
        _tally(commit, done, int(seqs[-1]))
        commit.payments, commit.labels = facts["id"], labels["id"]
        commit.to(int(seqs[-1]))
    return done


@dataclass
class Work:
    """Features and decisions of one commit: all that needs no database, done while it takes in the rows before it.

    Decided stretch by stretch: the first while the log goes in, each other one while the one before it does.
    """

    memory: Profiles
    judge: releases.Judge
    facts: np.ndarray
    labels: np.ndarray
    labelled: np.ndarray | None  # None: judged without features, model and rules
    seqs: np.ndarray
    events: np.ndarray = field(default_factory=lambda: np.empty(0, features.EVENT))
    links: np.ndarray = field(default_factory=lambda: np.empty(0, features.LINK))
    matrix: np.ndarray = field(default_factory=lambda: np.empty((0, features.N_FEATURES), "f4"))
    decided: list[Decisions] = field(default_factory=list)

    def begin(self, done: Done) -> None:
        """Advance the memory and decide the first stretch."""
        if self.labelled is None:
            self.decided, self.events = [decide_unseen(self.facts, self.judge)], _left_out(self.seqs)
        else:
            began = time.perf_counter()
            first = int(self.seqs[0])
            self.events, advanced = _advance(self.memory, self.facts, self.labels, self.labelled, first)
            self.matrix, self.links = advanced.matrix[: len(self.facts)], advanced.links
            done.took["features"] = time.perf_counter() - began
            self.go_on()
        done.decided_at = micros(clock.now())

    def go_on(self) -> None:
        """Decide the next stretch."""
        place = slice(self.reached, self.reached + STRETCH)
        self.decided.append(decide(self.facts[place], self.matrix[place], self.judge))

    @property
    def reached(self) -> int:
        """How many payments are decided."""
        return sum(len(each.facts) for each in self.decided)


def _left_out(seqs: np.ndarray) -> np.ndarray:
    """Events of what never enters the profiles; no replay takes it in either."""
    events = np.zeros(len(seqs), features.EVENT)
    events["seq"], events["old"], events["new"] = seqs, epochs.LEFT_OUT, epochs.LEFT_OUT
    return events


def _in_force(commit: Commit, lane_id: int) -> releases.Judge:
    """The judge of the release that is in force now, read under the lane's lock."""
    if commit.release_id is None:
        raise NoRelease(f"lane {lane_id} has no release")
    judge = releases.assembled(commit.release_id)
    if judge is None:
        raise NotLoaded(commit.release_id)
    return judge


def _waiting(bodies: list[ring.Body]) -> tuple[dict[bytes, int], Prepared | None]:
    """The payments of waiting requests as one batch, and where each request's own one stands in it."""
    read = [(body, prepared) for body in bodies if (prepared := _read(body)) is not None]
    if not read:
        return {}, None
    starts = np.cumsum([0, *(len(each) for _, each in read)])[:-1].tolist()
    places = {body.token: start for (body, _), start in zip(read, starts, strict=True)}
    return places, Prepared.join([each for _, each in read])


def _keep(cursor: Any, prepared: Prepared) -> Inserted:
    """Insert the payments of many waiting requests, never waiting long for a key. Raises KeysHeld."""
    cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_MILLISECONDS}ms'")
    try:
        inserted = insert(cursor, prepared)
    except psycopg2.errors.LockNotAvailable as error:
        raise KeysHeld(str(error)) from error
    cursor.execute("SET LOCAL lock_timeout = 0")
    return inserted


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
        facts, known = kept.fresh()
        if len(ids) or len(known):
            others = np.setdiff1d(np.append(ids, known), facts["id"])
            facts = together([facts, _undecided(cursor, lane_id, others)])
    return facts if len(facts) < 2 else facts[np.lexsort((facts["id"], facts["occurred_at"]))]


def _undecided(cursor: Any, lane_id: int, ids: np.ndarray) -> np.ndarray:
    """Facts of the live payments among `ids` (ascending) without a decision.

    A stretch of ids is read as such, and apart from it what is decided there, which is next to nothing: half the work
    of a look for each. Only the lane's owner decides, so that the two statements see the same.
    """
    if not len(ids):
        return np.empty(0, FACTS)
    first, last = int(ids[0]), int(ids[-1])
    if last - first >= 2 * len(ids):
        claimed = FACTS_OF + STILL_LIVE + " AND t.id = ANY(%(ids)s::bigint[])" + UNDECIDED
        return binary.fetch(cursor, claimed, {"lane": lane_id, "ids": ids.tolist()}, FACTS)
    stretch = {"lane": lane_id, "first": first, "last": last}
    facts = binary.fetch(cursor, FACTS_OF + STILL_LIVE + " AND t.id BETWEEN %(first)s AND %(last)s", stretch, FACTS)
    decided = binary.fetch(cursor, DECIDED, stretch, ID)["id"]
    if len(decided):
        facts = facts[~np.isin(facts["id"], decided)]
    return facts if len(ids) == last - first + 1 else facts[np.isin(facts["id"], ids)]


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
    if not len(labels):
        return payments, features.advance(memory, payments)
    effects = features.label_events(memory, labels, labelled, first_seq + len(facts))
    events = np.concatenate([payments, effects])
    return events, features.advance(memory, events)


def _log(commit: Commit, facts: np.ndarray, seqs: np.ndarray, *, fallback: bool, beside: Callable[[], None]) -> None:
    """The log rows of the payments, which say nothing of how they are decided: so that this is found out beside it."""
    entries: dict[str, Column] = {
        "lane": ("int2", facts["lane"]),
        "seq": ("int8", seqs[: len(facts)]),
        "epoch": ("int4", commit.before.epoch),
        "token": ("uuid", commit.token),
        "kind": ("int2", np.where(is_judged(facts), JUDGED, PROFILED)),
        "transaction_id": ("int8", facts["id"]),
    }
    commit.store("lane_log", entries | ({"old": ("int2", epochs.LEFT_OUT)} if fallback else {}), beside=beside)


def _store(commit: Commit, done: Done, work: Work) -> None:
    """Decisions and their alerts."""
    stored = 0
    while stored < done.payments:
        part = work.decided[-1]
        seqs = work.seqs[stored : stored + len(part.facts)]
        moments = clock.each(part.facts["received_at"], done.decided_at)
        rows = part.columns(seqs, done.decided_at) | {"decided_at": ("timestamptz", moments)}
        commit.store("decision", rows, beside=work.go_on if work.reached < done.payments else None)
        stored += len(part.facts)
    if not stored:
        return
    done.decisions = decisions = joined(work.decided)
    seqs = work.seqs[:stored]
    done.alerts = _alerts(commit.cursor, decisions, seqs, done)
    if done.alerts:
        commit.store("alert", done.alerts)


def _alerts(cursor: Any, decisions: Decisions, seqs: np.ndarray, done: Done) -> dict[str, Column]:
    """The alerts of the batch as columns; empty when nothing was stopped."""
    places = np.flatnonzero(stopped(decisions.outcomes))
    if not len(places):
        return {}
    facts = decisions.facts[places]
    customers = done.kept.customers() if done.kept is not None else {}
    if unknown := [each for each in facts["id"].tolist() if each not in customers]:
        cursor.execute("SELECT id, customer_ref FROM transaction WHERE id = ANY(%s)", [unknown])
        customers |= dict(cursor.fetchall())
    head = np.zeros(
        len(places), [("id", "i8"), ("seq", "i8"), ("decided_at", "i8"), ("outcome", "i2"), ("score", "i2")]
    )
    head["id"], head["seq"] = decisions.ids[places], seqs[places]
    head["decided_at"] = clock.each(facts["received_at"], done.decided_at)
    head["outcome"], head["score"] = decisions.outcomes[places], decisions.scores[places]
    return alert_rows(
        facts,
        head,
        customer_refs=[customers[each] for each in facts["id"].tolist()],
        reasons=[[dict(each) for each in decisions.reasons(place)] for place in places.tolist()],
        rules=[decisions.hits(place) for place in places.tolist()],
        hold_minutes=decisions.judge.policy.hold_minutes,
    )


def _log_labels(commit: Commit, lane_id: int, labels: np.ndarray, effects: np.ndarray) -> None:
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
    commit.store("lane_log", columns)


def _link(commit: Commit, lane_id: int, links: np.ndarray) -> None:
    """First sightings of pairs, in the order of their keys: whoever builds an epoch inserts here too, and the two must
    not wait for each other crosswise. A pair known from an earlier epoch keeps its row.
    """
    if not len(links):
        return
    by = ("right_key", "right_kind", "left_key", "left_kind")
    links = links[np.lexsort([links[name] for name in by])]
    columns: dict[str, Column] = {"lane": ("int2", lane_id), **binary.fixed(links)}
    columns["seen_at"] = ("timestamptz", links["seen_at"])
    if len(links) <= few.FEW:
        commit.writes.append(commit.few.insert("entity_link", columns, then="ON CONFLICT DO NOTHING"))
        return
    commit.cursor.execute(FOUND_LINKS)
    binary.store(commit.cursor, "found_link", columns)
    commit.writes.append(NEW_LINKS)


def _tally(commit: Commit, done: Done, upto: int) -> None:
    """What the commit adds to the tallies of the dashboards, so that nobody reads its payments again for them."""
    if done.decisions is None or done.payments < tally_sheets.WORTH:
        return
    sheet = tally_sheets.columns(
        done.decisions.facts, done.decisions, after=commit.before.seq, upto=upto, decided_at=done.decided_at
    )
    commit.writes.append(commit.few.insert("tally_sheet", sheet))


# --- after the commit -------------------------------------------------------------------------------------------------


def settle(lane: Lane, done: Done) -> None:
    """What is owed after the commit: replies, pushes, doorbells. Nothing here undoes it, and none of it waits long."""
    _reply(done)
    decisions = done.decisions
    if decisions is None or not done.payments:
        return
    if done.alerts:
        live.publish(lane.id, done.alerts)
        doorbell.ring("cases.open_cases")
        doorbell.ring("alerts.explain")
    live.publish_sample(
        lane.id, decisions.facts, decisions.outcomes, decisions.scores, decisions.latency(done.decided_at)
    )
    metrics.note(done)


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
    basis = decisions.basis(place)
    reasons = decisions.reasons(place) if basis or stopped(decisions.outcomes[place]) else ()
    return decision_object(
        outcome=int(decisions.outcomes[place]),
        score=int(decisions.scores[place]),
        band=int(decisions.bands[place]),
        degraded=decisions.degraded_at(place),
        basis=basis,
        latency=int(decisions.latency(done.decided_at)[place]),
        release=decisions.judge.release_id,
        names=decisions.judge.names,
        reasons=reasons,
    )


# --- keeping a lane going ---------------------------------------------------------------------------------------------


class Trouble:
    """Claims that failed, waiting to be tried again so that nothing poisons the lane.

    A claim that failed twice is halved; a single payment that failed twice is decided by the fallback, a single label
    gets a log row that changes nothing and that every replay leaves out.
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
            return [replace(claim, fallback=True)]
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
        swept = self._swept(lane)
        while not self.is_over():
            if not self.once:
                self._between(lane, report)
            claim = self.trouble.next() or lane.claim(patience=0.0 if self.once else IDLE_SECONDS)
            if claim and not self._judged(lane, claim, report):
                return False
            if not claim and self.once:
                if swept == self.taken:
                    lane.move_marks()
                    return True
                swept = self._swept(lane)  # what was taken in may let labels in that had to wait for it
        lane.save_if_due(now=True)
        report.leave()
        return True

    def _swept(self, lane: Lane) -> int:
        """Find all that is owed where nobody will sweep again later; how much was taken in before."""
        if self.once:
            lane.sweep_all()
        return self.taken

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
        lane.go_on_saving()
        if report.due():
            if epochs.switch_if_ready(lane):
                lane.forget_sweeps()
            lane.save_if_due()
            report.write()
