"""That every check of the desk's stories which names a part of a page, or a number, is a test in this folder.

A test says in its docstring which check it makes, by the check's id. What a check says stands here.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

FOLDER = Path(__file__).parent
ID = re.compile(r"\b[A-Z]\d{1,2}(?:\.\d)?(?=[:,])")
CHECKS = {
    "Q1.1": "[queue-table] in the order priority, due, score; stable across two reloads",
    "Q1.2": "every header that sorts has aria-sort; the order is in the address",
    "Q1.3": "amounts right-aligned, tabular; EUR 2 decimals, JPY 0, KWD 3",
    "Q1.4": "50 rows in at most 150 kB; an answer within 300 ms",
    "Q2.1": "[live-banner] says “1 new” within 2 s; rows do not move until R",
    "Q2.2": "the banner is polite; at 50 alerts/s it changes at most once a second",
    "Q2.3": "[live-state] reads “Reconnecting” within 10 s; then nothing is lost or doubled",
    "Q2.4": "the end of a session closes the socket with 4401 and shows a notice; no further data",
    "Q3.1": "[next-case] or N: assignee me, in review, event claimed",
    "Q3.2": "two browsers pressing N 20 times at once get 40 different cases",
    "Q3.3": "never of a foreign queue, of one's own request, of an excluded customer",
    "Q3.4": "[queue-empty] with the next wake-up time",
    "Q4.1": "“in use by X since”; read-only for others; a lead takes over, with an event",
    "Q4.2": "the lease renews while used, lapses else: the status returns, event lease_expired",
    "Q4.3": "presence: who looks is shown",
    "Q5.1": "all filters in the address; the same rows for a colleague",
    "Q5.2": "[save-view]: private or shared, default, counted, at most 50",
    "Q5.3": "search by case, transaction, external id, customer, last four digits; ≤ 500 ms",
    "Q6.1": "a bulk confirmation states count and amount and asks the reason; fraud is not offered",
    "Q6.2": "after a bulk assign the history of each case shows it",
    "Q6.3": "closing many as legitimate: by role, at most 100",
    "Q6.4": "the result lists what was skipped, and why",
    "Q6.5": "rows, page, or all that match",
    "Q7": "Space or a click previews; the list keeps place and focus",
    "Q8": "“2 h left”, “late 35 min”; a breach is one event and shows on the lead board",
    "Q9.1": "backlog by age, oldest, people, flow, SLA %",
    "Q9.2": "rebalanced by bulk assign",
    "Q9.3": "rebalanced by drag",
    "C0": "1280 px without sideways scroll, reflow at 200 %",
    "C1.1": "[reason-list]: every rule hit of the answer, model, ruleset, thresholds, time",
    "C1.2": "after an edit of the rule the version that fired is shown",
    "C1.3": "hits only, or all rules evaluated",
    "C2": "first seen, times seen, copy buttons, “not sent”",
    "C3": "the timeline by kind, UTC on hover, older by cursor",
    "C4": "sums 1 h to 90 d; opening an entity writes who looked",
    "C5.1": "one hop, expand; [graph-table] carries the same relations",
    "C5.2": "150 nodes at most, then “n more”; ≤ 1 s",
    "C6.1": "the close dialog demands what is needed, Ctrl+Enter, consequences",
    "C6.2": "auto-next, undo for 10 s",
    "C6.3": "a decision per payment",
    "C6.4": "a double submit is one event",
    "C6.5": "a stale form: both values, nothing overwritten",
    "C7.1": "notes: Markdown, immutable, corrected by a new one, @mention",
    "C7.2": "a card number is refused",
    "C7.3": "snippets",
    "C7.4": "an entity's note appears in later cases",
    "C8.1": "SHA-256 shown, a download with nosniff, a tombstone by a lead only",
    "C8.2": "type by content, ≤ 25 MB each, ≤ 20 per case",
    "C9.1": "waits for a time or an event; wakes with its priority",
    "C10.1": "who escalates is told first what they lose",
    "C10.2": "hand-over of all open work with one note; shift summary",
    "C11": "the maker is refused with 403 even by direct POST; the checker sees what changes",
    "C12": "a sample of closes, drawn and stored; the reviewer is not the decider",
    "C13": "the history with looks, its export; an auditor edits nothing",
    "C14": "one click: PDF, ZIP with hashes",
    "C15": "a late label after the close; a lead decides",
    "K1": "A gives the row to oneself",
    "K2": "U leads back to the list as it was",
    "K3": "the keyboard map: each key has a visible control",
    "K4": "with shortcuts off every letter changes nothing",
    "M1": "the formula of each measure, by keyboard",
    "L1": "from alert to label by keyboard alone in under 10 s",
}


def told() -> dict[str, set[str]]:
    """The ids in the docstrings of this folder's tests: {id: names of tests}."""
    found: dict[str, set[str]] = {}
    for path in FOLDER.glob("test_*.py"):
        for part in ast.walk(ast.parse(path.read_text())):
            if isinstance(part, ast.FunctionDef) and part.name.startswith("test_"):
                for each in ID.findall((ast.get_docstring(part) or "").split(" ", 1)[0] + " "):
                    found.setdefault(each, set()).add(f"{path.stem}.{part.name}")
    return found


def test_every_check_of_the_stories_is_made_by_a_test() -> None:
    made = told()
    assert sorted(CHECKS.keys() - made.keys()) == [], "no test makes these checks"
    assert sorted(made.keys() - CHECKS.keys()) == [], "no such checks"
