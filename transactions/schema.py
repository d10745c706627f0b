"""The canonical transaction: fields, limits, conditions and the card-number guard (spec, "Canonical transaction schema
v1").

Two ways lead through here. A good body takes the *fast* one: msgspec decodes and checks it in C, the canonical JSON
that it encodes again serves at once for the text rules, the search for doubled keys, the card-number guard, the stored
document and the body hash. Whatever looks odd takes the *thorough* one: the body is read again value by value, texts
are trimmed and normalised, and every fault is gathered with its JSON pointer. Both give the same payment for the same
body.

Messages never contain a value that was sent: it may be a card number.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from hashlib import blake2b
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_type_hints

import msgspec
from msgspec import UNSET, Meta, UnsetType

from transactions import codes, pan
from transactions.codes import CodeTable
from transactions.problems import FieldError, Problem, invalid

MOST_BYTES = 32 * 1024
DEEPEST = 6
AHEAD = timedelta(minutes=5)
OLDEST = timedelta(days=90)
MOST_METADATA = 50
NO_CLIENT_EXEMPTION: frozenset[str] = frozenset()

# --- kinds of values --------------------------------------------------------------------------------------------------

Id35 = Annotated[str, Meta(min_length=1, max_length=35)]
Id64 = Annotated[str, Meta(min_length=1, max_length=64)]
Id128 = Annotated[str, Meta(min_length=1, max_length=128)]
Text4 = Annotated[str, Meta(max_length=4)]
Text16 = Annotated[str, Meta(min_length=1, max_length=16)]
Text32 = Annotated[str, Meta(max_length=32)]
Text70 = Annotated[str, Meta(max_length=70)]
Text140 = Annotated[str, Meta(max_length=140)]
Text512 = Annotated[str, Meta(max_length=512)]
ExternalId = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[A-Za-z0-9._:-]+$")]
Hash = Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")]
UuidV4 = Annotated[
    str, Meta(pattern="^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$")
]
Moment = Annotated[datetime, Meta(tz=True)]
Bic = Annotated[str, Meta(pattern="^[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?$")]
Mcc = Annotated[str, Meta(pattern="^[0-9]{4}$")]
ResultCode = Annotated[str, Meta(pattern="^[A-Z0-9]$")]
IpText = Annotated[str, Meta(max_length=45, pattern="^[0-9a-fA-F:.]{2,45}$")]
LanguageTag = Annotated[
    str,
    Meta(
        max_length=35,
        pattern="^(?:[A-Za-z]{2,3}(?:-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|[0-9]{3}))?"
        "(?:-(?:[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(?:-[0-9A-WYZa-wyz](?:-[A-Za-z0-9]{2,8})+)*"
        "(?:-[xX](?:-[A-Za-z0-9]{1,8})+)?$",
    ),
]

if TYPE_CHECKING:
    Type: TypeAlias = str
    Stage: TypeAlias = str
    Direction: TypeAlias = str
    Channel: TypeAlias = str
    Instrument: TypeAlias = str
    Segment: TypeAlias = str
    Scheme: TypeAlias = str
    Funding: TypeAlias = str
    EntryMode: TypeAlias = str
    AuthenticationMethod: TypeAlias = str
    Sca: TypeAlias = str
    Exemption: TypeAlias = str
    ThreeDsStatus: TypeAlias = str
    Vop: TypeAlias = str
    TransferScheme: TypeAlias = str
    LocationSource: TypeAlias = str
    Country: TypeAlias = str
    Currency: TypeAlias = str
    DeviceFlag: TypeAlias = str
else:

    def _one_of(table):
        return Literal[tuple(table)]

    Type, Stage, Direction, Channel = map(_one_of, (codes.TYPE, codes.STAGE, codes.DIRECTION, codes.CHANNEL))
    Instrument, Segment, Scheme, Funding = map(_one_of, (codes.INSTRUMENT, codes.SEGMENT, codes.SCHEME, codes.FUNDING))
    EntryMode, AuthenticationMethod, Sca = map(_one_of, (codes.ENTRY_MODE, codes.AUTHENTICATION, codes.SCA))
    Exemption, ThreeDsStatus, Vop = map(_one_of, (codes.EXEMPTION, codes.THREE_DS, codes.VOP))
    TransferScheme, LocationSource = map(_one_of, (codes.TRANSFER_SCHEME, codes.LOCATION_SOURCE))
    Country, Currency, DeviceFlag = map(_one_of, (codes.COUNTRY, codes.CURRENCY, codes.DEVICE_FLAGS))


# --- the structs ------------------------------------------------------------------------------------------------------


class Part(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An object of the schema: unknown fields are refused, what was not sent is UNSET. (No cycles, so no collector.)"""


