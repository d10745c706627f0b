"""The kernel: profiles and events in the lane's order → feature rows, and the profiles moved on.

One implementation for live judging, both replays, training and back-tests. A payment's row is emitted before the
payment enters the profiles. What enters:

* a payment that is judged (stage authorisation, the default) counts once, as an attempt; it adds to sums, means and
  maxima only if it spends (not a refund, a reversal or a credit);
* a payment that is only profiled (clearing, advice, reversal) is one that was counted when it was authorised: it adds
  nothing, opens no profile, and its row is NaN;
* a label moves risk when it arrives, by (old → new), into the day of its `known_at`: customer, account, card, device,
  IP, counterparty, merchant, terminal, MCC and lane. A fraud that its own odd amount explains does not count against
  merchant, terminal and MCC. Known frauds leave the customer's clean history;
* a late payment (older than the customer's last one) goes into its own step of each window where that is still held,
  never moves "last", and is flagged; its windows end at the newest step that the profile has seen.

Nothing but facts enters: no score, outcome, policy or rate of today. Arithmetic runs in one order, in float64 over
integer sums, without fast-math, so that rows are the same bits however the stream is cut.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.core import cgutils
from numba.extending import intrinsic

from scoring import catalogue
from scoring import profiles as profiles_module
from scoring.catalogue import BEGINS, GROUPS, N_FEATURES
from scoring.catalogue import FEATURES as FEATURES
from scoring.catalogue import NAMES as NAMES
from scoring.catalogue import Feature as Feature
from scoring.profiles import (
    ACCOUNT,
    CARD,
    CARDS,
    CLEAN_COUNT,
    CLEAN_SINCE,
    CLEAN_SQUARE,
    CLEAN_SUM,
    COUNTERPARTY,
    CUSTOMER,
    CUSTOMERS,
    D7,
    D30,
    DAY_SHIFT,
    DAYS,
    DEVICE,
    FIRST,
    FRAUD,
    FRAUDS,
    HOURS,
    IP,
    KEY,
    KIND_BITS,
    KINDS,
    LABEL_ROW,
    LABELS,
    LANE,
    LAST,
    LAST_FRAUD,
    LAT,
    LEGITIMATE,
    LON,
    MCC,
    MERCHANT,
    MINUTES,
    N_COUNTRIES,
    N_DEVICES,
    N_MERCHANTS,
    N_WINDOWS,
    NEVER,
    NIGHT,
    ODD_BIT,
    OFFSETS,
    PAIRS,
    PAYMENTS,
    PLACE_AT,
    RANK_SHIFT,
    RUN_LAST,
    RUN_LENGTH,
    RUN_START,
    SEEN_COUNTRIES,
    SEEN_DEVICES,
    SEEN_MERCHANTS,
    SLOTS,
    STEP,
    TENS,
    TERMINAL,
    USED,
    WIDTHS,
    WINDOWS,
    Profiles,
    place_of,
    slot_of,
)
from transactions.codes import DEVICE_FLAGS, DIRECTION, ENTITY, STAGE, TYPE
from transactions.facts import DAY, FACTS, HOUR, MINUTE, SECOND
from transactions.models import ABSENT, ABSENT_DAY

KERNEL_VERSION = 1

# An event: a payment as facts, and how it enters. `kind` is LOG_KIND less one; `old`, `new`, `known_at` are for labels.
EVENT = np.dtype([*((name, FACTS[name]) for name in FACTS.names or ()), ("kind", "u1"), ("old", "i1"), ("new", "i1"),
                  ("known_at", "i8"), ("seq", "i8")])  # fmt: skip
JUDGED, PROFILED, LABEL = 0, 1, 2

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
AUTHORISATION = STAGE.code("authorisation")
CREDIT = DIRECTION.code("credit")
REFUND, REVERSAL = TYPE.code("refund"), TYPE.code("reversal")
TAMPERED = DEVICE_FLAGS["emulator"] | DEVICE_FLAGS["rooted"]
REMOTE = DEVICE_FLAGS["remote_access"]
HIDDEN = DEVICE_FLAGS["proxy"] | DEVICE_FLAGS["vpn"] | DEVICE_FLAGS["tor"]
YEAR = 31_556_952 * SECOND
EARTH_KM = 6371.0

RUN_GAP = 14 * DAY  # frauds further apart belong to different runs
SMOOTHING = 4.0  # payments that the lane's own share counts for
ODD_DEVIATIONS, ODD_DEVIATIONS_LANE = 3.5, 4.0  # from where a fraud's amount explains it
ODD_LEAST, ODD_LEAST_LANE = 5, 200  # clean payments needed to say so

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
LINKED = 7


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


# --- windows ----------------------------------------------------------------------------------------------------------


@part
def _layout(row, o, ring):
    """Words at which a row's totals, largest amount, sums and maxima begin, and the half at which its counts do."""
    n = SLOTS[ring]
    totals = row + o + 1
    largest = totals + 2 * N_WINDOWS[ring]
    sums = largest + 1 if ring == DAYS else largest
    peaks = sums + n
    return totals, largest, sums, peaks, 2 * (peaks + n if ring == DAYS else peaks)


