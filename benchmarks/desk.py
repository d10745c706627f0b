"""The investigator's pages over ten million payments, a million closed and ten thousand open cases.

    python -m benchmarks.desk [--state FOLDER] [--stored 10_000_000 --open 10_000 --closed 1_000_000] [--rounds 30]
    python -m benchmarks.desk --stored 100_000 --open 100 --closed 10_000 --small                     # a hundredth

The set is made by `benchmarks.desk_data` where the folder does not hold it; then the whole desk runs, and a signed-in
investigator opens pages one after the other on a keep-alive connection through the proxy, compressed, as a browser
does. Each round opens every kind of page once, each time with another case, payment or entity, so that caches help as
little as in life. Measured: from the request to the last byte; and the page's size before compression.

Limits of the desk's specification: the queue 300 ms (p95) and 150 kB for 50 rows with whatever filter, order and page;
the case page 400 ms; the search 500 ms; the links of 150 nodes one second. The limit measured beside it is the desk's
own shell: a signed-in page without any case (`/desk/preferences/`), in the same rounds.
"""

from __future__ import annotations

import argparse
import gzip
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from http.client import HTTPConnection, HTTPException
from itertools import cycle
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from benchmarks.crew import crew, session_of
from benchmarks.desk_data import STORED, make, sizes
from benchmarks.ground import Ground
from benchmarks.kit import QUICK, Result, Results, numbers, options, percentiles, say, table

QUEUE_MS, QUEUE_KB, CASE_MS, SEARCH_MS, GRAPH_MS = 300, 150, 400, 500, 1_000
DEEP = 12  # pages that are gone through one after the other
CASES = 200  # drawn at random, of the open and of the closed ones
BUSIEST = 12  # incidents, busy customers and merchants that are opened
PIECE = {"X-Requested-With": "desk"}
MORE = re.compile(r'href="(\?[^"]*after=[^"]+)" rel="next"')
# Filters, orders and views of the queue, by name; {day} is a day that lies back.
LISTS = {
    "most urgent": "sort=priority",
    "by score": "sort=-score",
    "by amount": "sort=-amount",
    "by age": "sort=age",
    "by customer": "sort=customer",
    "late": "due=late",
    "nobody's": "assignee=none",
    "mine": "assignee=me",
    "one queue": "queue=payments",
    "waiting": "status=waiting",
    "score and amount": "score_from=800&amount_from=100",
    "by reason": "reason=CARD_TESTING",
    "by MCC": "mcc=5812",
    "another country": "country=DE",
    "tagged": "tag=mule",
    "opened on a day": "since={day}&until={day}",
    "closed": "status=closed",
    "closed, by amount": "status=closed&sort=-amount",
    "closed, confirmed": "outcome=confirmed_fraud",
    "closed, by reason": "status=closed&reason=CARD_TESTING",
    "closed on a day": "status=closed&since={day}&until={day}",
    "open and closed": "status=new,closed",
    "open and closed, by score": "status=new,in_review,closed&sort=-score",
}


class Ask(NamedTuple):
    """A page to open, and as what."""

    path: str
    piece: bool = False


@dataclass
class Arm:
    """One kind of page: what it promises, the pages to open in turn, and what came of it."""

    name: str
    part: str  # the promise it belongs to
    asks: Iterator[Ask]
    limit_ms: float = 0.0
    limit_kb: float = 0.0
    seconds: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)

    def row(self, shell: float) -> Result:
        """The figures."""
        found = percentiles(self.seconds, 1000)
        return {
            "ms": found,
            **({"limit_ms": self.limit_ms} if self.limit_ms else {}),
            "kb": round(max(self.bytes, default=0) / 1000, 1),
            **({"limit_kb": self.limit_kb} if self.limit_kb else {}),
            "p50_to_shell": round(found["p50"] / shell, 2) if shell and found["p50"] else None,
            "pages": len(self.seconds),
        }