class Amount(Part):
    """Money as an integer of minor units: JPY 1050 is ¥1,050, EUR 1050 is €10.50."""

    value: Annotated[int, Meta(ge=0, le=10**15 - 1)]
    currency: Currency


class Customer(Part):
    """Who pays, under the bank's own opaque key."""

    id: Id64
    country: Country | UnsetType = UNSET
    since: date | UnsetType = UNSET
    segment: Segment | UnsetType = UNSET
    birth_year: Annotated[int, Meta(ge=1880, le=2100)] | UnsetType = UNSET
    email_hash: Hash | UnsetType = UNSET
    phone_hash: Hash | UnsetType = UNSET


class Account(Part):
    """The payer's account; the id is a token, never an IBAN in the clear."""

    id: Id64 | UnsetType = UNSET
    country: Country | UnsetType = UNSET
    opened_at: date | UnsetType = UNSET
    balance_before: Amount | UnsetType = UNSET


class ThreeDs(Part):
    """Outcome of EMV 3-D Secure."""

    version: Annotated[str, Meta(max_length=8, pattern=r"^[0-9]+(\.[0-9]+)*$")] | UnsetType = UNSET
    eci: Annotated[str, Meta(pattern="^[0-9]{2}$")] | UnsetType = UNSET
    status: ThreeDsStatus | UnsetType = UNSET
    exemption: Exemption | UnsetType = UNSET


class Card(Part):
    """The card under a token; of its number at most the BIN and the last four digits."""

    token: Id64 | UnsetType = UNSET
    bin: Annotated[str, Meta(pattern="^([0-9]{6}|[0-9]{8})$")] | UnsetType = UNSET
    last4: Annotated[str, Meta(pattern="^[0-9]{4}$")] | UnsetType = UNSET
    scheme: Scheme | UnsetType = UNSET
    funding: Funding | UnsetType = UNSET
    issuer_country: Country | UnsetType = UNSET
    entry_mode: EntryMode | UnsetType = UNSET
    cvv_result: ResultCode | UnsetType = UNSET
    avs_result: ResultCode | UnsetType = UNSET
    three_ds: ThreeDs | UnsetType = UNSET


class Authentication(Part):
    """How the customer was recognised, and under which exemption if strong authentication was not asked."""

    method: AuthenticationMethod | UnsetType = UNSET
    sca: Sca | UnsetType = UNSET
    exemption: Exemption | UnsetType = UNSET


class Merchant(Part):
    """Where the card was used."""

    id: Id35 | UnsetType = UNSET
    name: Text140 | UnsetType = UNSET
    mcc: Mcc | UnsetType = UNSET
    country: Country | UnsetType = UNSET
    city: Text70 | UnsetType = UNSET
    terminal_id: Text16 | UnsetType = UNSET


class Counterparty(Part):
    """The other account of a transfer, as a token."""

    id: Id64 | UnsetType = UNSET
    name_hash: Hash | UnsetType = UNSET
    vop_result: Vop | UnsetType = UNSET
    bic: Bic | UnsetType = UNSET
    country: Country | UnsetType = UNSET
    first_seen_at: Moment | UnsetType = UNSET


class Transfer(Part):
    """What only transfers have."""

    scheme: TransferScheme | UnsetType = UNSET
    purpose: Text4 | UnsetType = UNSET
    remittance: Text140 | UnsetType = UNSET


