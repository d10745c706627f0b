"""Thresholds under which half a percent of the benchmarks' own payments are stopped, rules included.

A throw-away model knows nothing of the crowd, so its scores mean nothing here; what counts is that as much is written,
pushed and explained as a desk with half a percent of alerts does. The share that results is printed with each figure.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.fill import PER_DAY, Filler
from benchmarks.ground import ALERT_SHARE, Ground, put_in_force
from benchmarks.kit import say

TRIED = 20_000
LEAST_LOOKED_AT, MOST_LOOKED_AT = 300, 15_000
AT_ONCE, REST_SECONDS = 500, 0.1
LOOKED_BACK = 2 * PER_DAY
# OFFSET 0: a look into an index for each, never a scan of what is stored, which would be measured with the rest.
DECIDED = """
    SELECT d.score, d.rule_hits
      FROM (SELECT transaction_id FROM lane_log
             WHERE lane = %(lane)s AND seq = ANY(%(seqs)s::bigint[]) AND transaction_id IS NOT NULL OFFSET 0) g
     CROSS JOIN LATERAL (SELECT score, rule_hits FROM decision WHERE id = g.transaction_id * 64 + 1 OFFSET 0) d"""


def at_half_a_percent(ground: Ground, payload: str, *, quick: bool = False, share: float = ALERT_SHARE) -> int:
    """Put such a policy in force for the crowd's payments with `payload`, as things stand now; the score it stops from.

    Called after the filling: what the crowd's past looks like changes the scores of its payments.
    """
    from fraudsite import pipeline

    filler = Filler(ground, payload=payload, seed=99)
    pipeline.drain(filler.lane_id)
    # Nothing is stopped by score while the scores are looked at; what rules stop is seen all the same.
    put_in_force(ground.lane, {"default": {"challenge": 1000, "review": 1000, "decline": 1000}})
    first, last = filler.owed(TRIED // 4 if quick else TRIED)
    pipeline.drain(filler.lane_id)
    with ground.cursor() as cursor:
        bounds = [first * 64, last * 64 + 63, ground.lane.pk]
        cursor.execute("SELECT score, rule_hits FROM decision WHERE id BETWEEN %s AND %s AND lane = %s", bounds)
        return set_threshold(ground, cursor.fetchall(), share=share, text=payload)


def by_what_came(ground: Ground, since: int, *, share: float = ALERT_SHARE) -> None:
    """Set the threshold anew by what the lane decided last, after its seq `since`; while the desk runs.

    Nights and days of the crowd score differently, so what is looked at lies evenly over the last two of its days.
    """
    now = ground.standing()
    first = max(now - LOOKED_BACK, since)
    seqs = np.unique(np.linspace(first + 1, now, min(MOST_LOOKED_AT, now - first)).astype("i8"))
    rows: list[tuple[int, bytes]] = []
    with ground.cursor() as cursor:
        for start in range(0, len(seqs), AT_ONCE):  # with rests between: what is measured shall not wait for it
            cursor.execute(DECIDED, {"lane": ground.lane.pk, "seqs": seqs[start : start + AT_ONCE].tolist()})
            rows += cursor.fetchall()
            time.sleep(REST_SECONDS)
    set_threshold(ground, rows, share=share, text="as it comes")


def set_threshold(ground: Ground, rows: list[tuple[int, bytes]], *, share: float, text: str) -> int:
    """The threshold that stops `share` of these decisions (score, rule hits), put in force."""
    if len(rows) < LEAST_LOOKED_AT:
        say(f"{text}: only {len(rows)} decisions to set a threshold by; left as it is")
        return 0
    scores = np.array([row[0] for row in rows])
    hits = np.array([list(bytes(row[1])) for row in rows], bool)
    ruled = hits.any(axis=1)
    by_rule = {place: int(hits[:, place].sum()) for place in np.flatnonzero(hits.any(axis=0)).tolist()}
    threshold = lowest(scores[~ruled], max(0.0, share - float(ruled.mean())))
    stopped = ((scores >= threshold) | ruled).mean()
    say(f"{text}: rules stop {ruled.mean():.3%}, with those from score {threshold} on {stopped:.3%}; hits {by_rule}")
    steps = {"challenge": threshold, "review": min(1000, threshold + 1), "decline": 1000}
    ground.release_id = put_in_force(ground.lane, {"default": steps})
    return threshold


def lowest(scores: np.ndarray, share: float) -> int:
    """The threshold (1 to 1000) that brings the share of scores at or above it closest to `share`."""
    candidates = np.arange(1, 1001)
    above = 1 - np.searchsorted(np.sort(scores), candidates, "left") / max(1, len(scores))
    return int(candidates[np.abs(above - share).argmin()])


if __name__ == "__main__":
    raise SystemExit("this one is a part of the others")
