"""What a model may learn from: vectors as they were or would have been, labels as they were known at a time.

Live payments bring the vector stored with their decision. History brings none: it is replayed by time through the same
kernel, each payment when it happened, each label when it became known. A label that an import gave no time for is taken
to have become known `assumed_delay` after its payment. No label is a label too, "genuine", but only once frauds have
had their time to be reported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from django.db import connection

from scoring import epochs, features
from scoring.profiles import FRAUD, LABEL_ROW, LEGITIMATE, NONE
from transactions.binary import fetch
from transactions.codes import INTAKE, OUTCOME
from transactions.facts import DAY, FACT_COLUMNS, FACTS

ASSUMED_DELAY = 7 * DAY
PIECE = 200_000  # rows fetched at once
ENDLESS = 2**62
FEW = 30  # frauds below which their reporting delays say nothing

KNOWN_LABEL = np.dtype([*LABEL_ROW.descr, ("happened", "i8")])  # LABEL_ROW and when its payment happened
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Dataset:
    """n payments in time order, with what became known of them."""

    ids: np.ndarray  # i8
    occurred_at: np.ndarray  # i8, micro-seconds since 2000
    customers: np.ndarray  # i8
    matrix: np.ndarray  # f4, (n, N_FEATURES)
    labels: np.ndarray  # KNOWN_LABEL, of these and perhaps of other payments

    def __len__(self) -> int:
        return len(self.ids)

    def known(self, by: int = ENDLESS) -> np.ndarray:
        """The label in force of each payment as it was known at `by` (inclusive): NONE, LEGITIMATE or FRAUD, i1."""
        return in_force(self.ids, self.labels, by)

    def between(self, begin: int, end: int) -> Dataset:
        """The payments that happened from `begin` until before `end`."""
        first, last = np.searchsorted(self.occurred_at, [begin, end])
        part = slice(first, last)
        return Dataset(self.ids[part], self.occurred_at[part], self.customers[part], self.matrix[part], self.labels)

    def lesson(self, *, by: int, maturity: int) -> Lesson:
        """What the payments teach at `by`: the labels known by then, and no label as far as that means anything.

        Without a label a payment counts as genuine in full from the age `maturity` (micro-seconds) on; a younger one by
        the share of frauds that are reported at its age. So young payments hold as many genuine ones for each fraud as
        old ones do; with the labelled alone, whatever tells young from old would tell fraud.
        """
        known = self.known(by)
        age = by - self.occurred_at
        weights = np.where(known != NONE, 1.0, reported_share(self.labels, age, by=by, maturity=maturity))
        use = np.flatnonzero((age >= 0) & (weights > 0))
        return Lesson(use, known[use] == FRAUD, weights[use].astype("f4"), age[use] >= maturity)


@dataclass(frozen=True)
class Lesson:
    """What n payments of a dataset teach."""

    rows: np.ndarray  # i8: which
    frauds: np.ndarray  # bool
    weights: np.ndarray  # f4, above 0
    mature: np.ndarray  # bool: old enough that no label means genuine


def reported_share(labels: np.ndarray, age: np.ndarray, *, by: int, maturity: int) -> np.ndarray:
    """How many of the frauds that are ever reported are reported at each `age` (micro-seconds); 1 from `maturity` on.

    Read off frauds known at `by` and old enough to have been reported; with few of them it grows evenly.
    """
    old = labels[(labels["verdict"] == FRAUD) & (labels["known_at"] <= by) & (labels["happened"] <= by - maturity)]
    young = np.clip(age / maturity, 0.0, 1.0) if maturity else np.ones(len(age))
    if len(old) >= FEW:
        delays = np.sort(old["known_at"] - old["happened"])
        young = np.searchsorted(delays, age, side="right") / len(delays)
    return np.where(age >= maturity, 1.0, young)


def in_force(ids: np.ndarray, labels: np.ndarray, by: int) -> np.ndarray:
    """The label in force of each payment of `ids` at `by`: of those known then, the highest by source, time, id."""
    chosen = labels[labels["known_at"] <= by]
    order = np.lexsort((chosen["id"], chosen["known_at"], chosen["source"], chosen["transaction_id"]))
    chosen = chosen[order]
    last = np.r_[chosen["transaction_id"][1:] != chosen["transaction_id"][:-1], True][: len(chosen)]
    chosen = chosen[last]
    found = np.full(len(ids), NONE, "i1")
    if len(chosen):
        place = np.minimum(np.searchsorted(chosen["transaction_id"], ids), len(chosen) - 1)
        hit = chosen["transaction_id"][place] == ids
        verdict = chosen["verdict"][place[hit]]
        found[hit] = np.where(verdict <= FRAUD, verdict, NONE)
    return found


# --- reading ----------------------------------------------------------------------------------------------------------


def labels_of(lane_id: int, *, assumed_delay: int = ASSUMED_DELAY) -> np.ndarray:
    """All label rows of a lane, dtype KNOWN_LABEL, in the order they became known.

    An imported label whose known time is the time of its import was given none: it gets its payment's time plus
    `assumed_delay`. None becomes known before its payment.
    """
    with connection.cursor() as cursor:
        rows = fetch(
            cursor,
            """SELECT l.id, l.transaction_id,
                      CASE WHEN l.import_job IS NOT NULL AND l.known_at = l.recorded_at
                           THEN t.occurred_at + %s * interval '1 microsecond' ELSE l.known_at END,
                      l.verdict, l.source, t.occurred_at
                 FROM label l JOIN transaction t ON t.id = l.transaction_id WHERE l.lane = %s""",
            [assumed_delay, lane_id],
            KNOWN_LABEL,
        )
    rows["known_at"] = np.maximum(rows["known_at"], rows["happened"])
    return rows[np.lexsort((rows["id"], rows["known_at"]))]


def decided(lane_id: int, begin: int, end: int, most: int) -> Dataset:
    """The live payments of a stretch with the vectors stored at their decisions; the newest `most` of them."""
    stored = np.dtype(
        [("id", "i8"), ("occurred_at", "i8"), ("customer", "i8"), ("features", "f4", (features.N_FEATURES,))]
    )
    with connection.cursor() as cursor:
        rows = fetch(
            cursor,
            f"""SELECT t.id, t.occurred_at, t.customer, d.features
                  FROM decision d JOIN transaction t ON t.id = d.transaction_id
                 WHERE d.lane = %(lane)s AND d.screening = 1 AND d.kernel_version = %(kernel)s
                   AND d.outcome <> {OUTCOME.code("recorded")}
                   AND t.occurred_at >= {_moment("begin")} AND t.occurred_at < {_moment("end")}
                 ORDER BY d.id DESC LIMIT %(most)s""",
            {"lane": lane_id, "kernel": features.KERNEL_VERSION, "begin": begin, "end": end, "most": most},
            stored,
        )
    rows = rows[np.lexsort((rows["id"], rows["occurred_at"]))]
    return Dataset(rows["id"], rows["occurred_at"], rows["customer"], rows["features"], np.zeros(0, KNOWN_LABEL))


def external_ids(ids: np.ndarray) -> dict[int, str]:
    """The clients' own ids of payments."""
    found: dict[int, str] = {}
    with connection.cursor() as cursor:
        for start in range(0, len(ids), PIECE):
            cursor.execute(
                "SELECT id, external_id FROM transaction WHERE id = ANY(%s)", [ids[start : start + PIECE].tolist()]
            )
            found.update(cursor.fetchall())
    return found


