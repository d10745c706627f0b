"""The kernel: profiles and events in the lane's order → feature rows, and the profiles moved on.

One implementation for live judging, both replays, training and back-tests. A payment's row is emitted before the
payment enters the profiles. What enters:

* a payment that is judged (stage authorisation, the default) counts once, as an attempt; it adds to sums, means and
  maxima only if it spends;
* refunds, reversals and credits are money coming back: attempts, not spending;
* a clearing or an advice of a payment that is known here (`original`) counts nothing again. One whose authorisation was
  never sent counts once, like a payment that was judged, but is only recorded: its row is NaN;
* a reversal (stage or type) of a payment that is known here takes its amount, and the first time its count, out of the
  steps that still hold it, at the time of the original; never below zero, and it never moves "last", first-seen times,
  pairs or the clean history. A largest amount is forgotten with the last payment of its day. A reversal of a payment
  that is not known changes nothing. Reversals are only recorded;
* a declined payment is an attempt, not spending. Only facts say so: strong authentication failed (`sca` failed), or the
  issuer rejected the payment in 3-D Secure (`three_ds` R). Our own outcome is no fact and never enters a profile (what
  we judge would then judge itself, and no replay could repeat it), so a payment that is declined on our word counts
  as asked for, until the bank reverses it;
* a payment is suspicious if its amount stands out of the customer's clean history, or if the customer would have had to
  travel faster than 1,000 km/h, over 100 km and more. It is counted at customer, merchant and terminal on its own
  day, until a label says what it was;
* a label moves risk when it arrives, by (old → new), into the day of its `known_at`: customer, account, card, device,
  IP, counterparty, merchant, terminal, MCC and lane. A fraud that its own odd amount explains does not count against
  merchant, terminal and MCC. Known frauds leave the customer's clean history;
* a late payment (older than the customer's last one) goes into its own step of each window where that is still held,
  never moves "last", and is flagged; its windows end at the newest step that the profile has seen.

`original` is what intake knew when the message came: what it names must have been kept before it, or stand in the
same batch, and is followed to the first payment of the chain.

Nothing but facts enters: no score, outcome, policy or rate of today. Arithmetic runs in one order, in float64 over
integer sums, without fast-math, so that rows are the same bits however the stream is cut. Whether rows are emitted
changes nothing in the profiles.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from scoring import catalogue
from scoring import profiles as profiles_module
from scoring.catalogue import BEGINS, GROUPS, N_FEATURES
from scoring.catalogue import FEATURES as FEATURES
from scoring.catalogue import NAMES as NAMES
from scoring.catalogue import Feature as Feature
from scoring.profiles import (
    ACCOUNT,
    BLOCK,
    CARD,
    CARDS,
    CLEAN_COUNT,
    CLEAN_SINCE,
    CLEAN_SQUARE,
    CLEAN_SUM,
    COUNTERPARTY,
    CUSTOMER,
    CUSTOMERS,
    D1,
    D7,
    D30,
    DAY_SHIFT,
    DAY_STEPS,
    DAYS,
    DEVICE,
    FIRST,
    FRAUD,
    FRAUDS,
    HOURS,
    IP,
    K_END,
    K_FIRST,
    K_HOT,
    K_LABELS,
    K_SUSPECTS,
    K_VELOCITY,
    K_WIDTH,
    KEPT_BITS,
    KEY,
    KIND_BITS,
    KINDS,
    LABEL_ROW,
    LABELS,
    LANE,
    LAST,
    LAST_FRAUD,
    LAT,
    LAYOUT,
    LEGITIMATE,
    LON,
    MARKED,
    MCC,
    MERCHANT,
    MINUTES,
    N_COUNTRIES,
    N_DEVICES,
    N_MERCHANTS,
    NEVER,
    NIGHT,
    ODD_BIT,
    PAIRS,
    PAYMENTS,
    PEAKS,
    PLACE_AT,
    R_HEAD,
    R_HELD,
    R_RING,
    R_SLOTS,
    R_WIDTH,
    R_WINDOWS,
    R_WORDS,
    RANK_SHIFT,
    RECORD_COLUMNS,
    RECORDS,
    REVERSED_BIT,
    RING_COLUMNS,
    RINGS,
    RUN_LAST,
    RUN_LENGTH,
    RUN_START,
    SCRATCH,
    SETS,
    STEPS_HELD,
    SUSPECT_BIT,
    SUSPECTS,
    TENS,
    TERMINAL,
    USED,
    WEEK,
    WEEK_STEPS,
    Profiles,
    further,
    home_of,
    place_of,
    pointer,
    slot_of,
    total,
    touch,
    touch_all,
)
from transactions.codes import DEVICE_FLAGS, DIRECTION, ENTITY, SCA, STAGE, THREE_DS, TYPE
from transactions.facts import DAY, FACTS, HOUR, MINUTE, SECOND
from transactions.models import ABSENT, ABSENT_DAY

KERNEL_VERSION = 2

# An event: a payment as facts, and how it enters. `kind` is LOG_KIND less one; `old`, `new`, `known_at` are for labels.
EVENT = np.dtype([*((name, FACTS[name]) for name in FACTS.names or ()), ("kind", "u1"), ("old", "i1"), ("new", "i1"),
                  ("known_at", "i8"), ("seq", "i8")])  # fmt: skip
JUDGED, PROFILED, LABEL, PASSED = 0, 1, 2, 3  # PASSED: decided by the fallback, never entered the profiles

LINK = np.dtype(
    [
        ("transaction_id", "i8"),
        ("left_kind", "i2"),
        ("left_key", "i8"),
        ("right_kind", "i2"),
        ("right_key", "i8"),
        ("seen_at", "i8"),
    ]
)


class Advanced(NamedTuple):
    """`matrix` (n, N_FEATURES) float32, NaN rows where not judged; `links` dtype LINK, pairs that are new."""

    matrix: np.ndarray
    links: np.ndarray


# --- constants of the kernel (frozen when it is compiled) -------------------------------------------------------------

AT_CUSTOMER, AT_CARD, AT_ACCOUNT, AT_DEVICE, AT_IP = (
    BEGINS[k] for k in ("customer", "card", "account", "device", "ip")
)
AT_MERCHANT, AT_TERMINAL, AT_COUNTERPARTY, AT_MCC = (BEGINS[k] for k in ("merchant", "terminal", "counterparty", "mcc"))
NAN = np.float32(np.nan)
AUTHORISATION, REVERSAL_STAGE = STAGE.code("authorisation"), STAGE.code("reversal")
CREDIT = DIRECTION.code("credit")
REFUND, REVERSAL = TYPE.code("refund"), TYPE.code("reversal")
SCA_FAILED, REJECTED = SCA.code("failed"), THREE_DS.code("R")
TAMPERED = DEVICE_FLAGS["emulator"] | DEVICE_FLAGS["rooted"]
REMOTE = DEVICE_FLAGS["remote_access"]
HIDDEN = DEVICE_FLAGS["proxy"] | DEVICE_FLAGS["vpn"] | DEVICE_FLAGS["tor"]
YEAR = 31_556_952 * SECOND
EARTH_KM = 6371.0
DEGREE_KM = 111.2  # at most, along a meridian

RUN_GAP = 14 * DAY  # frauds further apart belong to different runs
SMOOTHING = 4.0  # payments that the lane's own share counts for
ODD_DEVIATIONS, ODD_DEVIATIONS_LANE = 3.5, 4.0  # from where a fraud's amount explains it
ODD_LEAST, ODD_LEAST_LANE = 5, 200  # clean payments needed to say so
FASTEST_KMH, FAR_KM = 1000.0, 100.0  # travel beyond both is suspicious

# Words of the totals that are read below: of customers, cards, accounts, shared things (devices and IPs have one
# layout), places (merchants and terminals too), counterparties.
C_10M, C_1H, C_24H = (total(CUSTOMER, ring) for ring in (MINUTES, TENS, HOURS))
C_7D, C_30D = total(CUSTOMER, DAYS, 0), total(CUSTOMER, DAYS, 1)
CARD_10M, CARD_1H, CARD_24H, CARD_7D = (total(CARD, ring) for ring in (MINUTES, TENS, HOURS, WEEK))
ACCOUNT_24H, ACCOUNT_7D, ACCOUNT_30D = total(ACCOUNT, HOURS), total(ACCOUNT, DAYS, 0), total(ACCOUNT, DAYS, 1)
SHARED_1H, SHARED_24H = total(DEVICE, TENS), total(DEVICE, HOURS)
PLACE_1H, PLACE_24H, PLACE_DAYS = (total(MERCHANT, ring) for ring in (TENS, HOURS, DAYS))
PLACE_LABELS, PLACE_SUSPECTS = total(MERCHANT, LABELS), total(MERCHANT, SUSPECTS)
PAYEE_1H, PAYEE_24H, PAYEE_30D = (total(COUNTERPARTY, ring) for ring in (TENS, HOURS, DAYS))
MCC_30D, MCC_FRAUDS = total(MCC, DAYS), total(MCC, LABELS)
C_SUSPECTS = total(CUSTOMER, SUSPECTS)
C_FRAUDS, CARD_FRAUDS, SHARED_FRAUDS, PAYEE_FRAUDS = (
    total(kind, LABELS) for kind in (CUSTOMER, CARD, DEVICE, COUNTERPARTY)
)
PLACE_FRAUDS = total(MERCHANT, LABELS, D30)
C_DAYS = int(RINGS[LAYOUT.ring[CUSTOMER, DAYS], R_HEAD])
HELD_MINUTES, HELD_TENS, HELD_HOURS, HELD_WEEK, HELD_DAYS = STEPS_HELD[:5]

# Pairs of a payment: bit in the mask of new ones, and the kinds. The first LINKED are kept as entity links.
PAIR_KINDS = (
    (CUSTOMER, CARD),
    (CUSTOMER, ACCOUNT),
    (CUSTOMER, DEVICE),
    (CUSTOMER, IP),
    (CUSTOMER, COUNTERPARTY),
    (CARD, DEVICE),
    (CARD, IP),
    (CUSTOMER, MERCHANT),
)
LINKED, N_PAIRS = 7, len(PAIR_KINDS)

# What becomes of an event: nothing, it enters the profiles, it takes a payment back out, or it is a label.
NOTHING, ENTERS, TAKES_BACK, LABELS_ONE = range(4)
# Words of the scratch of each event in a block: what becomes of it; mask of its new pairs; its keys, the records of
# these, its pairs' keys, when each was first seen together; and for each ring its step and the place of that.
S_ACT, S_MASK, S_KEYS, S_ROWS, S_PAIRS, S_TOGETHER, S_STEPS, S_PLACES = 0, 1, 2, 12, 22, 30, 38, 45


def _stamp() -> int:
    """A number that changes with the sources of layout and kernel: no stale compilation is ever loaded."""
    sources = (Path(catalogue.__file__), Path(profiles_module.__file__), Path(__file__))
    digest = blake2b(b"".join(path.read_bytes() for path in sources), digest_size=7)
    return int.from_bytes(digest.digest(), "big")


# --- compiling --------------------------------------------------------------------------------------------------------

# A function of the loop below: never called from Python, so it needs no wrapper (half the time to compile).
OPTIONS: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "error_model": "numpy"}
part: Any = njit(**OPTIONS)


def _uncounted(typing_context, array):
    """The same array without its reference count, which would move atomically at every call; the caller keeps it."""

    def build(context, builder, signature, arguments):
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        view.parent = cgutils.get_null_value(view.parent.type)
        return view._getvalue()

    return array(array), build


_bare: Any = intrinsic(_uncounted)


def _fetched(typing_context, words, place):
    """Ask for the cache line of a word, to be there when it is worked on. Changes nothing."""

    def build(context, builder, signature, arguments):
        line = builder.gep(arguments[0], [arguments[1]])
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [line.type, number, number, number])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(prefetch, [line, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(words, types.int64), build


def _lowest_bit(typing_context, word):
    """How many zeros stand below the lowest bit of a word that is not 0."""

    def build(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), build


_fetch: Any = intrinsic(_fetched)
_lowest: Any = intrinsic(_lowest_bit)


# --- windows ----------------------------------------------------------------------------------------------------------

_MASK = 2**32 - 1


@part
def _set_clock(s, at):
    """The step of each ring in which `at` lies, and its place in the ring."""
    minute = at // MINUTE
    day = at // DAY
    steps, places = further(s, S_STEPS), further(s, S_PLACES)
    steps[MINUTES], places[MINUTES] = minute, minute % HELD_MINUTES
    steps[TENS], places[TENS] = minute // 10, minute // 10 % HELD_TENS
    steps[HOURS], places[HOURS] = minute // 60, minute // 60 % HELD_HOURS
    steps[WEEK], places[WEEK] = day, day % HELD_WEEK
    steps[DAYS], places[DAYS] = day, day % HELD_DAYS
    steps[LABELS], places[LABELS] = day, places[DAYS]
    steps[SUSPECTS], places[SUSPECTS] = day, places[WEEK]


@part
def _ring(r):
    """The columns of a row of RINGS."""
    return further(pointer(RINGS), r * RING_COLUMNS)


@part
def _record(kind):
    """The columns of a row of RECORDS."""
    return further(pointer(RECORDS), kind * RECORD_COLUMNS)


@part
def _roll(m, row, ring, step, place):
    """Bring a ring forward to `step`, which stands at `place`; what falls out of a window leaves its totals."""
    at = row + ring[R_HEAD]
    word = m[at]
    mask = word & _MASK
    moved = step - (word >> 32)
    if mask == 0 or moved <= 0:
        return  # what holds nothing is moved when something comes
    words, windows, held = ring[R_WORDS], ring[R_WINDOWS], ring[R_HELD]
    totals = further(m, at + 1)
    if moved >= held:
        for i in range(windows * words):
            totals[i] = 0
        m[at] = step << 32
        return
    slots, newest = further(m, row + ring[R_SLOTS]), place - moved + held
    for w in range(windows):
        inside = (1 << ring[R_WIDTH + w]) - 1
        leaving = mask & inside & ~(inside >> moved)
        while leaving != 0:
            back = newest - _lowest(leaving)
            leaving &= leaving - 1
            slot = (back - held if back >= held else back if back >= 0 else back + held) * words
            totals[0] -= slots[slot]
            if words > 1:
                totals[1] -= slots[slot + 1]
        totals = further(totals, words)
    m[at] = step << 32 | ((mask << moved) & ((1 << held) - 1))


@part
def _add(m, row, ring, step, place, count, amount):
    """Add to a ring that was brought to `step`, if that is still held; whether the step held nothing before."""
    at = row + ring[R_HEAD]
    word = m[at]
    mask, head = word & _MASK, word >> 32
    if mask == 0:
        head = max(head, step)
    age = head - step
    if age >= ring[R_HELD]:
        return False
    words, bit = ring[R_WORDS], 1 << age
    slot = further(m, row + ring[R_SLOTS] + place * words)
    fresh = mask & bit == 0
    m[at] = head << 32 | mask | bit
    totals, widths = further(m, at + 1), further(ring, R_WIDTH)
    if words == 1:
        slot[0] = count if fresh else slot[0] + count
        for w in range(ring[R_WINDOWS]):
            totals[w] += count if age < widths[w] else 0
        return fresh
    slot[0] = count if fresh else slot[0] + count
    slot[1] = amount if fresh else slot[1] + amount
    for w in range(ring[R_WINDOWS]):
        if age < widths[w]:
            totals[2 * w] += count
            totals[2 * w + 1] += amount
    return fresh


@part
def _take(m, row, ring, step, place, count, amount):
    """Take out of a ring's step what it still holds of `count` and `amount`; whether any payment is left there."""
    at = row + ring[R_HEAD]
    mask, age = m[at] & _MASK, (m[at] >> 32) - step
    if age < 0 or age >= ring[R_HELD] or mask & (1 << age) == 0:
        return True
    words = ring[R_WORDS]
    slot = further(m, row + ring[R_SLOTS] + place * words)
    count = min(count, slot[0])
    slot[0] -= count
    if words > 1:
        amount = min(amount, slot[1])
        slot[1] -= amount
    for w in range(ring[R_WINDOWS]):
        if age < ring[R_WIDTH + w]:
            m[at + 1 + w * words] -= count
            if words > 1:
                m[at + 2 + w * words] -= amount
    return slot[0] > 0


