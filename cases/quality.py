"""Quality: which closed cases a second person looks at again, and what they found.

The choice is made in the commit of the close, by a random number that is stored, so that anybody can check later that
nobody picked. Every close draws one (its line of history keeps it); a row stands for those that were chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import SystemRandom
from typing import Any

from django.db.models import Count, F, Q, QuerySet
from django.db.transaction import atomic
from django.utils import timezone

from cases.history import NoSuchCase, NotAllowed, admit, locked, write
from cases.models import Case, CaseAlert, QualityReview, Queue
from cases.notes import refuse_card_numbers
from cases.querysets import concerning_kept
from cases.workflow import CaseError, Disposition, Status
from transactions import clock

Finding: Any = QualityReview.Finding
KINDS = {
    "bulk": "Closed in bulk",
    "legitimate_above_block": "Legitimate although the score says block",
    "override": "Decided against a rule that blocks",
}
RANDOM = "random"
WINDOW = timedelta(days=90)  # over which rates are told
MOST_PENDING = 200
SHORTEST_COMMENT = 10
LONGEST_COMMENT = 2000
_dice = SystemRandom()


class AlreadyReviewed(CaseError):
    """Somebody has said what they found."""

    def __init__(self) -> None:
        super().__init__("This close has been reviewed already.")


class NoLongerStands(CaseError):
    """The case was opened again after the close that was to be reviewed."""

    def __init__(self) -> None:
        super().__init__("This case was opened again; the close that was to be reviewed no longer stands.")


class IncompleteReview(CaseError):
    """The finding is missing, or a finding other than agreement has no comment."""


@dataclass(frozen=True)
class Draw:
    """The number a close drew, and what it was chosen for (empty: it was not)."""

    seed: float
    chosen_for: str

    def as_data(self) -> dict[str, Any]:
        """For the line of history of the close."""
        return {"seed": self.seed, "chosen_for": self.chosen_for}


# --- choosing, at the close -------------------------------------------------------------------------------------------


def sample(
    case: Case,
    *,
    disposition: str,
    closed_at: datetime,
    by: Any,
    bulk: bool = False,
    override: bool = False,
    seed: float | None = None,
) -> Draw:
    """Decide whether this close is reviewed, and keep that. Called in the commit of the close, once for each.

    `closed_at` is what the case will carry; `bulk` and `override` say how it was closed. `seed` is for tests.
    """
    number = _dice.random() if seed is None else seed
    draw = Draw(number, _cause(case, disposition, bulk, override) or _by_chance(case.queue, number))
    if draw.chosen_for:
        QualityReview.objects.create(
            case=case,
            queue_id=case.queue_id,
            decided_by=by,
            closed_at=closed_at,
            chosen_for=draw.chosen_for,
            seed=number,
            sampled_at=clock.now(),
        )
    return draw


def _by_chance(queue: Queue, number: float) -> str:
    return RANDOM if number < queue.quality_share else ""


def _cause(case: Case, disposition: str, bulk: bool, override: bool) -> str:
    always = set(case.queue.quality_always)
    if bulk and "bulk" in always:
        return "bulk"
    if override and "override" in always:
        return "override"
    is_doubtful = disposition == Disposition.LEGITIMATE and "legitimate_above_block" in always
    return "legitimate_above_block" if is_doubtful and _above_block(case) else ""


def _above_block(case: Case) -> bool:
    """True if the policy that judged the worst payment of the case would have blocked it by its score."""
    worst = CaseAlert.objects.filter(case=case).select_related("alert__decision__release__policy")
    row = worst.order_by("-alert__score", "pk").first()
    return row is not None and row.alert.score >= block_threshold(
        row.alert.decision.release.policy.thresholds, row.alert.channel
    )


def block_threshold(thresholds: dict[str, dict[str, int]], channel: str) -> int:
    """The score from which a channel's payments are declined; beyond every score where none is set."""
    steps = thresholds.get(channel) or thresholds.get("default") or {}
    return steps.get("decline", 1001)


def unsample(case: Case) -> None:
    """A close was taken back at once: its review, if nobody made it, never was."""
    QualityReview.objects.filter(case=case, closed_at=case.closed_at, finding="").delete()


# --- reviewing --------------------------------------------------------------------------------------------------------


def pending(user: Any, queue: str = "") -> QuerySet[QualityReview]:
    """What the person may review: closes of their queues that still stand and were not theirs, oldest first."""
    reviews = QualityReview.objects.filter(
        finding="", case__status=Status.CLOSED, case__closed_at=F("closed_at"), queue__members=user
    ).exclude(decided_by=user)
    if queue:
        reviews = reviews.filter(queue__slug=queue)
    reviews = reviews.exclude(case__in=concerning_kept(user))
    return reviews.select_related("case", "queue", "case__lane").order_by("sampled_at", "pk")