@part
def _roll(m, h, row, o, ring, step):
    """Bring a row of windows forward to `step`; what falls out of a window leaves its totals."""
    head = m[row + o]
    if step <= head:
        return
    m[row + o] = step
    totals, largest, sums, peaks, counts = _layout(row, o, ring)
    n, windows = SLOTS[ring], N_WINDOWS[ring]
    if m[totals + 2 * windows - 2] == 0 and m[totals + 2 * windows - 1] == 0:
        return  # nothing is held
    if step - head >= n:
        for i in range(totals, counts // 2):
            m[i] = 0
        for i in range(counts, counts + n):
            h[i] = 0
        return
    slot = head % n
    stale = False
    for _ in range(step - head):
        slot = slot + 1 if slot + 1 < n else 0
        for w in range(windows):
            leaving = slot - WINDOWS[ring, w]
            if leaving < 0:
                leaving += n
            m[totals + 2 * w] -= h[counts + leaving]
            m[totals + 2 * w + 1] -= m[sums + leaving]
        m[sums + slot] = 0
        h[counts + slot] = 0
        if ring == DAYS:
            stale |= m[peaks + slot] == m[largest]
            m[peaks + slot] = 0
    if stale:
        m[largest] = 0
        for i in range(n):
            m[largest] = max(m[largest], m[peaks + i])


@part
def _add(m, h, row, o, ring, step, count, amount):
    """Add to the row in its own step, if that is still held, and to the windows that it lies in."""
    n = SLOTS[ring]
    age = m[row + o] - step
    if age < 0 or age >= n:
        return
    totals, largest, sums, peaks, counts = _layout(row, o, ring)
    slot = step % n
    m[sums + slot] += amount
    h[counts + slot] += count
    for w in range(N_WINDOWS[ring]):
        if age < WINDOWS[ring, w]:
            m[totals + 2 * w] += count
            m[totals + 2 * w + 1] += amount
    if ring == DAYS:
        m[peaks + slot] = max(m[peaks + slot], amount)
        m[largest] = max(m[largest], amount)


@part
def _roll_all(m, h, row, kind, steps):
    """Bring every window of an entity to the present `steps`, one for each length of step."""
    for ring in range(LABELS + 1):
        o = OFFSETS[kind, ring]
        if o >= 0:
            _roll(m, h, row, o, ring, steps[ring])


@part
def _add_all(m, h, row, kind, steps, amount):
    for ring in range(LABELS):
        o = OFFSETS[kind, ring]
        if o >= 0:
            _add(m, h, row, o, ring, steps[ring], 1, amount)


@part
def _count(m, row, kind, ring, window):
    return m[row + OFFSETS[kind, ring] + 1 + 2 * window]


@part
def _sum(m, row, kind, ring, window):
    return m[row + OFFSETS[kind, ring] + 2 + 2 * window]


@part
def _peak(m, row, kind):
    return m[row + OFFSETS[kind, DAYS] + 1 + 2 * N_WINDOWS[DAYS]]


# --- finding and opening profiles -------------------------------------------------------------------------------------


@part
def _open(index, m, used, kind, key):
    """The word at which the record of an entity begins, opened if it is new; -1 for key 0."""
    if key == 0:
        return -1
    place = place_of(index, key, kind)
    if index[place, 1] != 0:
        return index[place, 1] >> KIND_BITS
    row = used[USED]
    used[USED] += WIDTHS[kind]
    used[kind] += 1
    index[place, 0] = key
    index[place, 1] = row << KIND_BITS | kind
    m[row + KEY] = key
    m[row + LAST] = NEVER
    m[row + CLEAN_SINCE] = NEVER
    m[row + LAST_FRAUD] = NEVER
    for ring in range(LABELS + 1):
        if OFFSETS[kind, ring] >= 0:
            m[row + OFFSETS[kind, ring]] = NEVER
    if kind == CUSTOMER:
        m[row + PLACE_AT] = NEVER
    return row


@part
def _find(index, kind, key):
    """The word at which the record of an entity begins, or -1."""
    if key == 0:
        return -1
    place = place_of(index, key, kind)
    return index[place, 1] >> KIND_BITS if index[place, 1] != 0 else -1


@part
def _pair(pairs, used, left, right, code, at):
    """When the two were first seen together; NEVER and noted as `at` if they were not."""
    mixed = np.uint64(left) + np.uint64(code + 1) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) + np.uint64(right)
    mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0x94D049BB133111EB)
    key = np.int64(mixed ^ (mixed >> np.uint64(29)))
    if key == 0:
        key = np.int64(1)
    slot = slot_of(pairs, key)
    if pairs[slot, 0] == key:
        return pairs[slot, 1]
    pairs[slot, 0] = key
    pairs[slot, 1] = at
    used[PAIRS] += 1
    return np.int64(NEVER)


