"""Reading a JSON body: a quick look that a good body passes, and the thorough way that finds every fault of the others.

Generic over the structs of the API (`Part`); the fields themselves stand in `transactions/schema.py`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from functools import lru_cache
from typing import Annotated, Any, Union, get_args, get_type_hints

import msgspec
from msgspec import UNSET, Meta, UnsetType

from transactions import pan
from transactions.hints import fault
from transactions.problems import FieldError, Problem, invalid

DEEPEST = 6
MOST_METADATA = 50


class Part(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An object of the schema: unknown fields are refused, what was not sent is UNSET. (No cycles, so no collector.)"""


Metadata = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=40)], Annotated[str, Meta(max_length=500)]],
    Meta(max_length=MOST_METADATA),
]


# --- the quick look at raw bytes --------------------------------------------------------------------------------------

_SPACE = b" \t\r\n"
# A quote and white space: then a key and its colon may stand apart.
_APART = (b'" ', b'"\t', b'"\r', b'"\n')
_ESCAPED_ASCII = re.compile(rb"\\u00[0-7]")


def doubles_keys(body: bytes, canonical: bytes) -> bool:
    """Whether keys of the body were dropped as doubles; msgspec takes the last one silently.

    Without white space, a quote and a colon follow each other at the end of each key and at the start of a text that
    begins with a colon, in both forms alike, however the text is escaped; a doubled key is missing in the canonical
    form.
    """
    if not escapes_ascii(body) and _key_ends(body) == _key_ends(canonical):
        return False
    try:
        json.loads(body, object_pairs_hook=_once)
    except _Doubled:
        return True
    return False


def escapes_ascii(body: bytes) -> bool:
    """Whether a quote or a colon may be written as \\u0022; escapes of other characters change no count."""
    return b"\\" in body and _ESCAPED_ASCII.search(body) is not None


def _key_ends(body: bytes) -> int:
    if any(apart in body for apart in _APART):
        body = body.translate(None, _SPACE)
    return body.count(b'":')


class _Doubled(Exception):
    """An object has a key twice."""


