"""The canonical transaction as structs: fields, limits, and the card-number guard over all of them.

Two ways lead through here. A good body takes the *fast* one: msgspec decodes and checks it in C, the canonical JSON
that it encodes again serves at once for the text rules, the search for doubled keys, the card-number guard, the stored
document and the body hash. Whatever looks odd takes the *thorough* one (`transactions/reading.py`): every fault is
gathered with its JSON pointer. Both give the same payment for the same body.

Messages never contain a value that was sent: it may be a card number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from transactions import codes, pan
from transactions.conditions import broken
from transactions.problems import FieldError, Problem, invalid
from transactions.reading import Metadata, Part, built, child, doubles_keys, is_untidy, members, parsed, tidied

MOST_BYTES = 32 * 1024
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
        return body_hash(self.canonical)

    @property
    def means(self) -> str:
        """The instrument that was sent, else the one that `card` or `account` imply."""
        if self.instrument:
            return self.instrument
        return "card" if self.card else "account" if self.account else "other"

    def document(self) -> dict[str, Any]:
        """The canonical form as Python objects."""
        return msgspec.json.decode(self.canonical)


def body_hash(canonical: bytes) -> bytes:
    """The hash of a payment's canonical form, 16 bytes."""
    return blake2b(canonical, digest_size=16).digest()


P = TypeVar("P", bound=Part)

_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Payment)
# Of a body: its payment if msgspec takes it, of payments: their canonical forms, each with a line break. For batches,
# which look at what neither of them checks at once (transactions/bulk.py).
decode_quickly = _decoder.decode
encode_lines = _encoder.encode_lines

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
    if payment is None or doubles_keys(body, payment.canonical) or is_untidy(payment.canonical):
        return _thoroughly(parsed(body), exempt, now, backlog)
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
    if payment is None or is_untidy(payment.canonical):
        return _thoroughly(document, exempt, now, backlog)
    return _passed(payment, exempt, now, backlog)


def read_part(kind: type[P], body: bytes) -> tuple[P | None, list[FieldError]]:
    """Another object of the API, thoroughly read and guarded, with all its faults; complete only if there are none."""
    if len(body) > MOST_BYTES:
        raise Problem("body-too-large", f"A body has at most {MOST_BYTES} bytes.")
    return _part(kind, parsed(body))


def part_from_document(kind: type[P], document: dict[str, Any]) -> tuple[P | None, list[FieldError]]:
    """Another object of the API out of a dict, with all its faults; complete only if there are none."""
    try:
        part = msgspec.convert(document, kind)
    except msgspec.ValidationError:
        return _part(kind, document)
    text = _encoder.encode(part)
    return _part(kind, document) if is_untidy(text) or pan.may_hold_card_number(text) else (part, [])


def _part(kind: type[P], document: Any) -> tuple[P | None, list[FieldError]]:
    errors: list[FieldError] = []
    tidy = tidied(document, "", 1, errors)
    part = built(kind, tidy, "", errors)
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
    errors = list(broken(payment, now, backlog))
    if errors or pan.may_hold_card_number(payment.canonical) or _has_secret_key(payment):
        errors += _guarded(payment.document(), exempt, {error.pointer for error in errors})
    if errors:
        raise invalid(errors)
    return payment


def _thoroughly(document: Any, exempt: Collection[str], now: datetime, backlog: bool) -> Payment:
    """The payment of a parsed body, or a Problem with all its faults."""
    errors: list[FieldError] = []
    tidy = tidied(document, "", 1, errors)
    payment = built(Payment, tidy, "", errors)
    if payment is not None:
        known = {error.pointer for error in errors}
        errors += (error for error in broken(payment, now, backlog) if error.pointer not in known)
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
            yield from _leaves(one, child(pointer, name), name)
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