# --- replaying --------------------------------------------------------------------------------------------------------


def replay(
    facts_batches: Iterable[np.ndarray],
    labels: np.ndarray,
    *,
    windows: Sequence[tuple[int, int]],
    most: int = ENDLESS,
    progress: Callable[[int], None] | None = None,
) -> Dataset:
    """Time replay of payments (dtype FACTS, in time order): the vectors the kernel would have seen within `windows`.

    Payments before and between the windows (begin, end) move the profiles, and so do labels, each at its known time.
    Only judged payments are kept, the newest `most`. `progress` is called with the number of payments walked.
    """
    rows = np.zeros(len(labels), LABEL_ROW)
    for name in LABEL_ROW.names or ():
        rows[name] = labels[name]
    kept: deque[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = deque()
    walked = held = 0
    for facts, matrix in epochs.time_replay(facts_batches, rows):
        times = facts["occurred_at"]
        wanted = np.any([(begin <= times) & (times < end) for begin, end in windows], axis=0)
        wanted &= features.kinds_of(facts) == features.JUDGED
        if wanted.any():
            kept.append((facts["id"][wanted], times[wanted], facts["customer"][wanted], matrix[wanted]))
            held += int(wanted.sum())
        while kept and held - len(kept[0][0]) >= most:
            held -= len(kept.popleft()[0])
        walked += len(facts)
        if progress is not None:
            progress(walked)
    return _collected(list(kept), labels)


def _collected(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]], labels: np.ndarray) -> Dataset:
    if not parts:
        none = np.zeros(0, "i8")
        return Dataset(none, none, none, np.zeros((0, features.N_FEATURES), "f4"), labels)
    ids, times, customers, matrices = zip(*parts, strict=True)
    return Dataset(
        np.concatenate(ids), np.concatenate(times), np.concatenate(customers), np.concatenate(matrices), labels
    )


