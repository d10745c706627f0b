"""The guard that keeps card numbers and secrets out, without refusing good payments.

A plain Luhn test on any digit run would refuse a tenth of all order numbers, so a run counts only with an issuer's
prefix, that scheme's length and a right check digit. Two kinds of text are told apart:

- *identifiers*: a whole run of digits counts, nothing inside or across runs. Words in a format of their own (UUID,
  hash) are skipped. An admin may exempt a client's field.
- *free text* and metadata: runs with spaces or dashes between the digits count too, whole or as consecutive groups;
  formats of their own (UUID, hash, time, IP) are blanked first. Nobody is exempt.

Nothing here logs, stores or returns what it found: answers are yes or no.
"""

from __future__ import annotations

import re
from functools import lru_cache

_MAESTRO = frozenset({12, 13, 16, 19})
_LONG = frozenset({16, 19})
_16 = frozenset({16})

# Issuer prefixes as ranges of their first digits, with the lengths in circulation. (The schemes' rules allow some more,
# such as 18 digits for UnionPay and Maestro; with these every hundredth 18-digit order number would be refused.)
_SCHEMES: list[tuple[str, str, frozenset[int]]] = [
    ("4", "4", frozenset({13, 16, 19})),  # Visa
    ("51", "55", _16),  # Mastercard
    ("2221", "2720", _16),
    ("34", "34", frozenset({15})),  # American Express
    ("37", "37", frozenset({15})),
    ("300", "305", frozenset({14, 16})),  # Diners Club
    ("3095", "3095", frozenset({14, 16})),
    ("36", "36", frozenset({14, 16})),
    ("38", "39", frozenset({14, 16})),
    ("3528", "3589", _16),  # JCB
    ("6011", "6011", _LONG),  # Discover
    ("644", "649", _LONG),
    ("65", "65", _LONG),
    ("62", "62", _LONG),  # UnionPay
    ("2200", "2204", _16),  # Mir
    ("5018", "5018", _MAESTRO),
    ("5020", "5020", _MAESTRO),
    ("5038", "5038", _MAESTRO),
    ("5893", "5893", _MAESTRO),
    ("6304", "6304", _MAESTRO),
    ("6759", "6759", _MAESTRO),
    ("6761", "6763", _MAESTRO),
]
SHORTEST, LONGEST = 12, 19


def _heads_by_length() -> dict[int, frozenset[str]]:
    """The first four digits that an issuer's number of each length can begin with."""
    heads: dict[int, set[str]] = {length: set() for length in range(SHORTEST, LONGEST + 1)}
    for low, high, lengths in _SCHEMES:
        spread = 10 ** (4 - len(low))
        found = {f"{head:04d}" for head in range(int(low) * spread, (int(high) + 1) * spread)}
        for length in lengths:
            heads[length] |= found
    return {length: frozenset(found) for length, found in heads.items()}


_HEADS = _heads_by_length()

# `\d` and the gaps are those of Unicode: full-width digits and typographic dashes read like any others.
_GAP = r"[\s\-‐-―−]*"
_SUSPECT = re.compile(rf"(?:\d{_GAP}){{{SHORTEST}}}")

# For the first look: spaces and dashes vanish; digits, and all that is not ASCII because it may be one, become 0.
_LEVELLED = bytes(48 if byte in b"0123456789" or byte > 127 else byte for byte in range(256))
_ENOUGH = b"0" * SHORTEST

_RUN = re.compile(r"\d+")
_GROUPS = re.compile(rf"\d(?:{_GAP}\d)*")
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
_WORD = re.compile(r"[0-9A-Za-z]+")
_HEX = re.compile(r"[0-9]*[a-f][0-9a-f]*")
_HEX_LETTER = re.compile(r"[a-fA-F]")
_SHORTEST_RANDOM = 20
_HASH_LENGTHS = frozenset({24, 32, 40, 48, 56, 64, 96, 128})
_TIME = re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?(?![\d-])")
_IPV4 = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")

