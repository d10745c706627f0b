"""Model: each version's work, what matured labels say of it, whether it keeps its promises, and what drifts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from alerts.desk import remembered
from fraudsite import tallies
from fraudsite.figures import (
    DAY,
    Cell,
    Column,
    Figure,
    Span,
    Sums,
    Table,
    count,
    floor_hour,
    interval,
    percent,
    rows,
    share,
    tallied,
    text,
)
from fraudsite.measures import measure
from scoring import drift, registry
from scoring.features import N_FEATURES, NAMES
from scoring.models import LOG_KIND, SCREENINGS, LaneCursor, ModelVersion
from scoring.releases import in_force
from transactions.codes import OUTCOME
from transactions.models import Lane

APPROVE = OUTCOME.code("approve")
MATURITY = 30  # days until most chargebacks are in
MATURED = 90  # days of payments that matured labels are taken from
THRESHOLDS = (500, 700, 900)
BINS = 20
SAMPLE = 2_000  # newest payments whose features are compared
DRIFTING = 15  # features shown
KEPT_SECONDS = 300
SAMPLE_SQL = f"""
SELECT d.features FROM lane_log g JOIN decision d ON d.id = g.transaction_id * {SCREENINGS} + 1
 WHERE g.lane = %s AND g.seq > %s AND g.kind = {LOG_KIND.code("judged")} AND length(d.features) = {N_FEATURES * 4}
"""
By = dict[int, dict[int, Sums]]  # model id: {bin of the score: sums}


def build(request: HttpRequest, span: Span) -> dict[str, Any]:
    """The champion's figures; tables of versions, thresholds, calibration and drift."""
    lane = Lane.objects.order_by("pk").first()
    release = in_force(lane) if lane else None
    champion = release.model if release else None
    matured = matured_span()
    old, (now, stopped) = by_model(matured)[0], by_model(span)
    tables = [versions(now, stopped, span), thresholds(champion, old)]
    tables += [promised(champion), kept(champion, old), drifting(lane, champion)]
    return {"figures": figures(champion, old), "plots": [], "tables": tables, "matured": matured.title}


def matured_span() -> Span:
    """The payments whose labels have come in by now: MATURED days up to MATURITY days ago, by the day."""
    end = floor_hour(timezone.now()).replace(hour=0) - DAY * MATURITY
    return Span("", end - DAY * MATURED, end)


def by_model(span: Span) -> tuple[By, dict[int, Sums]]:
    """Sums by model and bin of the score; and of the stopped payments by model."""
    found: By = {}
    stopped: dict[int, Sums] = {}
    for (key, outcome), sums in tallied(tallies.SCORE, span).items():
        model, place = divmod(key, 32)
        bins = found.setdefault(model, {})
        bins.setdefault(place, Sums())
        bins[place] += sums
        if outcome != APPROVE:
            stopped.setdefault(model, Sums())
            stopped[model] += sums
    return found, stopped


def at_least(bins: dict[int, Sums], score: int) -> Sums:
    """Payments that scored so much or more."""
    total = Sums()
    for place, sums in bins.items():
        if place != tallies.NO_SCORE and place * tallies.SCORE_STEP >= score:
            total += sums
    return total


def figures(champion: ModelVersion | None, old: By) -> list[Figure]:
    """The champion at the review threshold, by matured labels."""
    if champion is None:
        return []
    bins = old.get(champion.pk, {})
    above, everything = at_least(bins, 700), at_least(bins, 0)
    labelled = above.fraud + above.legitimate
    name = Figure(measure("champion"), champion.version, "", champion.get_stage_display(), model_url(champion.pk))
    if not everything.payments:
        return [name, Figure(measure("matured"), "–", "", f"no payment of its own is {MATURITY} days old yet")]
    return [
        name,
        Figure(
            measure("matured"),
            f"{100 * above.fraud / labelled:.1f}" if labelled else "–",
            "% precision",
            f"{above.fraud:,} of {labelled:,} labelled, score from 700",
        ),
        Figure(
            measure("matured"),
            f"{100 * above.fraud / everything.fraud:.1f}" if everything.fraud else "–",
            "% recall",
            f"{above.fraud:,} of {everything.fraud:,} frauds",
        ),
    ]


def model_url(pk: int) -> str:
    return reverse("admin:model", args=[pk])


def versions(now: By, stopped: dict[int, Sums], span: Span) -> Table:
    """What each version judged in the range, and how often what was stopped under it was legitimate."""
    known = ModelVersion.objects.in_bulk([model for model in now if model])
    lines = []
    for model in sorted(now, reverse=True):
        total, held = at_least(now[model], 0), stopped.get(model, Sums())
        unscored = now[model].get(tallies.NO_SCORE, Sums()).payments
        name = text(known[model].version, model_url(model)) if model in known else text("rules alone")
        labelled = held.fraud + held.legitimate
        lines.append(
            [
                name,
                text(known[model].get_stage_display() if model in known else "no model"),
                count(total.payments + unscored),
                share(held.payments, total.payments + unscored),
                interval(held.fraud, labelled),
                share(held.legitimate, labelled),
            ]
        )
    head = [
        Column("Model", numeric=False),
        Column("Stage", numeric=False),
        Column("Decisions"),
        Column("Stopped", measure="stopped", parts=("stopped", "decisions")),
        Column("Precision", measure="alert_precision", parts=("fraud", "labelled")),
        Column("False positives", measure="false_positives", parts=("legitimate", "labelled")),
    ]
    return Table("versions", "Versions at work", head, lines, span.title.lower())


