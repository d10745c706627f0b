"""A batch against the lists: exact, by columns, and the same for ever."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import numpy as np
import pytest

from scoring import entries
from scoring.matching import ENTRY, Listing, Lists
from transactions.codes import COUNTRY, OUTCOME
from transactions.facts import FACT_COLUMNS, blank

FOREVER = 2**63 - 1
KINDS = {"customer": "block", "device": "watch", "ip": "block", "country": "watch", "bin": "watch", "card": "allow"}


def make_lists(*rows: tuple, outcome: str = "decline") -> Lists:
    """Lists named by their subject, of entries given as (subject, value or key[, since, until])."""
    names = list(KINDS)
    listings = {
        n: Listing(n, name, KINDS[name], name, OUTCOME.code(outcome), KINDS[name] == "allow")
        for n, name in enumerate(names, 1)
    }
    found = np.zeros(len(rows), ENTRY)
    for place, (subject, value, *times) in enumerate(rows):
        key = (value, 0, 0, 0) if isinstance(value, int) else entries.read_subject(subject, value)[1:]
        found[place] = (place + 1, names.index(subject) + 1, *key, *(times or (0, FOREVER)))
    return Lists.of(1, 1, listings, found)


def batch(n: int, **values) -> np.ndarray:
    facts = blank(n)
    for name, value in values.items():
        assert name in FACT_COLUMNS
        facts[name] = value
    return facts


def hits(lists: Lists, facts: np.ndarray) -> list[tuple[int, int]]:
    """(row, entry id) of every hit."""
    rows, places = lists.match(facts).hits
    return list(zip(rows.tolist(), lists.entries["id"][places].tolist(), strict=True))


def addressed(*texts: str) -> np.ndarray:
    """Payments from these addresses ("" = not sent)."""
    facts = batch(len(texts), received_at=5)
    for row, text in enumerate(texts):
        if text:
            _, _, high, low, _ = entries.read_subject("ip", text)
            facts["ip"][row], facts["ip_high"][row], facts["ip_low"][row] = 1, high, low
    return facts


def test_an_entry_counts_from_its_first_moment_until_before_its_last():
    lists = make_lists(("customer", 7, 10, 20))
    facts = batch(5, customer=7, received_at=[9, 10, 19, 20, 15])
    facts["customer"][4] = 8
    assert hits(lists, facts) == [(1, 1), (2, 1)]


def test_what_was_not_sent_is_on_no_list():
    lists = make_lists(("customer", 7), ("ip", "::/0"), ("country", "DE"), ("bin", "400000"))
    assert hits(lists, batch(3, received_at=1)) == []


def test_a_subject_may_stand_there_more_than_once():
    lists = make_lists(("customer", 7, 0, 10), ("customer", 7, 5, FOREVER), ("customer", -7))
    assert hits(lists, batch(3, customer=[7, -7, 7], received_at=[7, 7, 12])) == [(0, 1), (0, 2), (1, 3), (2, 2)]


def test_networks_hold_what_they_hold_and_so_do_those_around_them():
    lists = make_lists(
        ("ip", "10.0.0.0/8"), ("ip", "10.1.0.0/16"), ("ip", "10.1.2.3"), ("ip", "10.1.0.0/16"), ("ip", "2001:db8::/32"),
        ("ip", "2001:db8::7"), ("ip", "::ffff:192.0.2.0/120"),
    )  # fmt: skip
    facts = addressed("10.1.2.3", "10.1.2.4", "10.2.0.0", "11.0.0.0", "2001:db8::7", "2001:db9::", "192.0.2.9", "")
    assert hits(lists, facts) == [
        *((0, each) for each in (1, 2, 3, 4)), *((1, each) for each in (1, 2, 4)), (2, 1), (4, 5), (4, 6), (6, 7),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_random_networks_agree_with_a_plain_search(seed):
    random = np.random.default_rng(seed)

    def draw(low: int, high: int) -> list[int]:
        return random.integers(low, high, 60).tolist()

    pairs: list[tuple[Any, int]] = [(IPv4Address(a << 24), p) for a, p in zip(draw(0, 40), draw(4, 33), strict=True)]
    pairs += [(IPv6Address(a << 112), p) for a, p in zip(draw(1, 9), draw(16, 129), strict=True)]
    networks = [ip_network(f"{address}/{prefix}", strict=False) for address, prefix in pairs]
    asked: list[Any] = [IPv4Address(a) for a in random.integers(0, 40 << 24, 200).tolist()]
    asked += [IPv6Address(a << 112 | b) for a, b in zip(draw(1, 9), draw(0, 3), strict=True)]
    expected = [
        (row, place)
        for row, address in enumerate(asked)
        for place, network in enumerate(networks, 1)
        if address in network
    ]
    assert hits(make_lists(*(("ip", str(each)) for each in networks)), addressed(*map(str, asked))) == expected


def test_a_bin_of_six_digits_holds_all_of_eight_that_begin_with_it():
    lists = make_lists(("bin", "411111"), ("bin", "41111199"))
    assert hits(lists, batch(4, bin=[411111, 41111199, 41111100, 411112])) == [(0, 1), (1, 1), (1, 2), (2, 1)]


def test_a_country_is_where_the_money_goes():
    lists = make_lists(("country", "KP"))
    kp, de = COUNTRY.code("KP"), COUNTRY.code("DE")
    facts = batch(
        4, merchant_country=[kp, de, 0, kp], counterparty_country=[0, kp, 0, kp], customer_country=[de, de, kp, de]
    )
    assert hits(lists, facts) == [(0, 1), (1, 1), (3, 1)]  # each entry once, whichever columns it holds


def test_cutting_a_batch_changes_nothing():
    random = np.random.default_rng(3)
    lists = make_lists(*(("customer", int(key)) for key in random.integers(1, 500, 300)))
    facts = batch(1000, customer=random.integers(0, 500, 1000))
    whole = hits(lists, facts)
    parts = [(row, entry) for row in range(1000) for _, entry in hits(lists, facts[row : row + 1])]
    assert whole == parts
    assert {row for row, _ in whole} == set(np.flatnonzero(np.isin(facts["customer"], lists.entries["key"])).tolist())


@pytest.mark.parametrize(
    ("subject", "text", "words"),
    [
        ("ip", "999.1.1.1", "address or a network"),
        ("country", "XX", "alpha-2"),
        ("bin", "4111", "six or eight"),
        ("bin", "012345", "six or eight"),
        ("card", "4111" + "1" * 12, "card number"),
        ("customer", "4111" + "1" * 12, "card number"),
        ("merchant", "m" * 36, "35"),
        ("device", " ", "missing"),
        ("device", "a\tb", "missing"),
    ],
)
def test_what_cannot_stand_on_a_list_is_refused_without_repeating_it(subject, text, words):
    with pytest.raises(entries.EntryError, match=words) as caught:
        entries.read_subject(subject, text)
    assert not text.strip() or text not in str(caught.value)


@pytest.mark.parametrize("reason", [" ", "r" * 201, "seen\x00twice", "card 4111" + "1" * 12])
def test_a_reason_that_cannot_be_kept_is_refused(reason):
    with pytest.raises(entries.EntryError):
        entries.check_reason(reason)


def test_a_card_is_kept_by_its_hash_and_its_ends():
    subject = entries.read_subject("card", "tok-93kf02mmx81q")
    assert subject.value == "tok-…x81q"
    assert subject.key not in (0, None)
    assert entries.read_subject("ip", "203.0.113.77/24").value == "203.0.113.0/24"