@part
def _recent(m, row, o, n, since):
    """How many of the small set at word `o` were seen after `since`."""
    found = 0
    for i in range(n):
        if m[row + o + i] != 0 and m[row + o + n + i] > since:
            found += 1
    return found


@part
def _has(m, row, o, n, key):
    found = False
    for i in range(n):
        found |= m[row + o + i] == key
    return found


@part
def _remember(m, row, o, n, key, at):
    """Note `key` as seen at `at`; if the set is full, what was seen longest ago goes."""
    place = 0
    for i in range(n):
        if m[row + o + i] == key:
            m[row + o + n + i] = max(m[row + o + n + i], at)
            return
        if m[row + o + i] == 0:
            place = i
            break
        if m[row + o + n + i] < m[row + o + n + place]:
            place = i
    m[row + o + place] = key
    m[row + o + n + place] = at


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
def _known(m, row, kind, at, x, j):
    """Known frauds of an entity: two columns from `j`."""
    x[j] = _count(m, row, kind, LABELS, D30)
    if m[row + FRAUDS] > 0:
        x[j + 1] = _days_since(at, m[row + LAST_FRAUD])


@part
def _seen_days(m, row, at):
    return _days_since(at, m[row + FIRST]) if m[row + PAYMENTS] > 0 else 0.0


@part
def _customer_spending(m, f, row, amount, x, j):
    """Counts, sums, and the amount against the customer's own history: 15 columns from `j`."""
    x[j] = _count(m, row, CUSTOMER, MINUTES, 0)
    x[j + 1] = _count(m, row, CUSTOMER, TENS, 0)
    x[j + 2] = _count(m, row, CUSTOMER, HOURS, 0)
    x[j + 3] = _count(m, row, CUSTOMER, DAYS, D7)
    payments = _count(m, row, CUSTOMER, DAYS, D30)
    x[j + 4] = payments
    x[j + 5] = _sum(m, row, CUSTOMER, MINUTES, 0)
    x[j + 6] = _sum(m, row, CUSTOMER, TENS, 0)
    x[j + 7] = _sum(m, row, CUSTOMER, HOURS, 0)
    x[j + 8] = _sum(m, row, CUSTOMER, DAYS, D7)
    spent = _sum(m, row, CUSTOMER, DAYS, D30)
    x[j + 9] = spent
    largest = _peak(m, row, CUSTOMER)
    x[j + 10] = _over(float(spent), float(payments))
    if largest > 0:
        x[j + 11] = largest
        x[j + 12] = amount / largest
    mean, deviation = _clean(m, f, row)
    x[j + 13] = _over(amount, mean)
    if m[row + CLEAN_COUNT] >= 3:
        x[j + 14] = (amount - mean) / (deviation + 0.01 * mean + 1.0)


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
def _customer_habits(e, m, f, row, at, late, x, j):
    """Pace, place and variety: 7 columns from `j`."""
    seen = _seen_days(m, row, at)
    x[j] = _count(m, row, CUSTOMER, DAYS, D30) / min(max(seen, 1.0), 30.0)
    if m[row + PAYMENTS] > 0 and not late:
        x[j + 1] = (at - m[row + LAST]) / SECOND
    x[j + 2] = seen
    if m[row + PLACE_AT] != NEVER and not math.isnan(e.lat) and not math.isnan(e.lon):
        km = _distance(f[row + LAT], f[row + LON], np.float64(e.lat), np.float64(e.lon))
        x[j + 3] = km
        if at >= m[row + PLACE_AT]:
            x[j + 4] = km * HOUR / max(at - m[row + PLACE_AT], MINUTE)
    x[j + 5] = _recent(m, row, SEEN_MERCHANTS, N_MERCHANTS, at - DAY)
    x[j + 6] = _recent(m, row, SEEN_COUNTRIES, N_COUNTRIES, at - 30 * DAY)
    x[j + 7] = _recent(m, row, SEEN_DEVICES, N_DEVICES, at - 30 * DAY)