def replay_lane(
    lane_id: int,
    labels: np.ndarray,
    *,
    windows: Sequence[tuple[int, int]],
    history_only: bool = False,
    most: int = ENDLESS,
    progress: Progress | None = None,
) -> Dataset:
    """`replay` of a lane's stored payments up to the end of the last window, from the very first, in bounded memory."""
    chosen = f"lane = %(lane)s AND occurred_at < {_moment('until')}"
    if history_only:
        chosen += f" AND intake = {INTAKE.code('history')}"
    asked = {"lane": lane_id, "until": max(end for _, end in windows)}
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM transaction WHERE {chosen}", asked)
        whole = int(cursor.fetchone()[0])
        select = f"SELECT {', '.join(FACT_COLUMNS)} FROM transaction WHERE {chosen} ORDER BY occurred_at, id"
        tell = partial(_tell, progress, whole) if progress else None
        batches = epochs.stream(cursor, select, asked, FACTS)
        return replay(batches, labels, windows=windows, most=most, progress=tell)


def _tell(progress: Progress, whole: int, done: int) -> None:
    progress(done, whole)


def _moment(name: str) -> str:
    return f"timestamptz '2000-01-01 00:00+00' + %({name})s * interval '1 microsecond'"


def join(parts: list[Dataset]) -> Dataset:
    """Several datasets as one, in time order; labels of all."""
    occurred = np.concatenate([part.occurred_at for part in parts])
    ids = np.concatenate([part.ids for part in parts])
    order = np.lexsort((ids, occurred))
    labels = np.concatenate([part.labels for part in parts])
    _, first = np.unique(labels["id"], return_index=True)
    return Dataset(
        ids[order],
        occurred[order],
        np.concatenate([part.customers for part in parts])[order],
        np.concatenate([part.matrix for part in parts])[order],
        labels[first],
    )


def of_lane(lane_id: int, *, begin: int, end: int, most: int, progress: Progress | None = None) -> Dataset:
    """What a lane's training draws from, `begin` until `end`: live payments as decided, its history replayed."""
    labels = labels_of(lane_id)
    live = decided(lane_id, begin, end, most)
    room = max(0, most - len(live))
    past = replay_lane(lane_id, labels, windows=[(begin, end)], history_only=True, most=room, progress=progress)
    return join([past, live])


def describe(labels: np.ndarray) -> dict[str, Any]:
    """How many payments a set of labels calls what."""
    ids = np.unique(labels["transaction_id"])
    force = in_force(ids, labels, ENDLESS)
    return {
        "fraud": int((force == FRAUD).sum()),
        "legitimate": int((force == LEGITIMATE).sum()),
        "withdrawn": int((force == NONE).sum()),
    }