def _once(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise _Doubled


def is_untidy(canonical: bytes) -> bool:
    """Whether some text may need trimming or normalising, or holds control characters. False is certain, also for many
    documents with line breaks between."""
    if b"\\" in canonical or b"\x7f" in canonical or b'" ' in canonical or b' "' in canonical:
        return True
    if canonical.isascii():
        return False
    others = canonical.translate(None, _ASCII).decode()
    if not others.isprintable():
        return True
    return max(others) >= _FIRST_COMBINING and not unicodedata.is_normalized("NFC", canonical.decode())


_ASCII = bytes(range(128))
_FIRST_COMBINING = "\u0300"  # all characters before it are in NFC, and none joins the one before it


# --- the thorough reading ---------------------------------------------------------------------------------------------


class _Object(dict[str, Any]):
    """A JSON object that remembers which keys it had twice."""

    doubled: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        made.doubled = tuple(sorted({key for key in keys if keys.count(key) > 1}))
    return made


def _no_constant(name: str) -> Any:
    raise ValueError("NaN and Infinity are no JSON")


def parsed(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise invalid([_too_deep("")]) from None
    except ValueError:
        raise Problem("invalid-json", "The body is not one JSON object in UTF-8.") from None


def _too_deep(pointer: str) -> FieldError:
    return FieldError(pointer, "too-deep", f"Objects and arrays are nested at most {DEEPEST} levels.")


def child(pointer: str, key: str) -> str:
    """The pointer of a member; the parent's where the key itself must not be repeated."""
    if len(key) > 64 or not key.isprintable() or pan.in_free_text(key):
        return pointer
    return f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"


def tidied(value: Any, pointer: str, depth: int, errors: list[FieldError]) -> Any:
    """The value with texts trimmed and in NFC; doubled keys, control characters and too deep nesting go to `errors`."""
    if isinstance(value, str):
        return _tidy_text(value, pointer, errors)
    if isinstance(value, dict | list) and depth > DEEPEST:
        errors.append(_too_deep(pointer))
        return None
    if isinstance(value, list):
        return [tidied(one, f"{pointer}/{n}", depth + 1, errors) for n, one in enumerate(value)]
    if not isinstance(value, dict):
        return value
    for key in getattr(value, "doubled", ()):
        errors.append(FieldError(child(pointer, key), "duplicate-key", "The key stands twice in its object."))
    return {
        _tidy_text(key, pointer, errors): tidied(one, child(pointer, key), depth + 1, errors)
        for key, one in value.items()
    }


def _tidy_text(text: str, pointer: str, errors: list[FieldError]) -> str:
    text = unicodedata.normalize("NFC", text).strip()
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        errors.append(FieldError(pointer, "control-character", "Texts have no control characters."))
        return "".join(character if unicodedata.category(character) != "Cs" else "?" for character in text)
    return text


def built(kind: type[Part], value: Any, pointer: str, errors: list[FieldError]) -> Any:
    """`value` as struct `kind` out of the members that are right; None if it is no object. The others go to `errors`.

    The struct is complete if `errors` stays empty; else members that are missing or wrong are UNSET.
    """
    if not isinstance(value, dict):
        errors.append(FieldError(pointer, "wrong-type", "Expected an object."))
        return None
    fields = members(kind)
    made: dict[str, Any] = {}
    for name, one in value.items():
        if name in fields:
            made[name] = _member(fields[name], one, f"{pointer}/{name}", errors)
        else:
            errors.append(FieldError(child(pointer, name), "unknown-field", "The schema does not know this field."))
    for name, field in fields.items():
        if name not in made:
            made[name] = field.default
            if field.required:
                errors.append(FieldError(f"{pointer}/{name}", "required", "The field is required."))
    return kind(**made)


class Member(msgspec.Struct):
    """A member of a struct: its type without UNSET, the struct it holds if any, and whether it must be there."""

    kind: Any
    struct: type[Part] | None
    required: bool
    default: Any


@lru_cache(maxsize=64)
def members(kind: type[Part]) -> dict[str, Member]:
    """The members of a struct by name."""
    hints = get_type_hints(kind, include_extras=True)
    fields = {}
    for field in msgspec.structs.fields(kind):
        plain = _without_unset(hints[field.name])
        struct = plain if isinstance(plain, type) and issubclass(plain, Part) else None
        default = UNSET if field.required else field.default
        fields[field.name] = Member(plain, struct, field.required, default)
    return fields


def _without_unset(hint: Any) -> Any:
    if UnsetType not in get_args(hint):
        return hint
    kept = tuple(one for one in get_args(hint) if one is not UnsetType)
    return kept[0] if len(kept) == 1 else Union[kept]  # noqa: UP007  (built at run time from a tuple)


def _member(field: Member, value: Any, pointer: str, errors: list[FieldError]) -> Any:
    if value is None:
        errors.append(FieldError(pointer, "wrong-type", "Null is no value; leave out what is not known."))
        return UNSET
    if field.struct is not None:
        return built(field.struct, value, pointer, errors) or UNSET
    if field.kind is Metadata:
        return _metadata(value, pointer, errors)
    try:
        return msgspec.convert(value, field.kind)
    except msgspec.ValidationError as error:
        errors.append(fault(pointer, str(error)))
        return UNSET


def _metadata(value: Any, pointer: str, errors: list[FieldError]) -> Any:
    if not isinstance(value, dict):
        errors.append(FieldError(pointer, "wrong-type", "Expected an object of texts."))
        return UNSET
    if len(value) > MOST_METADATA:
        errors.append(FieldError(pointer, "out-of-range", f"At most {MOST_METADATA} keys."))
    for key, one in value.items():
        if not 1 <= len(key) <= 40:
            errors.append(FieldError(pointer, "out-of-range", "Keys have 1 to 40 characters."))
        elif not isinstance(one, str):
            errors.append(FieldError(child(pointer, key), "wrong-type", "Values are texts."))
        elif len(one) > 500:
            errors.append(FieldError(child(pointer, key), "out-of-range", "Values have at most 500 characters."))
    return value