@part
def _first_time(together, at, x, j):
    """New, and days since first seen together."""
    x[j] = together == NEVER
    x[j + 1] = 0.0 if together == NEVER else _days_since(at, together)


@part
def _customer_firsts(e, m, row, at, together, x, j):
    """What is new for the customer, and known frauds: 12 columns from `j`; `together` by PAIR_KINDS."""
    if e.device != 0:
        _first_time(together[2], at, x, j)
    if e.merchant != 0 or e.terminal != 0:
        _first_time(together[7], at, x, j + 2)
    country = _country(e)
    if country != 0:
        x[j + 4] = not _has(m, row, SEEN_COUNTRIES, N_COUNTRIES, country)
    if e.counterparty != 0:
        _first_time(together[4], at, x, j + 5)
    if m[row + PAYMENTS] > 0:
        x[j + 7] = m[row + NIGHT] / m[row + PAYMENTS]
    _known(m, row, CUSTOMER, at, x, j + 8)
    x[j + 10] = m[row + FRAUDS]
    if m[row + RUN_LENGTH] > 0:
        x[j + 11] = _days_since(at, m[row + RUN_START])


@part
def _of_card(m, row, at, x, j):
    x[j] = _count(m, row, CARD, MINUTES, 0)
    x[j + 1] = _count(m, row, CARD, TENS, 0)
    x[j + 2] = _count(m, row, CARD, HOURS, 0)
    x[j + 3] = _count(m, row, CARD, DAYS, D7)
    x[j + 4] = _sum(m, row, CARD, HOURS, 0)
    if m[row + PAYMENTS] > 0 and at >= m[row + LAST]:
        x[j + 5] = (at - m[row + LAST]) / SECOND
    x[j + 6] = _seen_days(m, row, at)
    _known(m, row, CARD, at, x, j + 7)


@part
def _of_account(m, row, at, x, j):
    x[j] = _count(m, row, ACCOUNT, HOURS, 0)
    x[j + 1] = _count(m, row, ACCOUNT, DAYS, D7)
    x[j + 2] = _sum(m, row, ACCOUNT, HOURS, 0)
    x[j + 3] = _sum(m, row, ACCOUNT, DAYS, D30)
    x[j + 4] = _seen_days(m, row, at)


@part
def _of_shared(m, row, kind, at, x, j):
    """Device or IP."""
    x[j] = _count(m, row, kind, TENS, 0)
    x[j + 1] = _count(m, row, kind, HOURS, 0)
    x[j + 2] = m[row + CUSTOMERS]
    x[j + 3] = m[row + CARDS]
    x[j + 4] = _seen_days(m, row, at)
    _known(m, row, kind, at, x, j + 5)


@part
def _share(frauds, others, usual):
    return (frauds + SMOOTHING * usual) / (max(others, frauds) + SMOOTHING)


@part
def _of_place(m, row, kind, at, amount, usual, x, j):
    """Merchant or terminal; `usual` is the lane's share of frauds."""
    payments = _count(m, row, kind, DAYS, D30)
    x[j] = _count(m, row, kind, HOURS, 0)
    x[j + 1] = payments
    if payments > 0:
        x[j + 2] = _over(amount * payments, float(_sum(m, row, kind, DAYS, D30)))
    x[j + 3] = _seen_days(m, row, at)
    for window in range(4):
        frauds = _count(m, row, kind, LABELS, window)
        x[j + 4 + window] = _share(frauds, _count(m, row, kind, DAYS, window), usual)
    for i, window in enumerate((D7, D30)):
        frauds = _count(m, row, kind, LABELS, window)
        x[j + 8 + i] = _share(frauds, frauds + _sum(m, row, kind, LABELS, window), usual)
    _known(m, row, kind, at, x, j + 10)
    x[j + 12] = m[row + RUN_LENGTH]
    if m[row + RUN_LENGTH] > 0:
        x[j + 13] = _days_since(at, m[row + RUN_START])