_SECRET = re.compile(r"(?:cvv2?|cvc2?|csc|pin|track[12])")
_SECRET_TAIL = frozenset({"code", "value", "number", "no", "nr", "data", "block"})
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def passes_luhn(digits: str) -> bool:
    """Whether the last of `digits` (ASCII) is the check digit of the others."""
    total = sum(map(int, digits[-1::-2]))
    return (total + sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])) % 10 == 0


def is_card_number(digits: str) -> bool:
    """Whether a whole run of ASCII digits has an issuer's prefix, that scheme's length and a right check digit."""
    return digits[:4] in _HEADS.get(len(digits), ()) and passes_luhn(digits)


def may_hold_card_number(document: bytes) -> bool:
    """A quick look at a UTF-8 document without escapes; False is certain, True asks for a look at each field."""
    return _ENOUGH in document.translate(_LEVELLED, b" -")


def may_be_in_identifier(text: str) -> bool:
    """A quick look at an identifier, or at many of them with line breaks between; False is certain."""
    return _ENOUGH in text.encode("utf-8", "replace").translate(_LEVELLED)


def may_be_in_free_text(text: str) -> bool:
    """A quick look at a text, or at many of them with line breaks between; False is certain."""
    return may_hold_card_number(text.encode("utf-8", "replace"))


def in_identifier(text: str) -> bool:
    """Whether a structured identifier holds a card number as a whole run of digits."""
    if len(text) < SHORTEST or not any(map(is_card_number, _RUN.findall(_ascii_digits(text)))):
        return False
    words = (word for word in _WORD.findall(_UUID.sub(" ", _ascii_digits(text))) if not _is_random(word))
    return any(is_card_number(run) for word in words for run in _RUN.findall(word))


def in_free_text(text: str) -> bool:
    """Whether free text holds a card number, also one written in groups."""
    if len(text) < SHORTEST or not _SUSPECT.search(text):
        return False
    return any(_in_groups(found) for found in _GROUPS.findall(_without_own_formats(_ascii_digits(text))))


def is_card_token(text: str) -> bool:
    """Whether a text may stand for a card: not 12 to 19 digits with a right check digit, whatever their prefix."""
    digits = _ascii_digits(text)
    return not (digits.isdigit() and SHORTEST <= len(digits) <= LONGEST and passes_luhn(digits))


@lru_cache(maxsize=4096)
def names_secret(key: str) -> bool:
    """Whether a key announces what must never be sent: `cvv`, `cvc`, `pin`, `track2` and their kin."""
    words = [word for word in re.split(r"[^a-z0-9]+", _CAMEL.sub("_", key).lower()) if word]
    while len(words) > 1 and words[-1] in _SECRET_TAIL:
        words.pop()
    joined = "".join(words[-2:])
    return bool(words) and bool(_SECRET.fullmatch(words[-1]) or _SECRET.fullmatch(joined) or joined == "pinblock")


def _in_groups(text: str) -> bool:
    """Whether consecutive whole groups of digits make a card number."""
    groups = _RUN.findall(text)
    for first in range(len(groups)):
        digits = ""
        for group in groups[first:]:
            digits += group
            if len(digits) > LONGEST:
                break
            if is_card_number(digits):
                return True
    return False


def _without_own_formats(text: str) -> str:
    for pattern in (_UUID, _TIME, _IPV4):
        text = pattern.sub("|", text)
    return _WORD.sub(lambda word: "|" if _is_random(word.group()) else word.group(), text)


def _is_random(word: str) -> bool:
    """Whether a word has the form of a hash or a random hexadecimal id, in which a run of digits is chance.

    Only hexadecimal needs this: five of its eight symbols in a row are digits often enough. A letter or two around a
    number make no id of it.
    """
    if not _HEX.fullmatch(word.lower()):
        return False
    return len(word) in _HASH_LENGTHS or (len(word) >= _SHORTEST_RANDOM and len(_HEX_LETTER.findall(word)) >= 4)


def _ascii_digits(text: str) -> str:
    """`text` with every digit of any script as 0–9."""
    if text.isascii():
        return text
    return "".join(str(int(character)) if character.isdecimal() else character for character in text)