def thresholds(champion: ModelVersion | None, old: By) -> Table:
    """Precision and recall of the champion from three scores up, on matured labels."""
    bins = old.get(champion.pk, {}) if champion else {}
    everything = at_least(bins, 0)
    lines = []
    for score in THRESHOLDS if everything.payments else ():
        above = at_least(bins, score)
        labelled = above.fraud + above.legitimate
        lines.append(
            [
                text(f"from {score}"),
                count(above.payments),
                share(above.fraud, labelled),
                share(above.fraud, everything.fraud),
            ]
        )
    head = [
        Column("Score", numeric=False),
        Column("Payments"),
        Column("Precision", measure="matured", parts=("fraud", "labelled")),
        Column("Recall", measure="matured", parts=("fraud", "all fraud")),
    ]
    hint = f"{MATURITY} to {MATURITY + MATURED} days old"
    empty = f"No payment that this model judged is {MATURITY} days old yet: too few labels are in."
    return Table("thresholds", "Precision and recall on matured labels", head, lines, hint, empty=empty)


def promised(champion: ModelVersion | None) -> Table:
    """Calibration by tenth, as measured when the model was trained."""
    groups = (champion.metrics.get("test") or {}).get("calibration") or [] if champion else []
    lines = [
        [
            text(f"{place}"),
            count(group["payments"]),
            Cell(f"{group['promised']:.2%}".replace("%", " %"), group["promised"]),
            Cell(f"{group['actual']:.2%}".replace("%", " %"), group["actual"], note=frauds(group)),
        ]
        for place, group in enumerate(groups, 1)
    ]
    head = [
        Column("Tenth", numeric=False),
        Column("Payments"),
        Column("Promised", measure="calibration"),
        Column("Was fraud", measure="calibration"),
    ]
    hint = "on its test payments"
    return Table("calibration", "Calibration by tenth", head, lines, hint, empty="The model has no test figures.")


def frauds(group: dict[str, float]) -> str:
    """The counts behind an actual share."""
    return f"{round(group['actual'] * group['payments']):,} of {int(group['payments']):,}"


def kept(champion: ModelVersion | None, old: By) -> Table:
    """Calibration by score at work: what the scores promised, and what matured labels say."""
    bins = old.get(champion.pk, {}) if champion else {}
    lines = []
    for place in range(BINS):
        sums = bins.get(place, Sums())
        if sums.payments:
            low = place * tallies.SCORE_STEP
            middle = registry.to_probability(low + tallies.SCORE_STEP // 2)
            lines.append(
                [
                    text(f"{low}–{low + tallies.SCORE_STEP - 1}"),
                    count(sums.payments),
                    Cell(f"{100 * middle:.2f} %", round(middle, 6)),
                    share(sums.fraud, sums.payments),
                ]
            )
    head = [
        Column("Score", numeric=False),
        Column("Payments"),
        Column("Promised in the middle", measure="calibration"),
        Column("Was fraud", measure="calibration", parts=("fraud", "payments")),
    ]
    hint = f"{MATURITY} to {MATURITY + MATURED} days old; unlabelled counts as genuine"
    return Table("kept", "Calibration at work", head, lines, hint, empty="No payment of this model is old enough yet.")


def drifting(lane: Lane | None, champion: ModelVersion | None) -> Table:
    """The features of the newest payments against those the model was trained on, the most drifted first."""
    found = (
        remembered(f"dashboard:drift:{champion.pk}", KEPT_SECONDS, lambda: drifts(lane, champion)) if champion else []
    )
    lines = [
        [
            text(each.name),
            Cell(f"{each.index:.3f}", round(each.index, 5), note="notable" if each.is_notable else ""),
            Cell(f"{each.limit:.3f}", round(each.limit, 5)),
            Cell(percent(each.missing_before, 1), round(each.missing_before, 5)),
            Cell(percent(each.missing_now, 1), round(each.missing_now, 5)),
        ]
        for each in found[:DRIFTING]
    ]
    head = [
        Column("Feature", numeric=False),
        Column("Index", measure="drift"),
        Column("Limit"),
        Column("Missing then"),
        Column("Missing now"),
    ]
    notable = sum(each.is_notable for each in found)
    hint = f"newest {SAMPLE:,} payments against training; {notable} of {len(found)} notable" if found else ""
    return Table("drift", "Drift", head, lines, hint, empty="No baseline of this model can be read here.")


def drifts(lane: Lane | None, champion: ModelVersion) -> list[drift.Drift]:
    """The drift of each feature; nothing where the model's card is not on this machine or nothing was judged."""
    try:
        card = json.loads((Path(settings.MODEL_DIR) / champion.artefact / registry.CARD).read_text())
    except (OSError, ValueError):
        return []
    cursor = LaneCursor.objects.filter(lane=lane).first()
    found = rows(SAMPLE_SQL, [cursor.pk, cursor.seq - SAMPLE]) if cursor else []
    if not found:
        return []
    matrix = np.frombuffer(b"".join(bytes(row[0]) for row in found), "<f4").reshape(len(found), -1)
    return drift.compare(card.get("baseline") or {}, NAMES, matrix)