@part
def _of_counterparty(m, row, at, x, j):
    x[j] = _count(m, row, COUNTERPARTY, HOURS, 0)
    x[j + 1] = _count(m, row, COUNTERPARTY, DAYS, D30)
    x[j + 2] = _sum(m, row, COUNTERPARTY, HOURS, 0)
    x[j + 3] = m[row + CUSTOMERS]
    x[j + 4] = _seen_days(m, row, at)
    _known(m, row, COUNTERPARTY, at, x, j + 5)


@part
def _emit(e, m, f, rows, together, at, late, x):
    """The whole feature row of one payment, before it enters the profiles."""
    _of_payment(e, at, late, x)
    amount = float(e.amount_base)
    usual = (m[rows[LANE] + FRAUDS] + 1.0) / (m[rows[LANE] + PAYMENTS] + 200.0)
    if rows[CUSTOMER] >= 0:
        row = rows[CUSTOMER]
        _customer_spending(m, f, row, amount, x, AT_CUSTOMER)
        _customer_habits(e, m, f, row, at, late, x, AT_CUSTOMER + 15)
        _customer_firsts(e, m, row, at, together, x, AT_CUSTOMER + 23)
    if rows[CARD] >= 0:
        _of_card(m, rows[CARD], at, x, AT_CARD)
    if rows[ACCOUNT] >= 0:
        _of_account(m, rows[ACCOUNT], at, x, AT_ACCOUNT)
    if rows[DEVICE] >= 0:
        _of_shared(m, rows[DEVICE], DEVICE, at, x, AT_DEVICE)
    if rows[IP] >= 0:
        _of_shared(m, rows[IP], IP, at, x, AT_IP)
    if rows[MERCHANT] >= 0:
        _of_place(m, rows[MERCHANT], MERCHANT, at, amount, usual, x, AT_MERCHANT)
    if rows[TERMINAL] >= 0:
        _of_place(m, rows[TERMINAL], TERMINAL, at, amount, usual, x, AT_TERMINAL)
    if rows[COUNTERPARTY] >= 0:
        _of_counterparty(m, rows[COUNTERPARTY], at, x, AT_COUNTERPARTY)
    if rows[MCC] >= 0:
        row = rows[MCC]
        frauds = _count(m, row, MCC, LABELS, D30)
        x[AT_MCC] = _share(frauds, _count(m, row, MCC, DAYS, D30), usual)


# --- moving the profiles on -------------------------------------------------------------------------------------------


@part
def _spends(e):
    return e.direction != CREDIT and e.type != REFUND and e.type != REVERSAL


@part
def _counts(e):
    """Whether the payment entered profiles when it came: its stage says that it is the authorisation."""
    return e.stage == AUTHORISATION or e.stage == 0


@part
def _keys(e, keys):
    """The key of each kind of entity; 0 = none."""
    keys[0], keys[1], keys[2], keys[3] = e.customer, e.account, e.card, e.device
    keys[4], keys[5], keys[6], keys[7] = e.ip, e.merchant, e.terminal, e.counterparty
    keys[8] = e.mcc + 1 if e.mcc >= 0 else 0
    keys[9] = 1


@part
def _enter(m, h, f, row, kind, steps, at, spent, clean):
    """One payment into one entity."""
    _add_all(m, h, row, kind, steps, spent)
    if m[row + PAYMENTS] == 0 or at < m[row + FIRST]:
        m[row + FIRST] = at
    m[row + PAYMENTS] += 1
    m[row + LAST] = max(m[row + LAST], at)
    if clean:
        m[row + CLEAN_COUNT] += 1
        m[row + CLEAN_SUM] += spent
        f[row + CLEAN_SQUARE] += float(spent) * float(spent)


