"""Payments of one client gathered from the rows of a body or a file: good ones as columns, and what is wrong with the
others.

What costs is never done row by row in Python if the whole batch can be asked at once: canonical forms are encoded in
one call and searched in one go; limits and conditions are compared as columns; tokens are checked when they are first
met. A row that any of these doubts is read again *closely*, as if it had come alone; so a row is refused, and told why,
exactly as a single request would be.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Generic, TypeVar

import msgspec
import numpy as np
from msgspec import UnsetType

from transactions import codes, pan, schema, services
from transactions.columns import Columns, columns_of
from transactions.conditions import AHEAD, NEED_ORIGINAL
from transactions.facts import micros
from transactions.models import ApiClient
from transactions.problems import Problem, invalid
from transactions.schema import Payment

_AHEAD = int(AHEAD / timedelta(microseconds=1))
# A little later than the oldest year that is taken: the year is that of the caller's own clock.
_LONG_AGO = micros(datetime(1980, 1, 3, tzinfo=UTC))

R = TypeVar("R")


@dataclass
class Batch(ABC, Generic[R]):
    """The rows that are still good, position n of each list the same one; `problems` of the others by their number.

    A subclass tells what its rows are: how they are read quickly and closely, and which may not say what they seem to.
    """

    client: ApiClient
    now: datetime
    problems: dict[int, Problem] = field(default_factory=dict)
    rows: list[R] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)
    documents: list[bytes] = field(default_factory=list)

    @abstractmethod
    def quickly(self, row: R) -> Payment:
        """The payment of a row in C, with the checks that come for nothing. Raises MsgspecError and its kin."""

    @abstractmethod
    def closely(self, row: R) -> Payment:
        """The payment of a row as the single way reads it. Raises Problem."""

    @abstractmethod
    def odd(self, every: bytes) -> Iterator[int]:
        """Positions of rows that must be read closely, by the canonical forms of all, each with a line break."""

    def gather(self, rows: Iterable[tuple[int, R]]) -> Columns:
        """Take in numbered rows; the columns of the good ones."""
        self._decode(rows)
        self._look()
        return self._columns()

    def _decode(self, rows: Iterable[tuple[int, R]]) -> None:
        for number, row in rows:
            try:
                payment: Payment | None = self.quickly(row)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                payment = self._again(number, row)
            if payment is not None:
                self.rows.append(row)
                self.numbers.append(number)
                self.payments.append(payment)

    def _again(self, number: int, row: R) -> Payment | None:
        """The payment of a row read closely; None, and its problem noted, if it is refused."""
        try:
            return self.closely(row)
        except Problem as problem:
            self.problems[number] = problem
            return None

    def _look(self) -> None:
        """Make the canonical forms, and read closely what is odd about texts."""
        every = schema.encode_lines(self.payments)
        self.documents = every.split(b"\n")
        self.documents.pop()
        for n in self.odd(every):
            payment = self._again(self.numbers[n], self.rows[n])
            if payment is not None:
                self.payments[n], self.documents[n] = payment, payment.canonical
        self._drop_rejected()

    def _columns(self) -> Columns:
        """The rows as columns, without those that break a condition which only columns tell."""
        base = self.client.lane.base_currency
        made = columns_of(self.payments, base=base)
        for n in sorted({*made.doubtful, *_doubtful(self.payments, made, self.now)}):
            self._again(self.numbers[n], self.rows[n])
        for n, errors in services.without_rates(made, base).items():
            self.problems.setdefault(self.numbers[n], invalid(errors))
        if len(kept := self._drop_rejected()) == len(made.facts):
            return made
        originals = {place: made.originals[n] for place, n in enumerate(kept) if n in made.originals}
        return Columns(made.facts[kept], originals)

    def _drop_rejected(self) -> list[int]:
        """Leave out the rows that have a problem; the positions of the others as they were."""
        if self.problems.keys().isdisjoint(self.numbers):
            return list(range(len(self.rows)))
        kept = [n for n, number in enumerate(self.numbers) if number not in self.problems]
        self.rows, self.numbers = [self.rows[n] for n in kept], [self.numbers[n] for n in kept]
        self.payments, self.documents = [self.payments[n] for n in kept], [self.documents[n] for n in kept]
        return kept


# --- what a batch shows at a glance -----------------------------------------------------------------------------------


def _doubtful(payments: Sequence[Payment], made: Columns, now: datetime) -> Iterator[int]:
    """Positions of payments that may break `conditions.broken` or hold what must not be sent; the others are fine.

    Tokens, addresses and places were looked at when they became columns.
    """
    columns = made.facts
    yield from np.flatnonzero(_broken(columns, made, now)).tolist()
    yield from _texts(payments)


def _broken(columns: np.ndarray, made: Columns, now: datetime) -> np.ndarray:
    at, means = columns["occurred_at"], columns["instrument"]
    odd = (at % 1000 != 0) | (at > micros(now) + _AHEAD) | (at < _LONG_AGO)
    odd |= (means == _CARD) & (columns["card"] == 0)
    odd |= (means == _ACCOUNT) & (columns["account"] == 0)
    odd |= (columns["type"] == _TRANSFER) & (columns["counterparty"] == 0)
    odd |= (columns["sca"] == _EXEMPT) & (columns["exemption"] == 0)
    odd |= columns["birth_year"] > now.year
    needs = np.isin(columns["type"], _BACKWARDS) | (columns["stage"] == _REVERSAL)
    if needs.any():
        named = np.zeros(len(columns), bool)
        named[list(made.originals)] = True
        odd |= needs & ~named
    return odd


_CARD, _ACCOUNT = codes.INSTRUMENT.code("card"), codes.INSTRUMENT.code("account")
_TRANSFER, _EXEMPT = codes.TYPE.code("transfer"), codes.SCA.code("exempt")
_BACKWARDS = [codes.TYPE.code(text) for text in sorted(NEED_ORIGINAL)]
_REVERSAL = codes.STAGE.code("reversal")


def _texts(payments: Sequence[Payment]) -> Iterator[int]:
    """Positions of payments with a card number or secret in their own texts; tokens are looked at elsewhere."""
    for part, names in _TEXTS.items():
        owners = [*map(attrgetter(part), payments)] if part else payments
        if not any(owners):
            continue
        for name, (may, does) in names.items():
            texts = [*map(attrgetter(name), owners)] if all(owners) else [getattr(one, name, "") for one in owners]
            if any(texts):
                yield from _holding(may, does, texts)
    for n, payment in enumerate(payments):
        if payment.metadata and _tells_too_much(payment.metadata):
            yield n


Look = Callable[[str], bool]
_AS_IDENTIFIER, _AS_FREE_TEXT = (
    (pan.may_be_in_identifier, pan.in_identifier),
    (pan.may_be_in_free_text, pan.in_free_text),
)
_OWN_IDENTIFIERS = ("/external_id", "/original_external_id", "/session/id")  # others are tokens


def _looks() -> dict[str, dict[str, tuple[Look, Look]]]:
    """How to look at each text, by the member that it stands in and its name."""
    found: dict[str, dict[str, tuple[Look, Look]]] = {}
    for pointer in (*_OWN_IDENTIFIERS, *sorted(schema.FREE_TEXTS)):
        part, _, name = pointer[1:].rpartition("/")
        found.setdefault(part, {})[name] = _AS_FREE_TEXT if pointer in schema.FREE_TEXTS else _AS_IDENTIFIER
    return found


_TEXTS = _looks()


def _holding(may: Look, does: Look, texts: Sequence[str | UnsetType]) -> Iterator[int]:
    """Positions of the texts that hold a card number, which a quick look at all of them together mostly rules out."""
    if may("\n".join(text for text in texts if text)):
        found = {text for text in set(texts) if text and does(text)}
        yield from (n for n, text in enumerate(texts) if text in found)


def _tells_too_much(metadata: dict[str, str]) -> bool:
    return any(
        pan.names_secret(key) or pan.in_free_text(key) or pan.in_free_text(text) for key, text in metadata.items()
    )