@part
def _roll_all(m, row, kind, s):
    """Bring every ring of an entity to the payment's moment."""
    for r in range(_record(kind)[K_FIRST], _record(kind)[K_END]):
        ring = _ring(r)
        _roll(m, row, ring, s[S_STEPS + ring[R_RING]], s[S_PLACES + ring[R_RING]])


# --- finding and opening profiles -------------------------------------------------------------------------------------


@part
def _open(index, last, m, used, touched, kind, key):
    """The word at which the record of an entity begins, opened if it is new."""
    place = place_of(index, last, key, kind)
    if index[place + 1] != 0:
        return index[place + 1] >> KIND_BITS
    touch(touched, place)
    row = used[USED]
    used[USED] += _record(kind)[K_WIDTH]
    used[kind] += 1
    index[place] = key
    index[place + 1] = row << KIND_BITS | kind
    m[row + KEY] = key
    m[row + LAST] = NEVER
    m[row + CLEAN_SINCE] = NEVER
    m[row + LAST_FRAUD] = NEVER
    if kind == CUSTOMER:
        m[row + PLACE_AT] = NEVER
    return row


@part
def _find(index, last, kind, key):
    """The word at which the record of an entity begins, or -1."""
    place = place_of(index, last, key, kind)
    return index[place + 1] >> KIND_BITS if index[place + 1] != 0 else -1