class Visitor:
    """A browser's connection: keep-alive, compressed, signed in. `refused` counts answers that are no page."""

    def __init__(self, ground: Ground, cookie: str) -> None:
        parts = urlsplit(ground.access["url"])
        self.place, self.cookie = (parts.hostname or "localhost", parts.port or 80), cookie
        self.link = HTTPConnection(*self.place, timeout=60)
        self.refused: list[str] = []

    def open(self, ask: Ask) -> tuple[float, bytes]:
        """Seconds to the last byte, and the page."""
        headers = {"Cookie": self.cookie, "Accept-Encoding": "gzip", **(PIECE if ask.piece else {})}
        began = time.perf_counter()
        try:
            self.link.request("GET", ask.path, headers=headers)
            answer = self.link.getresponse()
            body = answer.read()
        except (HTTPException, OSError) as error:
            self.link.close()
            self.refused.append(f"{ask.path}: {error!r}")
            return time.perf_counter() - began, b""
        took = time.perf_counter() - began
        if answer.status not in (200, 302):
            self.refused.append(f"{ask.path}: {answer.status}")
        return took, gzip.decompress(body) if answer.getheader("Content-Encoding") == "gzip" else body


def main() -> None:
    """Make the set, start, open pages; `--runs` times."""
    parser = sizes(options(__doc__, stored=STORED, runs=1))
    parser.add_argument("--rounds", type=int, default=3 if QUICK else 30, help="Pages of each kind in a run.")
    parser.add_argument("--no-roll-ups", action="store_true", help="Let the dashboards count from here on only.")
    asked = parser.parse_args()
    results = Results("desk", asked)
    with Ground(asked.state, small=asked.small) as ground:
        [stored] = numbers(asked.stored)
        results.about["made"] = make(ground, stored, asked.open, asked.closed, tally=not asked.no_roll_ups)
        ground.start()
        results.about |= ground.about() | {"cases": asked.open + asked.closed}
        for run in range(asked.runs):
            measure(ground, results, asked, seed=run)
    results.finish()


def measure(ground: Ground, results: Results, asked: argparse.Namespace, *, seed: int) -> None:
    """One run: all kinds of pages in turn."""
    [me] = crew(ground, 1)
    visitor, lead = Visitor(ground, session_of(me)), Visitor(ground, session_of(_lead()))
    arms = kinds(Sample(ground, me, random.Random(seed)), visitor)
    say(f"warming up {len(arms)} kinds of pages …")
    for arm in arms:
        _who(arm, visitor, lead).open(next(arm.asks))
    accounts, begun = ground.accounts(), time.monotonic()
    for number in range(asked.rounds):
        for arm in random.Random(number).sample(arms, len(arms)):
            took, page = _who(arm, visitor, lead).open(next(arm.asks))
            arm.seconds.append(took)
            arm.bytes.append(len(page))
    opened = sum(len(arm.seconds) for arm in arms)
    say(f"{opened:,} pages in {time.monotonic() - begun:.0f} s; {len(visitor.refused + lead.refused)} refused")
    for each in (visitor.refused + lead.refused)[:5]:
        say(f"  {each}")
    report(results, arms, {"cpu_us": accounts.each(opened), "refused": len(visitor.refused + lead.refused)})


def report(results: Results, arms: list[Arm], about: Result) -> None:
    """Each promise over all its kinds of pages, then each kind."""
    by_name = {arm.name: arm for arm in arms}
    shell = percentiles(by_name["the shell alone"].seconds, 1000)["p50"]
    for part in dict.fromkeys(arm.part for arm in arms):
        own = [arm for arm in arms if arm.part == part]
        whole = Arm(part, part, iter(()), own[0].limit_ms, max(arm.limit_kb for arm in own))
        whole.seconds = [each for arm in own for each in arm.seconds]
        whole.bytes = [each for arm in own for each in arm.bytes]
        slowest = max(own, key=lambda arm: percentiles(arm.seconds)["p95"])
        results.add(part, whole.row(shell) | {"slowest": slowest.name, **about})
    rows = []
    for arm in arms:
        row = arm.row(shell)
        results.add(f"{arm.part}: {arm.name}", row)
        missed = [unit for unit, value in (("ms", row["ms"]["p95"]), ("kb", row["kb"]))
                  if row.get(f"limit_{unit}", value) < value]  # fmt: skip
        rows.append((arm.name, arm.part, *row["ms"].values(), row["kb"], row["p50_to_shell"], " ".join(missed)))
    print(table(rows, ("page", "part", "p50 ms", "p95", "p99", "max", "kB", "to shell", "missed")), flush=True)