@part
def _enter_habits(e, m, f, row, at):
    """Place, night and the small sets of the customer."""
    m[row + NIGHT] += _is_night(at)
    if not math.isnan(e.lat) and not math.isnan(e.lon) and at >= m[row + PLACE_AT]:
        f[row + LAT], f[row + LON] = e.lat, e.lon
        m[row + PLACE_AT] = at
    shop = e.merchant if e.merchant != 0 else e.terminal
    if shop != 0:
        _remember(m, row, SEEN_MERCHANTS, N_MERCHANTS, shop, at)
    if _country(e) != 0:
        _remember(m, row, SEEN_COUNTRIES, N_COUNTRIES, np.int64(_country(e)), at)
    if e.device != 0:
        _remember(m, row, SEEN_DEVICES, N_DEVICES, e.device, at)


@part
def _meet(pairs, used, keys, together, at):
    """Look every pair of the payment up, noting new ones; the mask of those."""
    mask = 0
    for i in range(len(PAIR_KINDS)):
        left, right = keys[PAIR_KINDS[i][0]], keys[PAIR_KINDS[i][1]]
        if right == 0 and PAIR_KINDS[i][1] == MERCHANT:
            right = keys[TERMINAL]
        if left == 0 or right == 0:
            continue
        together[i] = _pair(pairs, used, left, right, i, at)
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


# --- labels -----------------------------------------------------------------------------------------------------------


@part
def _is_odd(amount, m, f, row, least, deviations):
    """Whether the amount stands out of a clean history so far that it explains a fraud by itself."""
    if row < 0 or m[row + CLEAN_COUNT] < least:
        return False
    mean, deviation = _clean(m, f, row)
    return amount > mean + deviations * deviation and amount > 2 * mean


@part
def _tally(m, h, row, kind, verdict, sign, day, known_at):
    """Count a label in, or out again, on its day."""
    o = OFFSETS[kind, LABELS]
    if sign > 0:
        _roll(m, h, row, o, LABELS, day)
    fraud = sign if verdict == FRAUD else 0
    _add(m, h, row, o, LABELS, day, fraud, sign - fraud)
    if verdict == FRAUD:
        m[row + FRAUDS] += sign
        if sign > 0:
            m[row + LAST_FRAUD] = max(m[row + LAST_FRAUD], known_at)


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
    if not (_counts(e) and _spends(e)):
        return
    amount = float(e.amount_base)
    for kind in (CUSTOMER, LANE):
        row = rows[kind]
        if row >= 0:
            m[row + CLEAN_COUNT] += sign
            m[row + CLEAN_SUM] += sign * e.amount_base
            f[row + CLEAN_SQUARE] += sign * amount * amount


@part
def _count_label(e, m, h, rows, verdict, sign, day, odd):
    for kind in range(len(KINDS)):
        row = rows[kind]
        place = kind in (MERCHANT, TERMINAL)
        if row < 0 or (odd and (place or kind == MCC)):
            continue
        _tally(m, h, row, kind, verdict, sign, day, e.known_at)
        _run(m, row, verdict, sign, e.occurred_at, place)


@part
def _label(e, m, h, f, rows, labels):
    """Take the old effective label out where it was counted, and count the new one on the day it became known."""
    slot = slot_of(labels, e.id)
    packed = labels[slot, 3]
    if e.old == FRAUD and e.new != FRAUD:
        _clean_history(e, m, f, rows, 1)
    if e.new == FRAUD and e.old != FRAUD:
        _clean_history(e, m, f, rows, -1)
    if e.old != 0:
        _count_label(e, m, h, rows, e.old, -1, packed >> DAY_SHIFT, (packed & ODD_BIT) != 0)
    day, odd = e.known_at // DAY, False
    if e.new == FRAUD:
        amount = float(e.amount_base)
        odd = _is_odd(amount, m, f, rows[CUSTOMER], ODD_LEAST, ODD_DEVIATIONS)
        odd |= _is_odd(amount, m, f, rows[LANE], ODD_LEAST_LANE, ODD_DEVIATIONS_LANE)
    if e.new != 0:
        _count_label(e, m, h, rows, e.new, 1, day, odd)
    kept = packed & ((7 << RANK_SHIFT) | 3)
    labels[slot, 3] = day << DAY_SHIFT | kept | (ODD_BIT if odd else 0)


# --- the loop ---------------------------------------------------------------------------------------------------------