@part
def _pair_key(left, right, code):
    """The key of a pair of entities; 0 if one is missing."""
    if left == 0 or right == 0:
        return np.int64(0)
    mixed = np.uint64(left) + np.uint64(code + 1) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) + np.uint64(right)
    mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0x94D049BB133111EB)
    key = np.int64(mixed ^ (mixed >> np.uint64(29)))
    return key if key != 0 else np.int64(1)


@part
def _pair(pairs, last, used, touched, key, at):
    """When the two of a pair were first seen together; NEVER and noted as `at` if they were not."""
    slot = slot_of(pairs, last, 2, key)
    if pairs[slot] == key:
        return pairs[slot + 1]
    touch(touched, slot)
    pairs[slot] = key
    pairs[slot + 1] = at
    used[PAIRS] += 1
    return np.int64(NEVER)


@part
def _mark(marks, last, used, touched, payment):
    """Where the mark of a payment stands, to be written to; made if there is none yet."""
    slot = slot_of(marks, last, 4, payment)
    touch(touched, slot)
    if marks[slot] == 0:
        marks[slot] = payment
        used[MARKED] += 1
    return slot


@part
def _brief(key):
    """32 bits of a key, for the small sets; 0 only for 0."""
    if key == 0:
        return np.int32(0)
    brief = np.int32(key ^ (key >> 32))
    return brief if brief != 0 else np.int32(1)


@part
def _recent(keys, n, since):
    """How many of the small set (n keys, then their times in seconds) were seen after `since`."""
    found = 0
    for i in range(n):
        found += (keys[i] != 0) & (keys[n + i] > since)
    return found


@part
def _has(keys, n, key):
    found = False
    for i in range(n):
        found |= keys[i] == key
    return found


@part
def _remember(keys, n, key, seconds):
    """Note `key` as seen; if the set is full, what was seen longest ago goes."""
    place, oldest = 0, np.int64(2**62)
    for i in range(n):
        if keys[i] == key:
            keys[n + i] = max(keys[n + i], seconds)
            return
        if keys[i] == 0:
            place = i
            break
        if keys[n + i] < oldest:
            place, oldest = i, np.int64(keys[n + i])
    keys[place] = key
    keys[n + place] = seconds


# --- feature rows -----------------------------------------------------------------------------------------------------


@part
def _days_since(at, then):
    return max(at - then, 0) / DAY


@part
def _code(value):
    return NAN if value == 0 else np.float32(value)


@part
def _over(value, base):
    return value / base if base > 0 else math.nan


@part
def _country(e):
    return e.location_country if e.location_country != 0 else e.merchant_country


@part
def _home(e):
    if e.customer_country != 0:
        return e.customer_country
    return e.issuer_country if e.issuer_country != 0 else e.account_country


@part
def _is_night(at):
    return (at % DAY) < 6 * HOUR