class Device(Part):
    """What the customer paid with."""

    id: Id128 | UnsetType = UNSET
    ip: IpText | UnsetType = UNSET
    user_agent: Text512 | UnsetType = UNSET
    os: Text32 | UnsetType = UNSET
    app_version: Text32 | UnsetType = UNSET
    language: LanguageTag | UnsetType = UNSET
    flags: set[DeviceFlag] | UnsetType = UNSET


class Location(Part):
    """Where the payment happened, WGS 84, at most four decimals (about ten metres)."""

    lat: Annotated[float, Meta(ge=-90, le=90)] | UnsetType = UNSET
    lon: Annotated[float, Meta(ge=-180, le=180)] | UnsetType = UNSET
    country: Country | UnsetType = UNSET
    source: LocationSource | UnsetType = UNSET


class Session(Part):
    """The on-line banking or app session."""

    id: Id64 | UnsetType = UNSET
    started_at: Moment | UnsetType = UNSET


P = TypeVar("P", bound=Part)

Metadata = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=40)], Annotated[str, Meta(max_length=500)]],
    Meta(max_length=MOST_METADATA),
]


class Payment(Part, kw_only=True, dict=True, gc=True):
    """One payment as a bank sends it. `dict=True` lets the canonical form be kept once it is made."""

    external_id: ExternalId
    uetr: UuidV4 | UnsetType = UNSET
    original_external_id: ExternalId | UnsetType = UNSET
    type: Type
    stage: Stage | UnsetType = UNSET
    direction: Direction | UnsetType = UNSET
    channel: Channel | UnsetType = UNSET
    occurred_at: Moment
    amount: Amount
    billing_amount: Amount | UnsetType = UNSET
    instrument: Instrument | UnsetType = UNSET
    customer: Customer
    account: Account | UnsetType = UNSET
    card: Card | UnsetType = UNSET
    authentication: Authentication | UnsetType = UNSET
    merchant: Merchant | UnsetType = UNSET
    counterparty: Counterparty | UnsetType = UNSET
    transfer: Transfer | UnsetType = UNSET
    device: Device | UnsetType = UNSET
    location: Location | UnsetType = UNSET
    session: Session | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET

    @cached_property
    def canonical(self) -> bytes:
        """The payment as JSON, as it was sent but in one fixed form: field order, trimmed texts, times, sorted sets."""
        return _encoder.encode(self)

    @cached_property
    def body_hash(self) -> bytes:
        """16 bytes: equal for bodies that say the same."""
        return blake2b(self.canonical, digest_size=16).digest()

    @property
    def means(self) -> str:
        """The instrument that was sent, else the one that `card` or `account` imply."""
        if self.instrument:
            return self.instrument
        return "card" if self.card else "account" if self.account else "other"

    def document(self) -> dict[str, Any]:
        """The canonical form as Python objects."""
        return msgspec.json.decode(self.canonical)


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Payment)

# --- the two ways in --------------------------------------------------------------------------------------------------


def decode(
    body: bytes, *, exempt: Collection[str] = NO_CLIENT_EXEMPTION, now: datetime | None = None, backlog: bool = False
) -> Payment:
    """The payment in a JSON body.

    `exempt` are pointers of identifiers that may look like a card number (`ApiClient.exempt_fields`); `backlog` lifts
    the limit of 90 days. Raises Problem with every fault's JSON pointer.
    """
    if len(body) > MOST_BYTES:
        raise Problem("body-too-large", f"A payment has at most {MOST_BYTES} bytes.")
    try:
        payment = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        payment = None
    now = now or datetime.now(UTC)
    if payment is None or _doubles_keys(body, payment.canonical) or _is_untidy(payment.canonical):
        return _thoroughly(_parsed(body), exempt, now, backlog)
    return _passed(payment, exempt, now, backlog)


def from_document(
    document: dict[str, Any],
    *,
    exempt: Collection[str] = NO_CLIENT_EXEMPTION,
    now: datetime | None = None,
    backlog: bool = True,
) -> Payment:
    """The payment in a dict of the API's shape, as imports have it. Raises Problem."""
    now = now or datetime.now(UTC)
    try:
        payment = msgspec.convert(document, Payment)
    except msgspec.ValidationError:
        payment = None
    if payment is None or _is_untidy(payment.canonical):
        return _thoroughly(document, exempt, now, backlog)
    return _passed(payment, exempt, now, backlog)


