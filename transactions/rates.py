"""What an amount is worth in the lane's base currency: frozen at ingest, exact integer arithmetic.

Rates are rows (`CurrencyRate`); a bank loads its own. A currency without a rate is refused: an amount taken over one to
one would be a lie in every profile. `seed` fills in rough market rates for the demo.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

from transactions.codes import EXPONENT
from transactions.facts import micros
from transactions.models import CurrencyRate

KEPT_SECONDS = 60
MOST = 2**63 - 1

# Units of a currency for one euro, rough: for the demo and for tests.
PER_EURO = """
AED 4.01, ARS 1590, AUD 1.66, BDT 133, BGN 1.95583, BHD 0.411, BRL 5.9, CAD 1.52, CHF 0.95, CLP 1040, CNY 7.8,
COP 4550, CRC 560, CZK 24.6, DKK 7.46, DOP 66, DZD 146, EGP 52, GBP 0.86, GEL 2.98, GHS 13.5, HKD 8.5, HUF
395, IDR 17700, ILS 3.95, INR 93, ISK 148, JOD 0.773, JPY 163, KES 141, KRW 1480, KWD 0.335, KZT 560, LKR 325,
MAD 10.7, MUR 50, MXN 20.5, MYR 4.75, NGN 1650, NOK 11.6, NZD 1.83, OMR 0.42, PEN 4.05, PHP 62, PKR 305, PLN
4.3, QAR 3.97, RON 4.98, RSD 117, RUB 98, SAR 4.09, SEK 11.4, SGD 1.45, THB 37.5, TND 3.37, TRY 40, TWD 34.5,
TZS 2900, UAH 45, UGX 4000, USD 1.09, UYU 46, VND 27800, XAF 655.957, XOF 655.957, ZAR 19.9
"""
SEEDED_FROM = datetime(2000, 1, 1, tzinfo=UTC)


class NoRate(Exception):
    """There is no rate from `currency` to the base, so the amount cannot be judged; or it is too large there."""

    def __init__(self, currency: str) -> None:
        super().__init__(currency)
        self.currency = currency


class Rates:
    """All rates to one base currency. `factors[currency]` are (from micros, base minor units for one minor unit)."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.read_at = time.monotonic()
        self.factors: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        self.factors[base] = [(0, 1, 1)]
        for rate in CurrencyRate.objects.filter(base=base).exclude(currency=base).order_by("valid_from"):
            factor = Fraction(rate.rate) * 10 ** EXPONENT[base] / 10 ** EXPONENT.get(rate.currency, 2)
            self.factors[rate.currency].append((micros(rate.valid_from), factor.numerator, factor.denominator))

    def base_amount(self, value: int, currency: str, at: int) -> int:
        """Minor units of the base currency for `value` minor units of `currency` at `at` (micro-seconds since 2000).

        Rounded half up. A payment older than the first rate takes that one. Raises NoRate.
        """
        if currency == self.base:
            return value
        known = self.factors.get(currency)
        if not known:
            raise NoRate(currency)
        _, numerator, denominator = known[max(0, bisect_right(known, (at, MOST, MOST)) - 1)]
        amount = (2 * value * numerator + denominator) // (2 * denominator)
        if amount > MOST:
            raise NoRate(currency)
        return amount


_kept: dict[str, Rates] = {}


def rates_to(base: str, *, needed: set[str] | None = None) -> Rates:
    """The rates to `base`, read at most once a minute, and again when one of the `needed` currencies is not among
    them."""
    rates = _kept.get(base)
    fresh = rates is not None and time.monotonic() - rates.read_at < KEPT_SECONDS
    if rates is None or not fresh or (needed and not needed <= rates.factors.keys()):
        rates = _kept[base] = Rates(base)
    return rates


def forget() -> None:
    """Read the rates anew at the next payment."""
    _kept.clear()


def seed(base: str = "EUR") -> int:
    """Insert rough rates of the common currencies to `base` where none is known; how many were new."""
    per_euro = {"EUR": Decimal(1)} | {
        currency: Decimal(units) for currency, units in (row.split() for row in PER_EURO.split(",") if row.strip())
    }
    known = set(CurrencyRate.objects.filter(base=base).values_list("currency", flat=True))
    new = [
        CurrencyRate(base=base, currency=currency, rate=round(per_euro[base] / units, 10), valid_from=SEEDED_FROM)
        for currency, units in per_euro.items()
        if currency in EXPONENT and currency != base and currency not in known
    ]
    CurrencyRate.objects.bulk_create(new, ignore_conflicts=True)
    forget()
    return len(new)