@part
def _of_payment(e, at, late, x):
    amount = float(e.amount_base)
    day = at // DAY
    x[0] = amount
    x[1] = math.log1p(amount)
    if e.balance_before != ABSENT and e.balance_before > 0:
        x[2] = amount / e.balance_before
    x[3] = (at % DAY) / HOUR
    x[4] = (day + 5) % 7  # 2000-01-01 was a Saturday
    x[5] = _is_night(at)
    x[6], x[7], x[8], x[9] = _code(e.channel), _code(e.type), _code(e.instrument), _code(e.entry_mode)
    x[10], x[11], x[12] = _code(e.authentication), _code(e.sca), _code(e.three_ds)
    x[13], x[14] = _code(e.cvv_result), _code(e.vop)
    if e.mcc >= 0:
        x[15] = e.mcc
    x[16] = (e.device_flags & TAMPERED) != 0
    x[17] = (e.device_flags & REMOTE) != 0
    x[18] = (e.device_flags & HIDDEN) != 0
    if e.birth_year != 0:
        x[19] = 2000 + at // YEAR - e.birth_year
    if e.customer_since != ABSENT_DAY:
        x[20] = max(day - e.customer_since, 0)
    if e.account_opened != ABSENT_DAY:
        x[21] = max(day - e.account_opened, 0)
    if e.session_age >= 0:
        x[22] = e.session_age
    country, home = _country(e), _home(e)
    if country != 0 and home != 0:
        x[23] = country != home
    x[24] = late


@part
def _known(m, row, frauds, at, x, j):
    """Known frauds of an entity, whose total stands at word `frauds`: two columns from `j`."""
    x[j] = m[row + frauds]
    if m[row + FRAUDS] > 0:
        x[j + 1] = _days_since(at, m[row + LAST_FRAUD])


@part
def _seen_days(m, row, at):
    return _days_since(at, m[row + FIRST]) if m[row + PAYMENTS] > 0 else 0.0


@part
def _customer_spending(m, f, row, amount, x, j):
    """Counts, sums, and the amount against the customer's own history: 19 columns from `j`."""
    x[j], x[j + 5] = m[row + C_10M], m[row + C_10M + 1]
    x[j + 1], x[j + 6] = m[row + C_1H], m[row + C_1H + 1]
    day, week, month = m[row + C_24H], m[row + C_7D], m[row + C_30D]
    day_sum, week_sum, month_sum = m[row + C_24H + 1], m[row + C_7D + 1], m[row + C_30D + 1]
    x[j + 2], x[j + 3], x[j + 4] = day, week, month
    x[j + 7], x[j + 8], x[j + 9] = day_sum, week_sum, month_sum
    x[j + 10] = _over(float(day_sum), float(day))
    x[j + 11] = _over(float(week_sum), float(week))
    x[j + 12] = _over(float(month_sum), float(month))
    if month_sum > 0:
        _largest(m, row, amount, x, j + 13)
    mean, deviation = _clean(m, f, row)
    x[j + 17] = _over(amount, mean)
    if m[row + CLEAN_COUNT] >= 3:
        x[j + 18] = (amount - mean) / (deviation + 0.01 * mean + 1.0)


@part
def _largest(m, row, amount, x, j):
    """Largest amounts of 1, 7 and 30 days, and the amount over the last: 4 columns from `j`."""
    word = m[row + C_DAYS]
    mask, newest = word & _MASK, (word >> 32) % HELD_DAYS
    day, week, month = 0, 0, 0
    while mask != 0:
        age = _lowest(mask)
        mask &= mask - 1
        back = newest - age
        peak = m[row + PEAKS + (back if back >= 0 else back + HELD_DAYS)]
        month = max(month, peak)
        week = max(week, peak if age < WEEK_STEPS else 0)
        day = max(day, peak if age < DAY_STEPS else 0)
    if day > 0:
        x[j] = day
    if week > 0:
        x[j + 1] = week
    if month > 0:
        x[j + 2] = month
        x[j + 3] = amount / month


@part
def _clean(m, f, row):
    """Mean and standard deviation of the clean history; NaN where there is none."""
    count = m[row + CLEAN_COUNT]
    if count <= 0:
        return math.nan, math.nan
    mean = m[row + CLEAN_SUM] / count
    return mean, math.sqrt(max(f[row + CLEAN_SQUARE] / count - mean * mean, 0.0))


@part
def _distance(lat, lon, lat2, lon2):
    """Great-circle distance in km."""
    a, b = math.radians(lat), math.radians(lat2)
    s = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(math.radians(lon2 - lon) / 2) ** 2
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(s)))


@part
def _customer_habits(e, m, h, f, row, at, late, x, j):
    """Pace, place and variety: 12 columns from `j`."""
    seen = _seen_days(m, row, at)
    x[j] = m[row + C_30D] / min(max(seen, 1.0), 30.0)
    if m[row + PAYMENTS] > 0 and not late:
        x[j + 1] = (at - m[row + LAST]) / SECOND
    x[j + 2] = seen
    if m[row + PLACE_AT] != NEVER and not math.isnan(e.lat) and not math.isnan(e.lon):
        km = _distance(f[row + LAT], f[row + LON], np.float64(e.lat), np.float64(e.lon))
        x[j + 3] = km
        if at >= m[row + PLACE_AT]:
            x[j + 4] = km * HOUR / max(at - m[row + PLACE_AT], MINUTE)
    merchants, second = further(h, 2 * (row + SETS)), at // SECOND
    x[j + 5] = _recent(merchants, N_MERCHANTS, second - 3_600)
    x[j + 6] = _recent(merchants, N_MERCHANTS, second - 86_400)
    x[j + 7] = _recent(merchants, N_MERCHANTS, second - 7 * 86_400)
    countries = further(merchants, 2 * N_MERCHANTS)
    x[j + 8] = _recent(countries, N_COUNTRIES, second - 86_400)
    x[j + 9] = _recent(countries, N_COUNTRIES, second - 30 * 86_400)
    devices = further(countries, 2 * N_COUNTRIES)
    x[j + 10] = _recent(devices, N_DEVICES, second - 86_400)
    x[j + 11] = _recent(devices, N_DEVICES, second - 30 * 86_400)


@part
def _first_time(together, at, x, j):
    """New, and days since first seen together."""
    x[j] = together == NEVER
    x[j + 1] = 0.0 if together == NEVER else _days_since(at, together)


@part
def _customer_firsts(e, m, h, row, at, together, x, j):
    """What is new for the customer, what was odd, and known frauds: 13 columns from `j`; `together` by PAIR_KINDS."""
    if e.device != 0:
        _first_time(together[2], at, x, j)
    if e.merchant != 0 or e.terminal != 0:
        _first_time(together[7], at, x, j + 2)
    country = np.int32(_country(e))
    if country != 0:
        x[j + 4] = not _has(further(h, 2 * (row + SETS + N_MERCHANTS)), N_COUNTRIES, country)
    if e.counterparty != 0:
        _first_time(together[4], at, x, j + 5)
    if m[row + PAYMENTS] > 0:
        x[j + 7] = m[row + NIGHT] / m[row + PAYMENTS]
    x[j + 8] = m[row + C_SUSPECTS]
    _known(m, row, C_FRAUDS, at, x, j + 9)
    x[j + 11] = m[row + FRAUDS]
    if m[row + RUN_LENGTH] > 0:
        x[j + 12] = _days_since(at, m[row + RUN_START])


@part
def _of_card(m, row, at, x, j):
    x[j], x[j + 1], x[j + 2], x[j + 3] = m[row + CARD_10M], m[row + CARD_1H], m[row + CARD_24H], m[row + CARD_7D]
    x[j + 4] = m[row + CARD_24H + 1]
    if m[row + PAYMENTS] > 0 and at >= m[row + LAST]:
        x[j + 5] = (at - m[row + LAST]) / SECOND
    x[j + 6] = _seen_days(m, row, at)
    _known(m, row, CARD_FRAUDS, at, x, j + 7)