def read_part(kind: type[P], body: bytes) -> tuple[P | None, list[FieldError]]:
    """Another object of the API, thoroughly read and guarded, with all its faults; complete only if there are none."""
    if len(body) > MOST_BYTES:
        raise Problem("body-too-large", f"A body has at most {MOST_BYTES} bytes.")
    return _part(kind, _parsed(body))


def part_from_document(kind: type[P], document: dict[str, Any]) -> tuple[P | None, list[FieldError]]:
    """Another object of the API out of a dict, with all its faults; complete only if there are none."""
    try:
        part = msgspec.convert(document, kind)
    except msgspec.ValidationError:
        return _part(kind, document)
    text = _encoder.encode(part)
    return _part(kind, document) if _is_untidy(text) or pan.may_hold_card_number(text) else (part, [])


def _part(kind: type[P], document: Any) -> tuple[P | None, list[FieldError]]:
    errors: list[FieldError] = []
    tidy = _tidied(document, "", 1, errors)
    part = _built(kind, tidy, "", errors)
    errors += _guarded(tidy, NO_CLIENT_EXEMPTION, set())
    return part, _foremost(errors)


def decode_many(
    bodies: list[bytes], *, exempt: Collection[str] = NO_CLIENT_EXEMPTION, backlog: bool = True
) -> tuple[list[Payment], list[tuple[int, Problem]]]:
    """The payments of the good bodies, and the problems of the others by their position."""
    now = datetime.now(UTC)
    payments, problems = [], []
    for position, body in enumerate(bodies):
        try:
            payments.append(decode(body, exempt=exempt, now=now, backlog=backlog))
        except Problem as problem:
            problems.append((position, problem))
    return payments, problems


def _passed(payment: Payment, exempt: Collection[str], now: datetime, backlog: bool) -> Payment:
    errors = list(_conditions(payment, now, backlog))
    if errors or pan.may_hold_card_number(payment.canonical) or _has_secret_key(payment):
        errors += _guarded(payment.document(), exempt, {error.pointer for error in errors})
    if errors:
        raise invalid(errors)
    return payment


def _thoroughly(document: Any, exempt: Collection[str], now: datetime, backlog: bool) -> Payment:
    """The payment of a parsed body, or a Problem with all its faults."""
    errors: list[FieldError] = []
    tidy = _tidied(document, "", 1, errors)
    payment = _built(Payment, tidy, "", errors)
    if payment is not None:
        known = {error.pointer for error in errors}
        errors += (error for error in _conditions(payment, now, backlog) if error.pointer not in known)
    errors += _guarded(tidy, exempt, {error.pointer for error in errors})
    if errors or payment is None:
        raise invalid(_foremost(errors))
    return payment


def _foremost(errors: list[FieldError]) -> list[FieldError]:
    """One error for each pointer: a card number or secret outweighs what else is wrong with its field."""
    best: dict[str, FieldError] = {}
    for error in errors:
        if error.pointer not in best or error.code in ("pan-not-accepted", "sensitive-data-not-accepted"):
            best[error.pointer] = error
    return list(best.values())


# --- the quick look at raw bytes --------------------------------------------------------------------------------------

_SPACE = b" \t\r\n"


def _doubles_keys(body: bytes, canonical: bytes) -> bool:
    """Whether keys of the body were dropped as doubles; msgspec takes the last one silently.

    Without a backslash in the body, and without white space, a quote and a colon follow each other at the end of each
    key and at the start of a text that begins with a colon, in both forms alike; a doubled key is missing in the
    canonical form.
    """
    if b"\\" not in body and _key_ends(body) == _key_ends(canonical):
        return False
    try:
        json.loads(body, object_pairs_hook=_once)
    except _Doubled:
        return True
    return False


def _key_ends(body: bytes) -> int:
    return body.translate(None, _SPACE).count(b'":')


class _Doubled(Exception):
    """An object has a key twice."""


