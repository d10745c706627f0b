"""A case in somebody's hands: what people do with it between taking it and letting it go, act by act.

Every act is one of the services that the pages call, a little later than the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from random import Random
from typing import Any, TypeVar

from cases import attachments, checklists, leases, notes, services, tags
from cases.models import Case, Note
from fraudsite.demo_desk import files, words
from fraudsite.demo_desk.team import Team
from transactions import clock

T = TypeVar("T")
FILES = 0.08  # share of the visits in which somebody attaches a file
MOST_LISTED = 60  # payments in an attached list


class Hand:
    """One person's visit to one case; `frauds` is the truth that the person can find out, by alert."""

    def __init__(self, case: Case, by: Any, at: datetime, team: Team, frauds: Mapping[int, str], rng: Random) -> None:
        self.case, self.by, self.now = case, by, at
        self.team, self.frauds, self.rng = team, frauds, rng
        self.fraud_type = min(filter(None, frauds.values()), default="")

    def do(self, service: Callable[..., T], *args: Any, minutes: float = 1.2, **named: Any) -> T:
        """Call a service about so many minutes after the last act; all of a visit stays within a lease."""
        self.now += timedelta(minutes=minutes * self.rng.uniform(0.4, 1.6))
        with clock.standing_at(self.now):
            return service(*args, **named)

    def claim(self) -> None:
        self.do(leases.claim, self.case.pk, self.by, minutes=0.0)

    # --- before the verdict -------------------------------------------------------------------------------------------

    def look_into(self) -> None:
        """Write down what was found: notes, now and then a tag, a question to a colleague, a file."""
        for text in words.notes(self.fraud_type, self.rng):
            self.note(text)
        if self.rng.random() < 0.3:
            self.do(
                tags.add_tags, self.case.pk, [self.rng.choice(words.TAGS[self.fraud_type])], by=self.by, minutes=0.2
            )
        if self.rng.random() < 0.1:
            self.ask()
        if self.rng.random() < FILES:
            self.attach()

    def note(self, text: str) -> None:
        """A note, which now and then has to be corrected."""
        note = self.do(notes.add_note, self.case.pk, text, by=self.by)
        if self.rng.random() < 0.06:
            self._correct(note)

    def _correct(self, note: Note) -> None:
        text = self.rng.choice(words.CORRECTIONS)
        self.do(notes.add_note, self.case.pk, text, by=self.by, corrects=note.pk, minutes=0.8)

    def tag(self, word: str) -> None:
        self.do(tags.add_tags, self.case.pk, [word], by=self.by, minutes=0.2)

    def ask(self) -> None:
        """Name a colleague in a note, who then finds it on the bell."""
        others = [each for each in self.team.everybody if each.pk != self.by.pk]
        able = [each for each in others if self.case.queue.members.filter(pk=each.pk).exists()]
        if able:
            name = self.rng.choice(able).get_username()
            self.do(notes.add_note, self.case.pk, self.rng.choice(words.MENTIONS).format(name=name), by=self.by)

    def attach(self) -> None:
        """A list of the payments where there are several, else a call log or a picture of the receipt."""
        if len(self.frauds) > 2:
            name, content = "payments-of-the-merchant.csv", files.payments(self._payments())
        elif self.rng.random() < 0.6:
            name, content = "call.txt", files.call_log(self.now, self.by.get_full_name(), self.rng)
        else:
            name, content = "receipt.png", files.receipt(self.rng)
        self.do(attachments.attach, self.case.pk, name, [content], by=self.by)

    def _payments(self) -> list[tuple[object, ...]]:
        rows = self.case.case_alerts.select_related("alert__transaction__detail").order_by("pk")[:MOST_LISTED]
        return [_listed(row.alert) for row in rows]

    def tick(self) -> None:
        """Most steps of the checklist, not always all of them."""
        for item in checklists.items():
            if item.fraud_type in ("", self.fraud_type) and self.rng.random() < 0.85:
                self.do(checklists.tick, self.case.pk, item.pk, done=True, by=self.by, minutes=0.3)

    # --- how it ends --------------------------------------------------------------------------------------------------

    def close(self, said: Mapping[str, Any] | None = None) -> None:
        """The verdict: closed, or asked of a second person where the rules want one."""
        said = said or words.verdict(self.frauds, self.rng)
        if "fraud" in said["disposition"] and self.rng.random() < 0.25:
            self.tick()
        self.do(services.close_case, self.case.pk, by=self.by, **said)

    def wait(self) -> None:
        """For somebody's answer; if it does not come, until a morning some days on."""
        event, text = self.rng.choice(words.WAITS)
        days = self.rng.choice((1, 1, 2, 2, 3, 4, 6))
        morning = (self.now + timedelta(days=days)).replace(hour=7, minute=self.rng.randrange(60))
        self.do(services.wait, self.case.pk, morning, by=self.by, note=text, wake_on=event)

    def escalate(self) -> None:
        self.do(services.escalate, self.case.pk, by=self.by, note=self.rng.choice(words.ESCALATIONS))

    def release(self) -> None:
        self.do(leases.release, self.case.pk, self.by, note=self.rng.choice(words.RELEASES))

    def lapse(self) -> None:
        """Called away: the lease runs out."""
        self.do(leases.lapse_leases, minutes=2.5 * self.case.queue.lease_minutes + 2)


def _listed(alert: Any) -> tuple[object, ...]:
    merchant = alert.transaction.detail.document.get("merchant") or {}
    return f"{alert.occurred_at:%Y-%m-%d %H:%M}", alert.amount, alert.currency, merchant.get("terminal_id", "")