@part
def _of_account(m, row, at, x, j):
    x[j], x[j + 1] = m[row + ACCOUNT_24H], m[row + ACCOUNT_7D]
    x[j + 2], x[j + 3] = m[row + ACCOUNT_24H + 1], m[row + ACCOUNT_30D + 1]
    x[j + 4] = _seen_days(m, row, at)


@part
def _of_shared(m, row, at, x, j):
    """Device or IP."""
    x[j], x[j + 1] = m[row + SHARED_1H], m[row + SHARED_24H]
    x[j + 2], x[j + 3] = m[row + CUSTOMERS], m[row + CARDS]
    x[j + 4] = _seen_days(m, row, at)
    _known(m, row, SHARED_FRAUDS, at, x, j + 5)


@part
def _share(frauds, others, usual):
    return (frauds + SMOOTHING * usual) / (max(others, frauds) + SMOOTHING)


@part
def _of_place(m, row, at, amount, usual, x, j):
    """Merchant or terminal; `usual` is the lane's share of frauds."""
    payments = m[row + PLACE_DAYS + 2 * D30]
    x[j], x[j + 1], x[j + 2] = m[row + PLACE_1H], m[row + PLACE_24H], payments
    if payments > 0:
        x[j + 3] = _over(amount * payments, float(m[row + PLACE_DAYS + 2 * D30 + 1]))
    x[j + 4] = _seen_days(m, row, at)
    for window in range(D1, D30 + 1):
        x[j + 5 + window] = _share(m[row + PLACE_LABELS + 2 * window], m[row + PLACE_DAYS + 2 * window], usual)
    for i, window in enumerate((D7, D30)):
        frauds, genuine = m[row + PLACE_LABELS + 2 * window], m[row + PLACE_LABELS + 2 * window + 1]
        x[j + 9 + i] = _share(frauds, frauds + genuine, usual)
    x[j + 11] = m[row + PLACE_SUSPECTS]
    _known(m, row, PLACE_FRAUDS, at, x, j + 12)
    x[j + 14] = m[row + RUN_LENGTH]
    if m[row + RUN_LENGTH] > 0:
        x[j + 15] = _days_since(at, m[row + RUN_START])


@part
def _of_counterparty(m, row, at, x, j):
    x[j], x[j + 1], x[j + 2] = m[row + PAYEE_1H], m[row + PAYEE_24H], m[row + PAYEE_30D]
    x[j + 3] = m[row + PAYEE_24H + 1]
    x[j + 4] = m[row + CUSTOMERS]
    x[j + 5] = _seen_days(m, row, at)
    _known(m, row, PAYEE_FRAUDS, at, x, j + 6)


@part
def _emit(e, m, h, f, rows, together, at, late, x):
    """The whole feature row of one payment, before it enters the profiles."""
    for i in range(N_FEATURES):
        x[i] = NAN
    _of_payment(e, at, late, x)
    amount = float(e.amount_base)
    usual = (m[rows[LANE] + FRAUDS] + 1.0) / (m[rows[LANE] + PAYMENTS] + 200.0)
    if rows[CUSTOMER] >= 0:
        row = rows[CUSTOMER]
        _customer_spending(m, f, row, amount, x, AT_CUSTOMER)
        _customer_habits(e, m, h, f, row, at, late, x, AT_CUSTOMER + 19)
        _customer_firsts(e, m, h, row, at, together, x, AT_CUSTOMER + 31)
    if rows[CARD] >= 0:
        _of_card(m, rows[CARD], at, x, AT_CARD)
    if rows[ACCOUNT] >= 0:
        _of_account(m, rows[ACCOUNT], at, x, AT_ACCOUNT)
    if rows[DEVICE] >= 0:
        _of_shared(m, rows[DEVICE], at, x, AT_DEVICE)
    if rows[IP] >= 0:
        _of_shared(m, rows[IP], at, x, AT_IP)
    if rows[MERCHANT] >= 0:
        _of_place(m, rows[MERCHANT], at, amount, usual, x, AT_MERCHANT)
    if rows[TERMINAL] >= 0:
        _of_place(m, rows[TERMINAL], at, amount, usual, x, AT_TERMINAL)
    if rows[COUNTERPARTY] >= 0:
        _of_counterparty(m, rows[COUNTERPARTY], at, x, AT_COUNTERPARTY)
    if rows[MCC] >= 0:
        x[AT_MCC] = _share(m[rows[MCC] + MCC_FRAUDS], m[rows[MCC] + MCC_30D], usual)


# --- moving the profiles on -------------------------------------------------------------------------------------------


@part
def _spends(e):
    declined = e.sca == SCA_FAILED or e.three_ds == REJECTED
    return e.direction != CREDIT and e.type != REFUND and e.type != REVERSAL and not declined


@part
def _takes_back(e):
    return e.stage == REVERSAL_STAGE or e.type == REVERSAL


@part
def _enters(e):
    """Whether a payment enters profiles when it comes: an authorisation, or what was never authorised here."""
    return not _takes_back(e) and (e.stage == AUTHORISATION or e.stage == 0 or e.original == 0)


@part
def _act(e):
    """What becomes of an event."""
    if e.kind == JUDGED:
        return ENTERS
    if e.kind == PROFILED:
        if _enters(e):
            return ENTERS
        return TAKES_BACK if _takes_back(e) and e.original != 0 else NOTHING
    return LABELS_ONE if e.kind == LABEL and e.old != e.new else NOTHING


@part
def _keys(e, keys):
    """The key of each kind of entity; 0 = none."""
    keys[0], keys[1], keys[2], keys[3] = e.customer, e.account, e.card, e.device
    keys[4], keys[5], keys[6], keys[7] = e.ip, e.merchant, e.terminal, e.counterparty
    keys[8] = e.mcc + 1 if e.mcc >= 0 else 0
    keys[9] = 1


@part
def _enter(m, row, kind, s, at, spent):
    """One payment into one entity; whether it is the first one of a customer's day."""
    record, fresh = _record(kind), False
    for r in range(record[K_FIRST], record[K_END]):
        ring = _ring(r)
        step, place = s[S_STEPS + ring[R_RING]], s[S_PLACES + ring[R_RING]]
        _roll(m, row, ring, step, place)
        if r < record[K_VELOCITY]:
            fresh = _add(m, row, ring, step, place, 1, spent)  # the last one is of days
    if m[row + PAYMENTS] == 0 or at < m[row + FIRST]:
        m[row + FIRST] = at
    m[row + PAYMENTS] += 1
    m[row + LAST] = max(m[row + LAST], at)
    return fresh


@part
def _enter_peak(m, row, s, spent, fresh):
    """The amount into the largest one of its day, if the day is still held."""
    if (m[row + C_DAYS] >> 32) - s[S_STEPS + DAYS] < HELD_DAYS:
        place = row + PEAKS + s[S_PLACES + DAYS]
        m[place] = spent if fresh else max(m[place], spent)