def _once(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise _Doubled


def _is_untidy(canonical: bytes) -> bool:
    """Whether some text may need trimming or normalising, or holds control characters. False is certain."""
    text = canonical.decode()
    if not text.isprintable() or "\\" in text or '" ' in text or ' "' in text:
        return True
    return not text.isascii() and not unicodedata.is_normalized("NFC", text)


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


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise invalid([_too_deep("")]) from None
    except ValueError:
        raise Problem("invalid-json", "The body is not one JSON object in UTF-8.") from None


def _too_deep(pointer: str) -> FieldError:
    return FieldError(pointer, "too-deep", f"Objects and arrays are nested at most {DEEPEST} levels.")


def _child(pointer: str, key: str) -> str:
    """The pointer of a member; the parent's where the key itself must not be repeated."""
    if len(key) > 64 or not key.isprintable() or pan.in_free_text(key):
        return pointer
    return f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"


def _tidied(value: Any, pointer: str, depth: int, errors: list[FieldError]) -> Any:
    """The value with texts trimmed and in NFC; doubled keys, control characters and too deep nesting go to `errors`."""
    if isinstance(value, str):
        return _tidy_text(value, pointer, errors)
    if isinstance(value, dict | list) and depth > DEEPEST:
        errors.append(_too_deep(pointer))
        return None
    if isinstance(value, list):
        return [_tidied(one, f"{pointer}/{n}", depth + 1, errors) for n, one in enumerate(value)]
    if not isinstance(value, dict):
        return value
    for key in getattr(value, "doubled", ()):
        errors.append(FieldError(_child(pointer, key), "duplicate-key", "The key stands twice in its object."))
    return {
        _tidy_text(key, pointer, errors): _tidied(one, _child(pointer, key), depth + 1, errors)
        for key, one in value.items()
    }


def _tidy_text(text: str, pointer: str, errors: list[FieldError]) -> str:
    text = unicodedata.normalize("NFC", text).strip()
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        errors.append(FieldError(pointer, "control-character", "Texts have no control characters."))
        return "".join(character if unicodedata.category(character) != "Cs" else "?" for character in text)
    return text


def _built(kind: type[Part], value: Any, pointer: str, errors: list[FieldError]) -> Any:
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
            errors.append(FieldError(_child(pointer, name), "unknown-field", "The schema does not know this field."))
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
        return _built(field.struct, value, pointer, errors) or UNSET
    if field.kind is Metadata:
        return _metadata(value, pointer, errors)
    try:
        return msgspec.convert(value, field.kind)
    except msgspec.ValidationError as error:
        errors.append(_fault(pointer, str(error)))
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
            errors.append(FieldError(_child(pointer, key), "wrong-type", "Values are texts."))
        elif len(one) > 500:
            errors.append(FieldError(_child(pointer, key), "out-of-range", "Values have at most 500 characters."))
    return value


# --- what is wrong, in words ------------------------------------------------------------------------------------------

# (fragment of msgspec's own message, code): the first that is found.
_FAULTS = (
    ("Invalid enum", "invalid-value"),
    ("timezone", "invalid-time"),
    ("RFC3339", "invalid-time"),
    ("Invalid date", "invalid-time"),
    ("matching regex", "invalid-format"),
    ("of length", "out-of-range"),
    ("<=", "out-of-range"),
    (">=", "out-of-range"),
    ("out of range", "out-of-range"),
)
_POSITION = re.compile(r"at `\$\[(\d+)\]`")

_TABLES: dict[str, CodeTable] = {
    "type": codes.TYPE,
    "stage": codes.STAGE,
    "direction": codes.DIRECTION,
    "channel": codes.CHANNEL,
    "instrument": codes.INSTRUMENT,
    "segment": codes.SEGMENT,
    "card/scheme": codes.SCHEME,
    "funding": codes.FUNDING,
    "entry_mode": codes.ENTRY_MODE,
    "method": codes.AUTHENTICATION,
    "sca": codes.SCA,
    "exemption": codes.EXEMPTION,
    "status": codes.THREE_DS,
    "vop_result": codes.VOP,
    "transfer/scheme": codes.TRANSFER_SCHEME,
    "source": codes.LOCATION_SOURCE,
}
_COUNTRY_HINT = "An ISO 3166-1 alpha-2 code in capitals; the United Kingdom is GB."
_TIME_HINT = "RFC 3339 with an offset, such as 2026-11-21T10:00:00Z."
_HASH_HINT = "64 hexadecimal digits of a keyed hash."
_HINTS = {
    "external_id": "1 to 64 of the characters A–Z a–z 0–9 . _ : -",
    "original_external_id": "1 to 64 of the characters A–Z a–z 0–9 . _ : -",
    "uetr": "A UUID of version 4.",
    "value": "An integer of minor units from 0 to 999999999999999: no decimal point, no text.",
    "currency": "An active ISO 4217 code in capitals, such as EUR.",
    "country": _COUNTRY_HINT,
    "issuer_country": _COUNTRY_HINT,
    "occurred_at": _TIME_HINT,
    "first_seen_at": _TIME_HINT,
    "started_at": _TIME_HINT,
    "since": "A date such as 2019-04-30.",
    "opened_at": "A date such as 2019-04-30.",
    "birth_year": "A year as an integer.",
    "email_hash": _HASH_HINT,
    "phone_hash": _HASH_HINT,
    "name_hash": _HASH_HINT,
    "bin": "6 digits, or 8 where the scheme permits.",
    "last4": "4 digits.",
    "cvv_result": "One character, the result code; never the security code.",
    "avs_result": "One character, the result code.",
    "eci": "2 digits.",
    "mcc": "4 digits of ISO 18245.",
    "bic": "8 or 11 characters of ISO 9362, in capitals.",
    "ip": "An IPv4 or IPv6 address.",
    "language": "A BCP 47 tag such as de-CH.",
    "flags": "A list out of " + ", ".join(codes.DEVICE_FLAGS) + ".",
    "lat": "A number of degrees from -90 to 90 with at most 4 decimals.",
    "lon": "A number of degrees from -180 to 180 with at most 4 decimals.",
}
_LENGTH = re.compile(r"of length (>=|<=) (\d+)")


def _fault(pointer: str, told: str) -> FieldError:
    """msgspec's message as ours, without the value that it may repeat."""
    code = next((code for fragment, code in _FAULTS if fragment in told), "wrong-type")
    length = _LENGTH.search(told)
    words = hint(pointer)
    if length and not words:
        words = f"At {'most' if length[1] == '<=' else 'least'} {length[2]} characters."
    position = _POSITION.search(told)
    if position:
        pointer = f"{pointer}/{position[1]}"
    return FieldError(pointer, code, words or "Expected a text.")


def hint(pointer: str) -> str:
    """What the field at `pointer` wants, in words; empty if there is nothing to say."""
    parts = pointer.split("/")
    for name in ("/".join(parts[-2:]), parts[-1]):
        if name in _TABLES:
            return "One of: " + ", ".join(_TABLES[name]) + "."
    return _HINTS.get(parts[-1], "")


# --- conditions between fields ----------------------------------------------------------------------------------------

_NEED_ORIGINAL = frozenset({"refund", "reversal"})
_IBAN = re.compile(r"([A-Z]{2})([0-9]{2})([A-Z0-9]{11,30})")
_IBAN_REGISTRY = """
AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BR:29 CH:21 CR:22 CY:28 CZ:24 DE:22 DK:18 DO:28 EE:20
EG:29 ES:24 FI:18 FR:27 GB:22 GE:22 GI:23 GR:27 HR:21 HU:28 IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 KW:30 KZ:20
LB:28 LI:21 LT:20 LU:20 LV:21 MC:27 MD:24 ME:22 MK:19 MT:31 NL:18 NO:15 PK:24 PL:28 PT:25 QA:29 RO:24 RS:22
SA:24 SE:24 SI:19 SK:24 SM:27 TN:24 TR:26 UA:29 VA:22 XK:20
"""
_IBAN_LENGTHS = {pair[:2]: int(pair[3:]) for pair in _IBAN_REGISTRY.split()}


def _conditions(payment: Payment, now: datetime, backlog: bool) -> Iterator[FieldError]:
    """What no single field can tell. Members may be UNSET where another fault was found before."""
    yield from _timing(payment, now, backlog)
    yield from _company(payment)
    if payment.card and payment.card.token and not pan.is_card_token(payment.card.token):
        yield FieldError("/card/token", "pan-not-accepted", "A token, never the card number.")
    if payment.device and payment.device.ip and not canonical_ip(payment.device.ip):
        yield FieldError("/device/ip", "invalid-format", _HINTS["ip"])
    if payment.location:
        yield from _coordinates(payment.location)
    if payment.customer and payment.customer.birth_year and payment.customer.birth_year > now.year:
        yield FieldError("/customer/birth_year", "out-of-range", "Not in the future.")
    yield from _clear_identifiers(payment)


def _timing(payment: Payment, now: datetime, backlog: bool) -> Iterator[FieldError]:
    at = payment.occurred_at
    if not at:
        return
    if at.microsecond % 1000:
        yield FieldError("/occurred_at", "invalid-time", "Not finer than milliseconds.")
    elif at > now + AHEAD:
        yield FieldError("/occurred_at", "invalid-time", "More than 5 minutes in the future.")
    elif at < now - OLDEST and not backlog:
        yield FieldError("/occurred_at", "invalid-time", "Older than 90 days; import history by file.")
    elif at.year < 1980:
        yield FieldError("/occurred_at", "invalid-time", "Before 1980.")


def _company(payment: Payment) -> Iterator[FieldError]:
    """Fields that others make necessary."""
    means = payment.means
    if means == "account" and not (payment.account and payment.account.id):
        yield FieldError("/account/id", "required", "Required where the instrument is an account.")
    if means == "card" and not (payment.card and payment.card.token):
        yield FieldError("/card/token", "required", "Required where the instrument is a card.")
    if payment.type == "transfer" and not (payment.counterparty and payment.counterparty.id):
        yield FieldError("/counterparty/id", "required", "Required for a transfer.")
    if (payment.type in _NEED_ORIGINAL or payment.stage == "reversal") and not payment.original_external_id:
        yield FieldError("/original_external_id", "required", "Required for a refund or reversal.")
    how = payment.authentication
    if how and how.sca == "exempt" and not how.exemption:
        yield FieldError("/authentication/exemption", "required", "Required where sca is exempt.")


def _coordinates(location: Location) -> Iterator[FieldError]:
    for name in ("lat", "lon"):
        degrees = getattr(location, name)
        if degrees is UNSET:
            if location.lat is not location.lon:
                yield FieldError(f"/location/{name}", "required", "lat and lon come together.")
        elif round(degrees, 4) != degrees:
            yield FieldError(f"/location/{name}", "invalid-format", _HINTS[name])


def _clear_identifiers(payment: Payment) -> Iterator[FieldError]:
    """E-mail addresses as customer ids and IBANs in the clear."""
    if payment.customer and payment.customer.id and "@" in payment.customer.id:
        yield FieldError("/customer/id", "sensitive-data-not-accepted", "A key of your own, never an e-mail address.")
    for name in ("account", "counterparty"):
        part = getattr(payment, name)
        if part and part.id and _is_iban(part.id):
            yield FieldError(f"/{name}/id", "sensitive-data-not-accepted", "A token, never the IBAN itself.")


def _is_iban(text: str) -> bool:
    text = text.replace(" ", "")
    found = _IBAN.fullmatch(text)
    if not found or _IBAN_LENGTHS.get(found[1]) != len(text):
        return False
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97 == 1


@lru_cache(maxsize=65_536)
def canonical_ip(text: str) -> str:
    """The address in the form of RFC 5952; empty if it is none."""
    try:
        return str(ip_address(text))
    except ValueError:
        return ""


# --- card numbers and secrets -----------------------------------------------------------------------------------------

# Structured identifiers, where only a whole run of digits counts.
IDENTIFIERS = frozenset(
    {
        "/external_id",
        "/original_external_id",
        "/customer/id",
        "/account/id",
        "/card/token",
        "/merchant/id",
        "/merchant/terminal_id",
        "/counterparty/id",
        "/device/id",
        "/session/id",
    }
)
# Texts that people write.
FREE_TEXTS = frozenset(
    {
        "/merchant/name",
        "/merchant/city",
        "/transfer/purpose",
        "/transfer/remittance",
        "/device/user_agent",
        "/device/os",
        "/device/app_version",
    }
)


def _guarded(document: Any, exempt: Collection[str], faulty: set[str]) -> list[FieldError]:
    """Card numbers and secrets anywhere in the document. `faulty` fields have lost the trust in their own format."""
    errors: list[FieldError] = []
    for pointer, key, value in _leaves(document, ""):
        own_format = _is_known(pointer) and pointer not in faulty
        if key is not None and not own_format:
            if pan.names_secret(key):
                errors.append(_secret(pointer))
                continue
            if pan.in_free_text(key):
                errors.append(_card_number(pointer))
        if _holds_card_number(pointer, value, exempt, own_format):
            errors.append(_card_number(pointer))
    return errors


def _leaves(value: Any, pointer: str, key: str | None = None) -> Iterator[tuple[str, str | None, Any]]:
    """Every member as (pointer, key, value); objects and arrays too, with the value None."""
    if isinstance(value, dict):
        if key is not None:
            yield pointer, key, None
        for name, one in value.items():
            yield from _leaves(one, _child(pointer, name), name)
    elif isinstance(value, list):
        if key is not None:
            yield pointer, key, None
        for n, one in enumerate(value):
            yield from _leaves(one, f"{pointer}/{n}")
    else:
        yield pointer, key, value


def _holds_card_number(pointer: str, value: Any, exempt: Collection[str], own_format: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    if pointer in IDENTIFIERS:
        return isinstance(value, str) and pointer not in exempt and pan.in_identifier(value)
    if own_format and pointer not in FREE_TEXTS:
        return False
    return pan.in_free_text(str(value))


@lru_cache(maxsize=1)
def _known_pointers() -> frozenset[str]:
    def walk(kind: type[Part], pointer: str) -> Iterator[str]:
        for name, field in members(kind).items():
            yield f"{pointer}/{name}"
            if field.struct is not None:
                yield from walk(field.struct, f"{pointer}/{name}")

    return frozenset(walk(Payment, "")) - {"/metadata"}


def _is_known(pointer: str) -> bool:
    return pointer in _known_pointers() or pointer.startswith("/device/flags/")


def _card_number(pointer: str) -> FieldError:
    return FieldError(pointer, "pan-not-accepted", "It looks like a card number. Send a token.")


def _has_secret_key(payment: Payment) -> bool:
    return any(map(pan.names_secret, payment.metadata or ()))


def _secret(pointer: str) -> FieldError:
    return FieldError(pointer, "sensitive-data-not-accepted", "Security codes, PINs and track data are never accepted.")


# --- an example -------------------------------------------------------------------------------------------------------


def example_payment(at: datetime | None = None, external_id: str = "example-0001") -> dict[str, Any]:
    """A full payment in the API's shape, for documentation and tests; `at` is its time (now)."""
    at = at or datetime.now(UTC)
    return {
        "external_id": external_id,
        "type": "purchase",
        "channel": "ecommerce",
        "occurred_at": at.isoformat(timespec="seconds"),
        "amount": {"value": 4999, "currency": "EUR"},
        "customer": {"id": "cus-81c2", "country": "DE", "since": "2019-04-30", "segment": "retail", "birth_year": 1984},
        "card": {
            "token": "tok-5f3a9c",
            "last4": "1234",
            "scheme": "visa",
            "funding": "debit",
            "issuer_country": "DE",
            "entry_mode": "ecommerce",
            "cvv_result": "M",
            "three_ds": {"version": "2.2.0", "eci": "05", "status": "Y"},
        },
        "authentication": {"method": "push", "sca": "performed"},
        "merchant": {"id": "mer-4711", "name": "Café Lumière", "mcc": "5812", "country": "FR", "city": "Paris"},
        "device": {"id": "dev-77", "ip": "203.0.113.7", "os": "iOS 26", "language": "de-DE", "flags": []},
        "location": {"lat": 48.8566, "lon": 2.3522, "country": "FR", "source": "ip"},
        "metadata": {"basket": "3 items"},
    }
