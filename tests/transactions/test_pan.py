"""The guard: card numbers are found wherever they hide, and good identifiers pass, all of them."""

from __future__ import annotations

import random
import uuid
from hashlib import md5, sha1, sha256

import pytest

from transactions import pan

# Made of a prefix, filler and the check digit, so that no number stands in this file.
LENGTHS = {
    "4": (13, 16, 19), "51": (16,), "5500": (16,), "2221": (16,), "2720": (16,), "34": (15,), "37": (15,),
    "3000": (14,), "36": (14,), "3528": (16,), "6011": (16, 19), "65": (16,), "62": (16, 19), "2204": (16,),
    "6759": (12, 16, 19),
}  # fmt: skip


def number(prefix: str, length: int, filler: str = "0123456789") -> str:
    body = (prefix + filler * 20)[: length - 1]
    return next(body + str(digit) for digit in range(10) if pan.passes_luhn(body + str(digit)))


NUMBERS = [number(prefix, length) for prefix, lengths in LENGTHS.items() for length in lengths]
VISA = number("4111", 16, "1")


@pytest.mark.parametrize("digits", NUMBERS)
def test_every_scheme_is_known_by_prefix_length_and_check_digit(digits: str):
    wrong = digits[:-1] + str((int(digits[-1]) + 1) % 10)
    assert pan.is_card_number(digits) and not pan.is_card_number(wrong)
    assert pan.in_identifier(digits) and pan.in_identifier(f"ord-{digits}") and pan.in_identifier(f"c{digits}")
    assert pan.in_free_text(f"paid with {digits}.")


@pytest.mark.parametrize("gap", [" ", "-", "  ", "–", " - ", "\N{NO-BREAK SPACE}"])
def test_groups_count_in_free_text_but_not_in_identifiers(gap: str):
    grouped = gap.join((VISA[:4], VISA[4:8], VISA[8:12], VISA[12:]))
    assert pan.in_free_text(f"card {grouped} 12/27") and pan.in_free_text(f"7 {grouped} 27")
    assert not pan.in_identifier(grouped)


def test_digits_of_other_scripts_are_digits():
    wide = "".join(chr(ord("０") + int(digit)) for digit in VISA)
    assert pan.in_free_text(wide) and pan.in_identifier(wide) and not pan.is_card_token(wide)


def test_a_number_within_a_longer_run_of_an_identifier_is_none():
    assert not pan.in_identifier("9" + VISA) and not pan.in_identifier(VISA + "00000")


def test_a_run_inside_a_random_hexadecimal_id_is_chance_but_a_letter_or_two_hide_nothing():
    assert not pan.in_identifier(f"a3f{VISA}9c0e") and not pan.in_free_text(f"see a3f{VISA}9c0e")
    assert pan.in_identifier(f"order{VISA}") and pan.in_identifier(f"x{VISA}k") and pan.in_identifier(f"g3f{VISA}")
    assert pan.in_free_text(f"Visa{VISA}exp1227")


def test_a_card_token_is_never_a_run_with_a_right_check_digit():
    assert (
        not pan.is_card_token(number("9", 14)) and pan.is_card_token("tok-" + VISA[:8]) and pan.is_card_token("1" * 20)
    )


@pytest.mark.parametrize(
    "key", ["cvv", "CVC", "pin", "track2", "card_cvv", "cardCvv2", "pinCode", "PIN-block", "track_1"]
)
def test_keys_that_announce_secrets_are_known(key: str):
    assert pan.names_secret(key)


@pytest.mark.parametrize("key", ["cvv_result", "pin_verified", "shipping", "opinion", "tracking", "spin", "pinned", ""])
def test_other_keys_are_free(key: str):
    assert not pan.names_secret(key)


def realistic_identifiers(draw: random.Random) -> list[str]:
    """One of each kind: UUIDs, hashes, order numbers, timestamps, tokens."""
    word = draw.getrandbits(64).to_bytes(8, "big")
    moment = 1_600_000_000 + draw.randrange(300_000_000)
    return [
        str(uuid.UUID(int=draw.getrandbits(128), version=4)),
        uuid.UUID(int=draw.getrandbits(128), version=4).hex,
        sha256(word).hexdigest(),
        sha1(word).hexdigest(),
        md5(word).hexdigest(),
        "tok_" + sha256(word).hexdigest()[:24],
        f"a{draw.getrandbits(72):018x}",
        f"T{draw.getrandbits(80):020x}",
        str(draw.randrange(10**17, 10**18)),
        f"2026{draw.randrange(1, 13):02}{draw.randrange(1, 29):02}{draw.randrange(10**8):08}",
        f"ORD-{moment}-{draw.randrange(10**6):06}",
        str(moment),
        str(moment * 1000 + draw.randrange(1000)),
        str(moment * 1_000_000 + draw.randrange(10**6)),
        f"2026-11-{draw.randrange(1, 29):02}T10:{draw.randrange(60):02}:00.{draw.randrange(1000):03}Z",
        f"{draw.randrange(10**12):012}",
        f"203.0.113.{draw.randrange(256)}",
    ]


def test_ten_thousand_realistic_identifiers_all_pass():
    draw = random.Random(20261121)
    identifiers = [text for _ in range(600) for text in realistic_identifiers(draw)]
    assert len(identifiers) > 10_000
    assert [text for text in identifiers if pan.in_identifier(text) or pan.in_free_text(text)] == []