@part
def _judge(e, used, index, m, h, f, pairs, keys, rows, steps, together, x):
    """One payment: open its profiles, emit its row, let it in. Returns the mask of new pairs."""
    at = e.occurred_at
    for ring in range(LABELS + 1):
        steps[ring] = at // STEP[ring]
    for kind in range(len(KINDS)):
        rows[kind] = _open(index, m, used, kind, keys[kind])
        if rows[kind] >= 0:
            _roll_all(m, h, rows[kind], kind, steps)
    late = rows[CUSTOMER] >= 0 and at < m[rows[CUSTOMER] + LAST]
    mask = _meet(pairs, used, keys, together, at)
    _emit(e, m, f, rows, together, at, late, x)
    spends = _spends(e)
    spent = e.amount_base if spends else 0
    if rows[CUSTOMER] >= 0:
        _enter_habits(e, m, f, rows[CUSTOMER], at)
    for kind in range(len(KINDS)):
        if rows[kind] >= 0:
            clean = spends and kind in (CUSTOMER, LANE)
            _enter(m, h, f, rows[kind], kind, steps, at, spent, clean)
    _count_sharers(m, rows, mask)
    return mask


def _compile(stamp: int):
    """The compiled loop. `stamp` takes part in its cache key (a closure): any change here recompiles it."""

    @njit(cache=True, error_model="numpy")
    def walk(events, used, index, words, halves, floats, pairs, labels, matrix, masks, scratch):
        version = stamp  # noqa: F841  (closes over the stamp: that is what it is for)
        used, index, pairs, labels = _bare(used), _bare(index), _bare(pairs), _bare(labels)
        words, halves, floats = _bare(words), _bare(halves), _bare(floats)
        events, matrix, masks, scratch = _bare(events), _bare(matrix), _bare(masks), _bare(scratch)
        keys, rows, steps, together = scratch[0], scratch[1], scratch[2], scratch[3]
        for i in range(events.shape[0]):
            e = events[i]
            matrix[i, :] = NAN
            _keys(e, keys)
            if e.kind == JUDGED:
                masks[i] = _judge(e, used, index, words, halves, floats, pairs, keys, rows, steps, together, matrix[i])
            elif e.kind == LABEL and e.old != e.new:
                for kind in range(len(KINDS)):
                    rows[kind] = _find(index, kind, keys[kind])
                _label(e, words, halves, floats, rows, labels)

    return walk


_walk = _compile(_stamp())
CHUNK = 16_384  # events that room is made for at once


def advance(profiles: Profiles, events: np.ndarray) -> Advanced:
    """Walk `events` (dtype EVENT, in the lane's order) through the profiles, which move on.

    Returns the matrix (n, N_FEATURES) float32 and the pairs seen for the first time. Labels must have been taken in by
    `Profiles.take_labels` before (as `label_events` does). `profiles.seq` and its like are the caller's to move.
    """
    n = len(events)
    matrix = np.empty((n, N_FEATURES), np.float32)
    masks = np.zeros(n, np.uint8)
    scratch = np.zeros((4, len(KINDS)), np.int64)
    for start in range(0, n, CHUNK):
        part = slice(start, min(start + CHUNK, n))
        profiles.reserve(part.stop - start)
        _walk(events[part], *profiles.arrays, matrix[part], masks[part], scratch)
    return Advanced(matrix, _links(events, masks))


def _links(events: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The new pairs behind `masks`, in the order of the events."""
    masks = masks & ((1 << LINKED) - 1)
    if not masks.any():
        return np.empty(0, LINK)
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

    Without `kind` a payment is judged if its stage is authorisation (or not sent), else only profiled.
    """
    events = np.zeros(len(facts), EVENT)
    _bytes(events)[:, : FACTS.itemsize] = _bytes(np.ascontiguousarray(facts, FACTS))
    events["kind"] = kinds_of(facts) if kind is None else kind
    events["seq"] = first_seq + np.arange(len(facts)) if isinstance(first_seq, int) else first_seq
    return events


def kinds_of(facts: np.ndarray) -> np.ndarray:
    """JUDGED or PROFILED for each payment, by its stage."""
    stage = facts["stage"]
    return np.where((stage == AUTHORISATION) | (stage == 0), JUDGED, PROFILED).astype("u1")


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


def _bytes(array: np.ndarray) -> np.ndarray:
    return array.view("u1").reshape(len(array), array.dtype.itemsize)


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