def _who(arm: Arm, visitor: Visitor, lead: Visitor) -> Visitor:
    return lead if arm.name == "lead board" else visitor


def _lead() -> Any:
    from django.contrib.auth import get_user_model

    return get_user_model().objects.get(username="lead")


# --- what is opened ---------------------------------------------------------------------------------------------------


class Sample:
    """Cases, payments and entities of the set, drawn by chance; those with most of everything by name."""

    def __init__(self, ground: Ground, me: Any, rng: random.Random) -> None:
        from cases.querysets import queues_of

        self.ground, self.rng = ground, rng
        self.queues = list(queues_of(me).values_list("pk", flat=True))
        self.open = self.rows("SELECT id FROM \"case\" WHERE status <> 'closed' AND queue_id = ANY(%s)", self.queues)
        first, last = self.rows('SELECT min(id), max(id) FROM "case"')[0]
        ids = [rng.randint(first, last) for _ in range(3 * CASES)]
        self.closed = self.rows(
            "SELECT id FROM \"case\" WHERE id = ANY(%s) AND status = 'closed' AND queue_id = ANY(%s)", ids, self.queues
        )
        for rows in (self.open, self.closed):
            rng.shuffle(rows)
        self.open, self.closed = self.open[:CASES], self.closed[:CASES]
        self.incidents = self.rows(
            "SELECT c.id FROM \"case\" c JOIN cases_queue q ON q.id = c.queue_id WHERE q.grouping = 'merchant'"
            " AND c.status <> 'closed' AND q.id = ANY(%s) ORDER BY c.alert_count DESC LIMIT %s", self.queues, BUSIEST
        )  # fmt: skip
        self.payments = self.rows(
            "SELECT t.id, t.external_id, t.customer_ref, k.last4, t.customer, t.account, t.card, t.device, t.ip,"
            " t.merchant FROM case_alert a JOIN transaction t ON t.id = a.alert_id JOIN case_card k ON k.row_id = t.id"
            " WHERE a.case_id = ANY(%s) ORDER BY t.id", [row[0] for row in self.open + self.closed]
        )  # fmt: skip
        rng.shuffle(self.payments)

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a statement finds."""
        with self.ground.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()

    def busy(self) -> list[int]:
        """The keys of the customers with thousands of payments."""
        from benchmarks import crowd

        return crowd.Keys().customer[: crowd.BUSY].tolist()

    def busy_cases(self) -> list[tuple[Any, ...]]:
        """The newest cases of theirs."""
        statement = 'SELECT max(id) FROM "case" WHERE customer = ANY(%s) AND queue_id = ANY(%s) GROUP BY customer'
        return self.rows(statement, self.busy(), self.queues)

    def merchants(self) -> list[int]:
        """The merchants of incidents: those with most payments."""
        ids = [row[0] for row in self.incidents]
        return [row[0] for row in self.rows('SELECT grouping_key FROM "case" WHERE id = ANY(%s)', ids)]

    def days(self) -> list[str]:
        """Days of the past six weeks."""
        from datetime import date, timedelta

        return [(date.today() - timedelta(days=1 + self.rng.randrange(40))).isoformat() for _ in range(60)]


def kinds(sample: Sample, visitor: Visitor) -> list[Arm]:
    """Every kind of page with its pages."""
    return [*_beside(sample), *_queue(sample, visitor), *_cases(sample), *_search(sample), *_links(sample)]


def turns(paths: list[str], *, piece: bool = False) -> Iterator[Ask]:
    """These pages again and again."""
    return cycle([Ask(path, piece) for path in paths])


def _queue(sample: Sample, visitor: Visitor) -> list[Arm]:
    days = sample.days()
    arms = []
    for name, query in LISTS.items():
        paths = [f"/desk/queue/?{query.format(day=day)}" for day in (days if "{day}" in query else [""])]
        arms.append(Arm(name, "queue", turns(paths), QUEUE_MS, QUEUE_KB))
    for name, query in (("later pages", "sort=priority"), ("later pages of closed", "status=closed")):
        arms.append(Arm(name, "queue", turns(_pages(visitor, query)), QUEUE_MS, QUEUE_KB))
    arms.append(Arm("rows alone", "queue", turns(["/desk/queue/?sort=priority"], piece=True), QUEUE_MS, QUEUE_KB))
    return arms


def _pages(visitor: Visitor, query: str) -> list[str]:
    """The addresses of the pages after the first, as the page links them."""
    found, path = [], f"/desk/queue/?{query}"
    for _ in range(DEEP):
        more = MORE.search(visitor.open(Ask(path))[1].decode())
        if more is None:
            break
        path = "/desk/queue/" + unescape(more[1])
        found.append(path)
    return found or [path]


def _cases(sample: Sample) -> list[Arm]:
    given = {
        "open": sample.open,
        "closed": sample.closed,
        "incident with hundreds of alerts": sample.incidents,
        "customer with thousands of payments": sample.busy_cases(),
    }
    return [
        Arm(name, "case page", turns([f"/desk/cases/{row[0]}/" for row in rows]), CASE_MS)
        for name, rows in given.items()
        if rows
    ]


def _search(sample: Sample) -> list[Arm]:
    payments = sample.payments
    given = {
        "case number": [str(row[0]) for row in sample.closed + sample.open],
        "full case number": [f"C-{row[0]}" for row in sample.closed + sample.open],
        "payment": [str(row[0]) for row in payments],
        "external id": [row[1] for row in payments],
        "customer": [row[2] for row in payments],
        "last four digits": [row[3] for row in payments],
        "nothing": [f"none-{row[0]}" for row in payments],
    }
    arms = [
        Arm(f"by {name}" if name != "nothing" else "finds nothing", "search",
            turns([f"/desk/queue/?q={quote(text)}" for text in texts]), SEARCH_MS)
        for name, texts in given.items()
    ]  # fmt: skip
    entities = [text for row in payments for text in (row[2], row[3])]
    found = turns([f"/desk/entities/?q={quote(text)}" for text in entities])
    return [*arms, Arm("entities", "search", found, SEARCH_MS)]


def _links(sample: Sample) -> list[Arm]:
    def entity(kind: str, keys: list[int]) -> Iterator[Ask]:
        return turns([f"/desk/entities/{kind}/{key}/" for key in keys])

    places = {"customer": 4, "account": 5, "card": 6, "device": 7, "ip": 8, "merchant": 9}
    arms = [
        Arm(kind, "entity page", entity(kind, [row[place] for row in sample.payments]))
        for kind, place in places.items()
    ]
    arms += [
        Arm("busiest merchants", "entity page", entity("merchant", sample.merchants())),
        Arm("busiest customers", "entity page", entity("customer", sample.busy())),
    ]
    graphs = {
        "of an incident": sample.incidents,
        "of a case": sample.open,
        "of a busy customer's case": sample.busy_cases(),
    }
    return arms + [
        Arm(name, "links", turns([f"/desk/cases/{row[0]}/graph/" for row in rows], piece=True), GRAPH_MS)
        for name, rows in graphs.items()
        if rows
    ]


def _beside(sample: Sample) -> list[Arm]:
    return [
        Arm("the shell alone", "shell", turns(["/desk/preferences/"])),
        Arm("the queue without a row", "shell", turns(["/desk/queue/?tag=no+such+tag"])),
        Arm("dashboard", "other pages", turns(["/desk/"])),
        Arm("live", "other pages", turns(["/desk/live/"])),
        Arm("my day", "other pages", turns(["/desk/my-day/"])),
        Arm("lead board", "other pages", turns(["/desk/board/"])),
        Arm("preview", "other pages",
            turns([f"/desk/queue/preview/{row[0]}/" for row in sample.open + sample.closed], piece=True)),
        Arm("filters", "other pages", turns(["/desk/queue/filters/"], piece=True)),
        Arm("counts of the views", "other pages", turns(["/desk/queue/counts/"], piece=True)),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