@part
def _enter_clean(m, f, row, spent):
    m[row + CLEAN_COUNT] += 1
    m[row + CLEAN_SUM] += spent
    f[row + CLEAN_SQUARE] += float(spent) * float(spent)


@part
def _enter_habits(e, m, h, f, row, at):
    """Place, night and the small sets of the customer."""
    m[row + NIGHT] += _is_night(at)
    if not math.isnan(e.lat) and not math.isnan(e.lon) and at >= m[row + PLACE_AT]:
        f[row + LAT], f[row + LON] = e.lat, e.lon
        m[row + PLACE_AT] = at
    merchants, second = further(h, 2 * (row + SETS)), np.int32(at // SECOND)
    shop = _brief(e.merchant if e.merchant != 0 else e.terminal)
    if shop != 0:
        _remember(merchants, N_MERCHANTS, shop, second)
    if _country(e) != 0:
        _remember(further(merchants, 2 * N_MERCHANTS), N_COUNTRIES, np.int32(_country(e)), second)
    if e.device != 0:
        _remember(further(merchants, 2 * N_MERCHANTS + 2 * N_COUNTRIES), N_DEVICES, _brief(e.device), second)


@part
def _pair_keys(keys, pairs):
    """The key of every pair of the payment, in the order of PAIR_KINDS; 0 = none."""
    customer, card, shop = keys[CUSTOMER], keys[CARD], keys[MERCHANT] if keys[MERCHANT] != 0 else keys[TERMINAL]
    pairs[0] = _pair_key(customer, card, 0)
    pairs[1] = _pair_key(customer, keys[ACCOUNT], 1)
    pairs[2] = _pair_key(customer, keys[DEVICE], 2)
    pairs[3] = _pair_key(customer, keys[IP], 3)
    pairs[4] = _pair_key(customer, keys[COUNTERPARTY], 4)
    pairs[5] = _pair_key(card, keys[DEVICE], 5)
    pairs[6] = _pair_key(card, keys[IP], 6)
    pairs[7] = _pair_key(customer, shop, 7)


@part
def _meet(pairs, last, used, touched, wanted, together, at):
    """Look every pair of the payment up, noting new ones; the mask of those."""
    mask = 0
    for i in range(N_PAIRS):
        if wanted[i] != 0:
            together[i] = _pair(pairs, last, used, touched, wanted[i], at)
            if together[i] == NEVER:
                mask |= 1 << i
    return mask


@part
def _count_sharers(m, rows, mask):
    """New pairs as counts of customers and cards seen with a device, an IP, a counterparty, a merchant."""
    if mask & 4:
        m[rows[DEVICE] + CUSTOMERS] += 1
    if mask & 8:
        m[rows[IP] + CUSTOMERS] += 1
    if mask & 16:
        m[rows[COUNTERPARTY] + CUSTOMERS] += 1
    if mask & 32:
        m[rows[DEVICE] + CARDS] += 1
    if mask & 64:
        m[rows[IP] + CARDS] += 1
    if mask & 128 and rows[MERCHANT] >= 0:
        m[rows[MERCHANT] + CUSTOMERS] += 1


@part
def _travels(e, m, f, row, at):
    """Whether the customer cannot have come here from the last place. The quick answer first: it nearly always is."""
    if m[row + PLACE_AT] == NEVER or at < m[row + PLACE_AT] or math.isnan(e.lat) or math.isnan(e.lon):
        return False
    reach = max(FASTEST_KMH * (max(at - m[row + PLACE_AT], MINUTE) / HOUR), FAR_KM)
    lat, lon = f[row + LAT], f[row + LON]
    if DEGREE_KM * (abs(e.lat - lat) + abs(e.lon - lon)) <= reach:
        return False
    return _distance(lat, lon, np.float64(e.lat), np.float64(e.lon)) > reach


@part
def _suspect(e, m, rows, sign):
    """Count a suspicious payment at its customer and places, on its own day, or take it out again."""
    day = e.occurred_at // DAY
    for kind in (CUSTOMER, MERCHANT, TERMINAL):
        if rows[kind] >= 0:
            ring = _ring(_record(kind)[K_SUSPECTS])
            if sign > 0:
                _roll(m, rows[kind], ring, day, day % HELD_WEEK)
                _add(m, rows[kind], ring, day, day % HELD_WEEK, 1, 0)
            else:
                _take(m, rows[kind], ring, day, day % HELD_WEEK, 1, 0)


@part
def _take_back(e, m, s, marks, last, used, touched):
    """A reversal takes its payment out of the steps that still hold it: the amount, and the first time the count."""
    slot = _mark(marks, last, used, touched, e.original)
    count = 0 if marks[slot + 3] & REVERSED_BIT else 1
    marks[slot + 3] |= REVERSED_BIT
    _set_clock(s, e.original_at)
    for kind in range(len(KINDS)):
        row, left = s[S_ROWS + kind], True
        if row < 0:
            continue
        for r in range(_record(kind)[K_FIRST], _record(kind)[K_VELOCITY]):
            ring = _ring(r)
            step, place = s[S_STEPS + ring[R_RING]], s[S_PLACES + ring[R_RING]]
            left = _take(m, row, ring, step, place, count, e.amount_base)
        if kind == CUSTOMER and not left:
            m[row + PEAKS + s[S_PLACES + DAYS]] = 0


# --- labels -----------------------------------------------------------------------------------------------------------


@part
def _is_odd(amount, m, f, row, least, deviations):
    """Whether the amount stands out of a clean history so far that it explains a fraud by itself."""
    if row < 0 or m[row + CLEAN_COUNT] < least or amount * m[row + CLEAN_COUNT] <= 2.0 * m[row + CLEAN_SUM]:
        return False
    mean, deviation = _clean(m, f, row)
    return amount > mean + deviations * deviation


@part
def _tally(m, row, kind, verdict, sign, day, known_at):
    """Count a label in, or out again, on its day."""
    if verdict == FRAUD:
        m[row + FRAUDS] += sign
        if sign > 0:
            m[row + LAST_FRAUD] = max(m[row + LAST_FRAUD], known_at)
    r = _record(kind)[K_LABELS]
    if r < 0 or (verdict != FRAUD and _ring(r)[R_WORDS] == 1):
        return
    fraud, place = 1 if verdict == FRAUD else 0, day % HELD_DAYS
    if sign > 0:
        _roll(m, row, _ring(r), day, place)
        _add(m, row, _ring(r), day, place, fraud, 1 - fraud)
    else:
        _take(m, row, _ring(r), day, place, fraud, 1 - fraud)


@part
def _run(m, row, verdict, sign, at, ends):
    """Move the entity's run of confirmed frauds; `ends`: a later legitimate payment ends it."""
    if verdict == LEGITIMATE:
        if ends and sign > 0 and at > m[row + CLEAN_SINCE]:
            m[row + CLEAN_SINCE] = at
            if at > m[row + RUN_LAST]:
                m[row + RUN_LENGTH] = 0
    elif sign < 0:
        if m[row + RUN_LENGTH] > 0 and m[row + RUN_START] <= at <= m[row + RUN_LAST]:
            m[row + RUN_LENGTH] -= 1
    elif at > m[row + CLEAN_SINCE]:
        if m[row + RUN_LENGTH] == 0 or at - m[row + RUN_LAST] > RUN_GAP:
            m[row + RUN_START], m[row + RUN_LAST], m[row + RUN_LENGTH] = at, at, 1
        else:
            m[row + RUN_START] = min(m[row + RUN_START], at)
            m[row + RUN_LAST] = max(m[row + RUN_LAST], at)
            m[row + RUN_LENGTH] += 1


@part
def _clean_history(e, m, f, rows, sign):
    """A payment known as fraud leaves the clean history of its customer and of the lane, or comes back."""
    if not (_enters(e) and _spends(e)):
        return
    amount = float(e.amount_base)
    for kind in (CUSTOMER, LANE):
        row = rows[kind]
        if row >= 0:
            m[row + CLEAN_COUNT] += sign
            m[row + CLEAN_SUM] += sign * e.amount_base
            f[row + CLEAN_SQUARE] += sign * amount * amount


@part
def _count_label(e, m, rows, verdict, sign, day, odd):
    for kind in range(len(KINDS)):
        row = rows[kind]
        place = kind in (MERCHANT, TERMINAL)
        if row < 0 or (odd and (place or kind == MCC)):
            continue
        _tally(m, row, kind, verdict, sign, day, e.known_at)
        _run(m, row, verdict, sign, e.occurred_at, place)


@part
def _label(e, m, f, rows, marks, last, touched):
    """Take the old effective label out where it was counted, and count the new one on the day it became known."""
    slot = slot_of(marks, last, 4, e.id)
    touch(touched, slot)
    packed = marks[slot + 3]
    if e.old == FRAUD and e.new != FRAUD:
        _clean_history(e, m, f, rows, 1)
    if e.new == FRAUD and e.old != FRAUD:
        _clean_history(e, m, f, rows, -1)
    if packed & SUSPECT_BIT and (e.old == 0 or e.new == 0):
        _suspect(e, m, rows, -1 if e.old == 0 else 1)
    if e.old != 0:
        _count_label(e, m, rows, e.old, -1, packed >> DAY_SHIFT, (packed & ODD_BIT) != 0)
    day, odd = e.known_at // DAY, False
    if e.new == FRAUD:
        amount = float(e.amount_base)
        odd = _is_odd(amount, m, f, rows[CUSTOMER], ODD_LEAST, ODD_DEVIATIONS)
        odd |= _is_odd(amount, m, f, rows[LANE], ODD_LEAST_LANE, ODD_DEVIATIONS_LANE)
    if e.new != 0:
        _count_label(e, m, rows, e.new, 1, day, odd)
    kept = packed & ((7 << RANK_SHIFT) | (KEPT_BITS & ~ODD_BIT) | 3)
    marks[slot + 3] = day << DAY_SHIFT | kept | (ODD_BIT if odd else 0)


# --- the loop ---------------------------------------------------------------------------------------------------------


@part
def _plan(e, index, pairs, marks, ends, s):
    """What becomes of an event, its keys and pairs; and ask for the lines of the tables that it will need."""
    act = _act(e)
    s[S_ACT] = act
    if act == NOTHING:
        return
    _keys(e, further(s, S_KEYS))
    for kind in range(LANE):
        if s[S_KEYS + kind] != 0:
            _fetch(index, 2 * (home_of(s[S_KEYS + kind] + kind) & ends[0]))
    if act != ENTERS:
        _fetch(marks, 4 * (home_of(e.id if act == LABELS_ONE else e.original) & ends[2]))
        return
    _set_clock(s, e.occurred_at)
    _pair_keys(further(s, S_KEYS), further(s, S_PAIRS))
    for i in range(N_PAIRS):
        if s[S_PAIRS + i] != 0:
            _fetch(pairs, 2 * (home_of(s[S_PAIRS + i]) & ends[1]))


@part
def _look_up(e, used, index, m, pairs, ends, touched, s):
    """Find or open the records of an event, note them as changed, and note its pairs; ask for the records' lines."""
    act = s[S_ACT]
    if act == NOTHING:
        return
    for kind in range(len(KINDS)):
        key, row = s[S_KEYS + kind], np.int64(-1)
        if key != 0:
            if act == ENTERS:
                row = _open(index, ends[0], m, used, touched[0], kind, key)
            else:
                row = _find(index, ends[0], kind, key)
        s[S_ROWS + kind] = row
        if row >= 0:
            touch_all(touched[1], row, _record(kind)[K_WIDTH])
        if row >= 0 and kind != LANE:
            _ask_for(m, row, _record(kind), s)
            if kind == CUSTOMER:
                _fetch(m, row + PEAKS + s[S_PLACES + DAYS])
    if act == ENTERS:
        s[S_MASK] = _meet(pairs, ends[1], used, touched[2], further(s, S_PAIRS), further(s, S_TOGETHER), e.occurred_at)


@part
def _ask_for(m, row, record, s):
    """Ask for the front of a record and the steps that a payment will touch."""
    for line in range(0, record[K_HOT], 8):
        _fetch(m, row + line)
    for r in range(record[K_FIRST], record[K_VELOCITY]):
        ring = _ring(r)
        _fetch(m, row + ring[R_SLOTS] + s[S_PLACES + ring[R_RING]] * ring[R_WORDS])


@part
def _judge(e, used, m, h, f, marks, last, touched, s, x, emits):
    """One payment: emit its row if that is wanted, and let it in."""
    at, rows = e.occurred_at, further(s, S_ROWS)
    customer = rows[CUSTOMER]
    if emits:
        for kind in range(LANE):
            if rows[kind] >= 0:
                _roll_all(m, rows[kind], kind, s)
        late = customer >= 0 and at < m[customer + LAST]
        _emit(e, m, h, f, rows, further(s, S_TOGETHER), at, late, x)
    spends = _spends(e)
    spent = e.amount_base if spends else 0
    if customer >= 0:
        odd = _is_odd(float(spent), m, f, customer, ODD_LEAST, ODD_DEVIATIONS)
        if odd or _travels(e, m, f, customer, at):
            marks[_mark(marks, last, used, touched, e.id) + 3] |= SUSPECT_BIT
            _suspect(e, m, rows, 1)
        _enter_habits(e, m, h, f, customer, at)
        if spends:
            _enter_clean(m, f, customer, spent)
    for kind in range(len(KINDS)):
        if rows[kind] >= 0:
            fresh = _enter(m, rows[kind], kind, s, at, spent)
            if kind == CUSTOMER:
                _enter_peak(m, customer, s, spent, fresh)
    if spends:
        _enter_clean(m, f, rows[LANE], spent)
    if s[S_MASK] != 0:
        _count_sharers(m, rows, s[S_MASK])


def _compile(stamp: int):
    """The compiled loop. `stamp` takes part in its cache key (a closure): any change here recompiles it."""

    @njit(cache=True, error_model="numpy")
    def walk(
        events, used, index, words, halves, floats, pairs, marks, of_index, of_words, of_pairs, of_marks, matrix, masks,
        scratch, emits,
    ):  # fmt: skip
        version = stamp  # noqa: F841  (closes over the stamp: that is what it is for)
        ends = (index.shape[0] - 1, pairs.shape[0] - 1, marks.shape[0] - 1)
        m, h, f, counts = pointer(words), pointer(halves), pointer(floats), pointer(used)
        entities, known, notes, rows = pointer(index), pointer(pairs), pointer(marks), pointer(matrix)
        board, events = pointer(scratch), _bare(events)
        touched = (pointer(of_index), pointer(of_words), pointer(of_pairs), pointer(of_marks))
        new = np.int64(0)
        for start in range(0, events.shape[0], BLOCK):
            n = min(BLOCK, events.shape[0] - start)
            for i in range(n):
                _plan(events[start + i], entities, known, notes, ends, further(board, i * SCRATCH))
            for i in range(n):
                _look_up(events[start + i], counts, entities, m, known, ends, touched, further(board, i * SCRATCH))
            for i in range(n):
                e, s = events[start + i], further(board, i * SCRATCH)
                x = further(rows, (start + i) * N_FEATURES if emits else 0)
                act, mask = s[S_ACT], np.int64(0)
                if act == ENTERS:
                    mask = s[S_MASK]
                    _judge(e, counts, m, h, f, notes, ends[2], touched[3], s, x, emits and e.kind == JUDGED)
                elif act == TAKES_BACK:
                    _take_back(e, m, s, notes, ends[2], counts, touched[3])
                elif act == LABELS_ONE:
                    _label(e, m, f, further(s, S_ROWS), notes, ends[2], touched[3])
                masks[start + i] = mask
                new |= mask
                if emits and e.kind != JUDGED:
                    for j in range(N_FEATURES):
                        x[j] = NAN
        return new

    return walk


_walk = _compile(_stamp())
CHUNK = 1_024  # events that room is made for at once
NO_LINKS = np.empty(0, LINK)


def advance(profiles: Profiles, events: np.ndarray, *, emit: bool = True) -> Advanced:
    """Walk `events` (dtype EVENT, in the lane's order) through the profiles, which move on.

    Returns the matrix (n, N_FEATURES) float32 and the pairs seen for the first time; without `emit` the matrix has no
    rows, and the profiles move on just the same. Labels must have been taken in by `Profiles.take_labels` before (as
    `label_events` does). `profiles.seq` and its like are the caller's to move.
    """
    n = len(events)
    matrix = np.empty((n if emit else 1, N_FEATURES), np.float32)
    masks = np.empty(n, np.uint8)
    new = False
    for start in range(0, n, CHUNK):
        part = slice(start, min(start + CHUNK, n))
        profiles.reserve(part.stop - start)
        rows = matrix[part] if emit else matrix
        new |= bool(_walk(events[part], *profiles.arrays, rows, masks[part], profiles.scratch, emit))
    return Advanced(matrix if emit else matrix[:0], _links(events, masks) if new else NO_LINKS)


def _links(events: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The new pairs behind `masks`, in the order of the events."""
    at, bits = np.nonzero((masks[:, None] >> np.arange(LINKED, dtype=np.uint8)) & 1)
    links = np.empty(len(at), LINK)
    links["transaction_id"], links["seen_at"] = events["id"][at], events["occurred_at"][at]
    for bit, (left, right) in enumerate(PAIR_KINDS[:LINKED]):
        chosen = bits == bit
        for side, kind in (("left", left), ("right", right)):
            links[f"{side}_kind"][chosen] = ENTITY.code(KINDS[kind])
            links[f"{side}_key"][chosen] = events[KINDS[kind]][at[chosen]]
    return links


# --- events -----------------------------------------------------------------------------------------------------------


def events_from_facts(
    facts: np.ndarray, first_seq: int | np.ndarray = 0, kind: int | np.ndarray | None = None
) -> np.ndarray:
    """Facts (dtype FACTS) as events; `first_seq` is the first one's seq, or one for each.

    Without `kind` a payment is judged or only profiled as `kinds_of` says.
    """
    n = len(facts)
    raw = np.zeros((n, EVENT.itemsize), np.uint8)  # much faster than zeros of a structured dtype
    raw[:, : FACTS.itemsize] = np.ascontiguousarray(facts, FACTS).view(np.uint8).reshape(n, FACTS.itemsize)
    events = np.ndarray((n,), EVENT, raw)
    events["kind"] = kinds_of(facts) if kind is None else kind
    events["seq"] = first_seq + np.arange(n) if isinstance(first_seq, int) else first_seq
    return events


def kinds_of(facts: np.ndarray) -> np.ndarray:
    """JUDGED or PROFILED for each payment: authorisations are judged, unless they take a payment back."""
    return _KIND_OF[facts["stage"], facts["type"]]


_KIND_OF = np.full((32, 32), PROFILED, np.uint8)  # by stage and type
_KIND_OF[[0, AUTHORISATION]] = JUDGED
_KIND_OF[:, REVERSAL] = PROFILED


def label_events(
    profiles: Profiles, label_rows: np.ndarray, facts: np.ndarray, first_seq: int | np.ndarray = 0
) -> np.ndarray:
    """Take label rows in (see `Profiles.take_labels`) and return their events, with `old` and `new` set.

    `facts` are the labelled payments, one for each of `label_rows` (dtype LABEL_ROW, or one with its fields).
    """
    rows = np.zeros(len(label_rows), LABEL_ROW)
    for name in LABEL_ROW.names or ():
        rows[name] = label_rows[name]
    events = events_from_facts(facts, first_seq, LABEL)
    events["old"], events["new"] = profiles.take_labels(rows)
    events["known_at"] = rows["known_at"]
    return events


def warm_up() -> None:
    """Compile or load the kernel now, on a payment and a label of nobody: seconds that no request should wait for."""
    profiles = Profiles()
    facts = np.zeros(1, FACTS)
    facts["id"] = 1
    advance(profiles, events_from_facts(facts, 1))
    rows = np.array([(1, 1, 1, 1, 1)], LABEL_ROW)
    advance(profiles, label_events(profiles, rows, facts, 2))


# --- the document -----------------------------------------------------------------------------------------------------


def document() -> str:
    """docs/features.md: every feature with its unit, window, meaning and missing value."""
    paragraphs = (__doc__ or "").strip().split("\n\n", 1)[1]
    lines = [
        "# Features",
        "",
        f"What the kernel (version {KERNEL_VERSION}) computes of each payment before it enters the profiles:",
        f"{N_FEATURES} columns of float32, NaN where the last column of the tables says so. Written by",
        "`scoring.features.document()`; a test keeps it current.",
        "",
        *paragraphs.splitlines(),
        "",
        "Windows move in steps (10 min in minutes, 1 h in ten minutes, 24 h in hours, days in days): the running step",
        "and the whole window before it. A window never sees less than its name says, and at most one step more; so",
        "1 d is today and yesterday.",
    ]
    for name, group in GROUPS.items():
        lines += ["", f"## {name}", "", "| name | unit | window | meaning | missing |", "|---|---|---|---|---|"]
        lines += [f"| `{f.name}` | {f.unit} | {f.window} | {f.description} | {f.missing} |" for f in group]
    return "\n".join(lines) + "\n"