def review(review_id: int, finding: str, *, by: Any, comment: str = "", reopen: bool = False) -> QualityReview:
    """Say what a second look found; a disagreement may open the case again, in the reviewer's hands.

    `reopened` of what comes back is False where a second person has to agree first: the case is still closed then.

    Saying the same again changes nothing. Raises NotAllowed (own close, no right, no member), IncompleteReview,
    AlreadyReviewed, RefusedText, and what `reopen_case` raises; then nothing is kept.
    """
    with atomic():
        case = locked(_case_of(review_id))  # the case first, as every act does: closing waits for nobody's review
        found = QualityReview.objects.select_for_update().get(pk=review_id)
        admit(case, by, "review_quality")
        if found.decided_by_id == by.pk:
            raise NotAllowed("You closed this case; somebody else reviews it.")
        if found.finding:
            return _repeated(found, finding, by)
        if case.closed_at != found.closed_at:
            raise NoLongerStands
        comment = _checked(finding, comment, reopen)
        write(case, "reviewed", by=by, after=finding, note=comment, data={"chosen_for": found.chosen_for})
        case.save()
        _keep(found, finding, by, comment, reopened=reopen and _reopen(case, by, comment))
    return found


def _case_of(review_id: int) -> int:
    case_id = QualityReview.objects.filter(pk=review_id).values_list("case", flat=True).first()
    if case_id is None:
        raise NoSuchCase
    return int(case_id)


def _repeated(found: QualityReview, finding: str, by: Any) -> QualityReview:
    if found.reviewer_id == by.pk and found.finding == finding:
        return found
    raise AlreadyReviewed


def _checked(finding: str, comment: str, reopen: bool) -> str:
    comment = comment.strip()
    if finding not in Finding:
        raise IncompleteReview("Say what you found.")
    if finding != Finding.AGREE and len(comment) < SHORTEST_COMMENT:
        raise IncompleteReview(f"Say in {SHORTEST_COMMENT} characters or more what was wrong.")
    if len(comment) > LONGEST_COMMENT:
        raise IncompleteReview(f"A comment has up to {LONGEST_COMMENT:,} characters.")
    if reopen and finding != Finding.DISAGREE:
        raise IncompleteReview("Only a disagreement opens a case again.")
    refuse_card_numbers(comment)
    return comment


def _keep(found: QualityReview, finding: str, by: Any, comment: str, *, reopened: bool) -> None:
    found.finding, found.reviewer, found.comment = finding, by, comment
    found.reviewed_at, found.reopened = clock.now(), reopened
    found.save()


def _reopen(case: Case, by: Any, comment: str) -> bool:
    """True if it is open again, False if a second person was asked."""
    from cases.closing import reopen_case  # closing draws the sample; importing it above would go round

    opened = reopen_case(case.pk, by=by, note=f"After a quality review: {comment}")
    return bool(opened.status != Status.CLOSED)


# --- rates ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rate:
    """What reviews found, of one queue or one person."""

    name: str
    reviewed: int
    disagreed: int
    process: int

    @property
    def share(self) -> float | None:
        """Disagreements in per cent of what was reviewed; None where nothing was."""
        return 100 * self.disagreed / self.reviewed if self.reviewed else None


def rates_by_queue(queues: Iterable[Queue]) -> list[Rate]:
    """What reviews of the last 90 days found, by queue."""
    counted = {row["queue"]: row for row in _found().values("queue").annotate(**COUNTS)}
    return [_rate(queue.name, counted.get(queue.pk, {})) for queue in queues]


def summed(rates: Iterable[Rate]) -> Rate:
    """Several rates as one."""
    found = list(rates)
    return Rate("", *(sum(getattr(rate, name) for rate in found) for name in ("reviewed", "disagreed", "process")))


def rates_by_person(queues: Iterable[Queue]) -> list[Rate]:
    """The same by who had decided, in order of names. For those who lead the queues, nobody else."""
    names = ("decided_by__first_name", "decided_by__last_name", "decided_by__username")
    rows = _found().filter(queue__in=list(queues)).values(*names).annotate(**COUNTS).order_by(*names)
    return [_rate(f"{row[names[0]]} {row[names[1]]}".strip() or row[names[2]], row) for row in rows]


COUNTS: dict[str, Any] = {
    "reviewed": Count("pk"),
    "disagreed": Count("pk", filter=Q(finding=Finding.DISAGREE)),
    "process": Count("pk", filter=Q(finding=Finding.PROCESS_ERROR)),
}


def _found() -> QuerySet[QualityReview]:
    return QualityReview.objects.filter(reviewed_at__gte=timezone.now() - WINDOW).order_by()


def _rate(name: str, row: dict[str, Any]) -> Rate:
    return Rate(name, row.get("reviewed", 0), row.get("disagreed", 0), row.get("process", 0))


def found_of(user: Any) -> Rate:
    """What reviews of the last 90 days found in a person's own closes: for their own eyes."""
    return _rate("", _found().filter(decided_by=user).aggregate(**COUNTS))
