"""A believable bank day: what the demo, the tests and the benchmarks draw their payments from.

Payments come as plain dictionaries in the API's own shape, in time order, each with the truth about it: the fraud
scenario it belongs to, and the report that will one day say so (a customer's call, a chargeback, an investigator; some
frauds are never reported). Genuine customers travel, buy new phones, pay new people and go on shopping trips too, so
that no single field gives a fraud away. Deterministic: the same seed and the same clock give the same payments.

Scenarios: cards tested in a burst at one site; an account taken over (new device, new payee, instant transfers); a
stolen or cloned card (impossible travel); a site or terminal compromised for weeks; an odd amount; payers talked into
paying a mule; a ring whose one phone works many accounts in turn.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from math import cos, exp, log, pi, sqrt

from transactions.codes import EXPONENT
from transactions.population import (
    CASH,
    CITIES,
    FAR_PLACES,
    PER_EURO,
    Card,
    Customer,
    Device,
    Merchant,
    Payee,
    Place,
    near,
    new_card,
    new_device,
    new_payee,
    place_of,
    populate,
    thief_address,
    token,
)

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
WEEK = 7 * DAY
CUSTOMERS, MERCHANTS = 10_000, 2_500
# Campaigns begun for each genuine payment, by scenario; together about 0.8 % of the payments are fraud.
CAMPAIGNS = {
    "card_testing": 0.00020,
    "account_takeover": 0.00050,
    "stolen_card": 0.00060,
    "odd_amount": 0.00100,
    "mule": 0.00009,
    "compromised": 0.00030,
    "ring": 0.00005,
}
AT_ONCE = 4  # compromised merchants, and mules, at any one time
WELL_KNOWN, DRAWN_THERE = 50, 0.08  # shops that everybody knows, and the share of purchases made in one of them
FRAUD_TYPE = {
    "card_testing": "card_not_present",
    "account_takeover": "account_takeover",
    "stolen_card": "lost_stolen",
    "odd_amount": "card_not_present",
    "mule": "payer_manipulated",
    "compromised": "merchant_collusion",
    "ring": "mule",
}
# How a fraud becomes known: source, share, median days, spread.
REPORTS = [("customer", 0.40, 0.6, 1.0), ("chargeback", 0.40, 5.5, 0.4), ("investigator", 0.14, 0.15, 0.8)]
LOOTED = ("6011", "5732", "5651", "5411")  # where stolen cards are used in person
HOURS = [6, 4, 3, 2, 2, 4, 10, 22, 34, 38, 42, 48, 56, 50, 44, 44, 48, 58, 64, 56, 44, 34, 22, 12]


@dataclass(frozen=True, slots=True)
class Report:
    """What will be said of a payment, and how long after it, in seconds."""

    verdict: str
    source: str
    fraud_type: str
    delay: float


@dataclass(frozen=True, slots=True)
class Simulated:
    """A payment in the API's shape, when it happened (unix seconds), its scenario ("" if genuine) and its report."""

    payment: dict
    at: float
    scenario: str
    report: Report | None


@dataclass(slots=True)
class Skimmed:
    """A merchant whose payments are tampered with until `until`."""

    merchant: Merchant
    until: float


class Bank:
    """A population and its moving parts. Not shared between threads."""

    def __init__(self, seed: int = 7, *, customers: int = CUSTOMERS, merchants: int = MERCHANTS, run: str = "hist"):
        self.customers, self.merchants = populate(seed, customers, merchants)
        self.well_known = random.Random(seed).sample(self.merchants, min(WELL_KNOWN, len(self.merchants)))
        self.rng = random.Random(f"{seed}/{run}")
        self.run = run
        self.pace = 1.0  # how long campaigns last, relative to life
        self.frauds = 1.0  # how many of them begin, relative to life
        self.trips = 0.10  # share of payments that are followed by others on the same walk through town
        self._number = count()
        self._tie = count()
        self._agenda: list[tuple[float, int, Callable[..., Simulated | None], tuple]] = []
        self._deck: list[Customer] = []
        self._skimmed: list[Skimmed] = []
        self._mules: list[tuple[Payee, float]] = []

    # --- the two streams ------------------------------------------------------------------------------------------

    def history(self, start: datetime, days: int, per_day: int) -> Iterator[Simulated]:
        """About `per_day` payments a day for `days` days from `start` (aware), in time order."""
        begin = start.timestamp()
        for day in range(days):
            dawn = begin + day * DAY
            weekend = datetime.fromtimestamp(dawn, UTC).weekday() >= 5
            for _ in range(int(per_day * (0.85 if weekend else 1.05) * self.rng.uniform(0.93, 1.07) / 1.12)):
                self._plan(self._hour(dawn), self._ordinary)
            yield from self._due(dawn + DAY)

    def live(self, clock: Callable[[], float]) -> Iterator[Simulated]:
        """Endless: each step gives one payment stamped with `clock()` (unix seconds); the caller's steps are the rate.

        Campaigns that take weeks in life are over in hours here, or nobody would see one end.
        """
        self.pace, self.trips = 0.02, 0.03
        now = clock()
        for weeks in range(AT_ONCE - 1):  # those of the last weeks of the history go on
            self._compromise(now - weeks * WEEK, until=now + self.rng.uniform(1, 12) * HOUR)
        while True:
            now = clock()
            if self._agenda and self._agenda[0][0] <= now:
                _, _, act, args = heapq.heappop(self._agenda)
                made = act(now, *args)
            else:
                made = self._ordinary(now)
            if made:
                yield made

    def _due(self, until: float) -> Iterator[Simulated]:
        while self._agenda and self._agenda[0][0] < until:
            at, _, act, args = heapq.heappop(self._agenda)
            made = act(at, *args)
            if made:
                yield made

    def _plan(self, at: float, act: Callable[..., Simulated | None], *args: object) -> None:
        heapq.heappush(self._agenda, (at, next(self._tie), act, args))

    def _hour(self, dawn: float) -> float:
        return dawn + (self.rng.choices(range(24), HOURS)[0] + self.rng.random()) * HOUR

    def _somebody(self) -> Customer:
        """The next customer of a shuffled deck, busy ones more often: nobody turns up twice in a row."""
        while True:
            if not self._deck:
                self._deck = self.rng.sample(self.customers, len(self.customers))
            customer = self._deck.pop()
            if self.rng.random() < customer.busy / 3:
                return customer

    # --- genuine life ---------------------------------------------------------------------------------------------

    def _ordinary(self, at: float) -> Simulated | None:
        self._perhaps_a_campaign(at)
        who, rng = self._somebody(), self.rng
        self._perhaps_news(who, at)
        draw = rng.random()
        if draw < 0.14:
            return self._usual_transfer(who, at)
        if draw < 0.18:
            return self._direct_debit(who, at)
        if draw < 0.21:
            return self._salary(who, at)
        if draw < 0.21 + self.trips:
            self._plan(at + rng.uniform(2, 40) * MINUTE, self._shop, who)  # a shopping trip
            if rng.random() < 0.4:
                self._plan(at + rng.uniform(5, 70) * MINUTE, self._shop, who)
        return self._shop(at, who)

    def _perhaps_news(self, who: Customer, at: float) -> None:
        """Life changes: a journey, a new phone, a new card, a new favourite shop."""
        rng, draw = self.rng, self.rng.random()
        if who.away and at > who.home_again:
            who.away = None
        if draw < 0.006 and not who.away:
            who.away = near(place_of(rng.choice(FAR_PLACES) if rng.random() < 0.25 else rng.choice(CITIES)), rng)
            who.home_again = at + rng.uniform(2, 12) * DAY * max(self.pace, 0.05)
        elif draw < 0.009:
            who.devices[0] = new_device(rng, who.id, phone=True, ip=who.devices[0].ip)
        elif draw < 0.011:
            who.cards[0] = new_card(rng, who.id)
        elif draw < 0.03 and who.shops:
            who.shops[rng.randrange(len(who.shops))] = rng.choice(self.merchants)

    def _shop(self, at: float, who: Customer) -> Simulated:
        rng = self.rng
        online = rng.random() < 0.3
        if who.away and not online:
            return self._abroad(who, at)
        choice = who.sites if online and who.sites else who.shops
        draw = rng.random()
        if draw < 0.18 or not choice:
            choice = self.merchants
        elif draw < 0.18 + DRAWN_THERE:
            choice = self.well_known
        merchant = rng.choice(choice)
        if not merchant.trade.online and self._too_far(who, merchant, at):
            merchant = rng.choice(who.sites or self.merchants)
        euros = self._price(merchant, who)
        tampered = self._tampered(merchant, at)
        if tampered:
            euros *= rng.uniform(1.0, 2.2)
        return self._card_payment(who, at, merchant, euros, scenario="compromised" if tampered else "")

    def _too_far(self, who: Customer, merchant: Merchant, at: float) -> bool:
        """Nobody shops farther away than they can have travelled since they were last seen."""
        if merchant.place.country not in (who.home.country, "DE", "FR", "NL", "AT", "BE"):
            return True
        if who.last_place is None:
            return False
        return kilometres(who.last_place, merchant.place) > 20 + 180 * max(0.0, at - who.last_seen) / HOUR

    def _abroad(self, who: Customer, at: float) -> Simulated:
        assert who.away is not None
        shop = self._a_shop(lambda m: not m.trade.online)
        return self._card_payment(who, at, self._branch(shop, who.away), self._price(shop, who))

    def _a_shop(self, fits: Callable[[Merchant], bool]) -> Merchant:
        """Any merchant that fits."""
        while True:
            merchant = self.rng.choice(self.merchants)
            if fits(merchant):
                return merchant

    def _branch(self, shop: Merchant, place: Place) -> Merchant:
        """The shop of the same kind in another town."""
        return Merchant(token("mer", place.city, shop.id), shop.name, shop.trade, near(place, self.rng), shop.terminals)

    def _price(self, merchant: Merchant, who: Customer) -> float:
        trade = merchant.trade
        euros = max(0.5, trade.euros * who.lavish * exp(self.rng.gauss(0, trade.spread)))
        return max(20.0, round(euros / 10) * 10) if trade.mcc == CASH else euros

    def _usual_transfer(self, who: Customer, at: float) -> Simulated:
        rng = self.rng
        if rng.random() < 0.15:  # somebody new: a craftsman, a friend, a used car
            who.payees.append(new_payee(rng, who.id, who.home.country, since=at))
            payee = who.payees[-1]
        else:
            payee = rng.choice(who.payees)
        euros = exp(rng.gauss(4.6, 0.8)) * who.lavish
        return self._transfer(who, at, payee, min(euros, max(20.0, who.balance * 0.8)), device=rng.choice(who.devices))

    def _direct_debit(self, who: Customer, at: float) -> Simulated:
        payment = self._base(who, at, "direct_debit", "batch", exp(self.rng.gauss(4.0, 0.7)), who.home.currency)
        payment["instrument"] = "account"
        payment["counterparty"] = {"id": token("payee", "utility", hash_of(who.id) % 40), "country": who.home.country}
        payment["transfer"] = {"scheme": "sepa_dd", "purpose": "UBIL"}
        return self._made(payment, at)

    def _salary(self, who: Customer, at: float) -> Simulated:
        euros = exp(self.rng.gauss(7.6, 0.35)) * who.lavish
        who.balance = min(who.balance + euros, 60_000)
        payment = self._base(who, at, "transfer", "batch", euros, who.home.currency)
        payment |= {"instrument": "account", "direction": "credit"}
        payment["counterparty"] = {"id": token("payee", "employer", hash_of(who.id) % 300), "country": who.home.country}
        payment["transfer"] = {"scheme": "sepa_ct", "purpose": "SALA"}
        return self._made(payment, at)

    # --- fraud ----------------------------------------------------------------------------------------------------

    def _perhaps_a_campaign(self, at: float) -> None:
        draw = self.rng.random() / self.frauds if self.frauds else 1.0
        for name, share in CAMPAIGNS.items():
            draw -= share
            if draw < 0:
                getattr(self, "_begin_" + name)(at)
                return

    def _begin_card_testing(self, at: float) -> None:
        """A list of stolen cards tried with small amounts at one careless site; those that work are emptied later."""
        rng = self.rng
        site = self._a_shop(lambda m: m.trade.online)
        robot = Device(token("dev", "robot", rng.random()), "Linux", thief_address(rng), "python-requests/2.32")
        begin = at
        for who in rng.sample(self.customers, rng.randrange(6, 15)):
            for _ in range(rng.choice((1, 1, 2))):
                begin += rng.expovariate(1 / 40.0)
                self._plan(begin, self._stolen_online, who, site, rng.uniform(0.5, 3.5), robot, "card_testing")
            if rng.random() < 0.25:
                loot = self._a_shop(lambda m: m.trade.online and m.trade.euros > 60)
                later = begin + rng.uniform(0.5, 20) * HOUR * max(self.pace, 0.05)
                self._plan(later, self._stolen_online, who, loot, exp(rng.gauss(5.6, 0.5)), robot, "card_testing")

    def _begin_account_takeover(self, at: float) -> None:
        rng = self.rng
        who = rng.choice(self.customers)
        device = new_device(rng, "thief", phone=rng.random() < 0.6, ip=thief_address(rng))
        payee = self._mule_account()
        when = at
        for n in range(rng.choice((1, 2, 2, 3, 4))):
            self._plan(when, self._drain, who, payee, device, n)
            when += rng.uniform(1, 14) * MINUTE

    def _drain(self, at: float, who: Customer, payee: Payee, device: Device, n: int) -> Simulated:
        euros = max(180.0, who.balance * self.rng.uniform(0.25, 0.55)) * (1 + 0.3 * n)
        return self._transfer(who, at, payee, min(euros, 14_500.0), device=device, scenario="account_takeover")

    def _begin_stolen_card(self, at: float) -> None:
        rng = self.rng
        who = rng.choice(self.customers)
        far = place_of(rng.choice(FAR_PLACES) if rng.random() < 0.6 else rng.choice(CITIES))
        when = at
        for _ in range(rng.choice((1, 2, 2, 3, 4, 5))):
            self._plan(when, self._stolen_in_person, who, far, who.cards[0])
            when += rng.uniform(3, 50) * MINUTE

    def _stolen_in_person(self, at: float, who: Customer, far: Place, card: Card) -> Simulated:
        rng = self.rng
        shop = self._a_shop(lambda m: m.trade.mcc in LOOTED)
        euros = max(40.0, self._price(shop, who) * rng.uniform(1.2, 3.5))
        mode = "magstripe" if rng.random() < 0.4 else "contactless" if rng.random() < 0.4 else "chip"
        return self._card_payment(
            who, at, self._branch(shop, far), euros, card=card, mode=mode, scenario="stolen_card", seen=False
        )

    def _begin_odd_amount(self, at: float) -> None:
        rng = self.rng
        who = rng.choice(self.customers)
        site = self._a_shop(lambda m: m.trade.online and m.trade.euros > 30)
        device = rng.choice(who.devices)
        if rng.random() < 0.7:
            device = new_device(rng, "thief", phone=False, ip=thief_address(rng))
        euros = max(150.0, site.trade.euros * who.lavish * rng.uniform(4, 12))
        self._plan(at, self._stolen_online, who, site, euros, device, "odd_amount")

    def _begin_mule(self, at: float) -> None:
        """A story that works on many: "your account is in danger, move the money to this safe one"."""
        rng = self.rng
        self._mules = [(payee, until) for payee, until in self._mules if until > at]
        if len(self._mules) >= AT_ONCE:
            return
        payee = new_payee(rng, "mule", rng.choice(("LT", "ES", "DE", "IE")), since=at)
        self._mules.append((payee, at + 5 * DAY * self.pace))
        for who in rng.sample(self.customers, rng.randrange(5, 13)):
            self._plan(at + rng.uniform(0, 5) * DAY * self.pace, self._talked_into, who, payee)

    def _talked_into(self, at: float, who: Customer, payee: Payee) -> Simulated:
        euros = self.rng.choice((490.0, 950.0, 1480.0, 1950.0, 2900.0, 4900.0)) + self.rng.randrange(0, 50)
        return self._transfer(who, at, payee, euros, device=self.rng.choice(who.devices), scenario="mule")

    def _begin_ring(self, at: float) -> None:
        """Accounts that were bought or opened under false names: one phone works them in turn, for one payee."""
        rng = self.rng
        phone = new_device(rng, "ring", phone=True, ip=thief_address(rng))
        payee = new_payee(rng, "mule", rng.choice(("LT", "ES", "RO", "DE")), since=at)
        for who in rng.sample(self.customers, rng.randrange(4, 8)):
            for _ in range(rng.choice((1, 2, 2))):
                self._plan(at + rng.uniform(0, 6) * DAY * self.pace, self._pass_on, who, payee, phone)

    def _pass_on(self, at: float, who: Customer, payee: Payee, phone: Device) -> Simulated:
        return self._transfer(who, at, payee, self.rng.uniform(350.0, 2400.0), device=phone, scenario="ring")

    def _mule_account(self) -> Payee:
        if self._mules and self.rng.random() < 0.5:
            return self.rng.choice(self._mules)[0]
        return new_payee(self.rng, "mule", self.rng.choice(("LT", "ES", "RO", "GB", "DE")), since=0.0)

    def _begin_compromised(self, at: float) -> None:
        self._compromise(at, until=at + self.rng.uniform(14, 28) * DAY * self.pace)

    def _compromise(self, at: float, *, until: float) -> None:
        """The well-known merchant of the week is compromised: history and live stream agree on which."""
        merchant = self.well_known[int(at // WEEK) % len(self.well_known)]
        self._skimmed = [s for s in self._skimmed if s.until > at]
        if len(self._skimmed) < AT_ONCE and all(s.merchant is not merchant for s in self._skimmed):
            self._skimmed.append(Skimmed(merchant, until))

    def outbreak(self, begin: float, end: float, sales: int) -> None:
        """One well-known shop charges too much from `begin` on, more often from day to day; its customers soon call."""
        rng = self.rng
        shop = next(each for each in self.well_known if not each.trade.online and each.trade.mcc != CASH)
        neighbours = [who for who in self.customers if who.home.city == shop.place.city] or self.customers
        for _ in range(sales):
            when = begin + (end - begin) * sqrt(rng.random())
            self._plan(when, self._overcharged, rng.choice(neighbours), shop)

    def _overcharged(self, at: float, who: Customer, shop: Merchant) -> Simulated:
        rng = self.rng
        euros = self._price(shop, who) * rng.uniform(2.0, 6.0)
        made = self._card_payment(who, at, shop, euros, scenario="compromised")
        soon = Report("fraud", "customer", FRAUD_TYPE["compromised"], rng.uniform(2, 20) * HOUR)
        return replace(made, report=soon) if rng.random() < 0.7 else made

    def _tampered(self, merchant: Merchant, at: float) -> bool:
        return any(s.merchant is merchant and at < s.until for s in self._skimmed) and self.rng.random() < 0.75

    def _stolen_online(
        self, at: float, who: Customer, site: Merchant, euros: float, device: Device, scenario: str
    ) -> Simulated:
        return self._card_payment(who, at, site, euros, device=device, scenario=scenario, seen=False)

    # --- the documents --------------------------------------------------------------------------------------------

    def _base(self, who: Customer, at: float, kind: str, channel: str, euros: float, currency: str) -> dict:
        return {
            "external_id": f"sim-{self.run}-{next(self._number)}",
            "type": kind,
            "channel": channel,
            "occurred_at": instant(at),
            "amount": money(euros, currency),
            "customer": {
                "id": who.id,
                "country": who.home.country,
                "since": who.since,
                "segment": who.segment,
                "birth_year": who.birth_year,
            },
            "account": {
                "id": who.account,
                "country": who.home.country,
                "opened_at": who.opened,
                "balance_before": money(who.balance, "EUR"),
            },
        }

    def _card_payment(
        self,
        who: Customer,
        at: float,
        merchant: Merchant,
        euros: float,
        *,
        card: Card | None = None,
        device: Device | None = None,
        mode: str = "",
        scenario: str = "",
        seen: bool = True,
    ) -> Simulated:
        """A purchase or a withdrawal. `seen`: the customer was there, so the next place must be within reach."""
        rng, online = self.rng, merchant.trade.online
        card = card or (rng.choice(who.cards) if rng.random() < 0.2 else who.cards[0])
        cash = merchant.trade.mcc == CASH
        channel = "ecommerce" if online else "atm" if cash else "card_present"
        kind = "cash_withdrawal" if cash else "purchase"
        payment = self._base(who, at, kind, channel, euros, merchant.place.currency)
        payment["instrument"] = "card"
        payment["card"] = self._card(who, card, merchant, mode)
        payment["merchant"] = {
            "id": merchant.id,
            "name": merchant.name,
            "mcc": merchant.trade.mcc,
            "country": merchant.place.country,
            "city": merchant.place.city,
            "terminal_id": rng.choice(merchant.terminals),
        }
        if online:
            self._online(payment, who, device or rng.choice(who.devices), euros, careless=bool(scenario))
        else:
            place = merchant.place
            payment["authentication"] = {"method": "pin" if euros > 50 or cash else "none"}
            payment["location"] = {"lat": place.lat, "lon": place.lon, "country": place.country, "source": "terminal"}
            if seen:
                who.last_place, who.last_seen = place, at
        who.balance = max(50.0, who.balance - euros)
        return self._made(payment, at, scenario)

    def _card(self, who: Customer, card: Card, merchant: Merchant, mode: str) -> dict:
        if not mode:
            draw = self.rng.random()
            mode = "contactless" if draw < 0.6 else "chip" if draw < 0.985 else "magstripe"
            if merchant.trade.online:
                mode = "credential_on_file" if draw < 0.35 else "ecommerce"
        return {
            "token": card.token,
            "bin": card.bin,
            "last4": card.last4,
            "scheme": card.scheme,
            "funding": card.funding,
            "issuer_country": who.home.country,
            "entry_mode": mode,
        }

    def _online(self, payment: dict, who: Customer, device: Device, euros: float, *, careless: bool) -> None:
        exempt = euros < 30 or self.rng.random() < (0.5 if careless else 0.25)
        payment["device"] = self._device(device)
        payment["session"] = self._session(payment)
        if exempt:
            exemption = "low_value" if euros < 30 else "tra"
            payment["authentication"] = {"method": "none", "sca": "exempt", "exemption": exemption}
        else:
            payment["authentication"] = {"method": who.method, "sca": "performed"}
            payment["card"]["three_ds"] = {"version": "2.2.0", "eci": "05", "status": "Y"}
        payment["card"]["cvv_result"] = "N" if careless and self.rng.random() < 0.25 else "M"

    def _transfer(
        self, who: Customer, at: float, payee: Payee, euros: float, *, device: Device, scenario: str = ""
    ) -> Simulated:
        rng = self.rng
        phone = device.os.startswith(("iOS", "Android"))
        payment = self._base(who, at, "transfer", "mobile_app" if phone else "online_banking", euros, who.home.currency)
        sure = 0.55 if scenario else 0.93
        payment["instrument"] = "account"
        payment["counterparty"] = {
            "id": payee.id,
            "country": payee.country,
            "bic": payee.bic,
            "vop_result": "match" if rng.random() < sure else rng.choice(("close", "no_match", "unavailable")),
        }
        payment["transfer"] = {"scheme": "sepa_inst" if scenario or rng.random() < 0.45 else "sepa_ct"}
        payment["device"] = self._device(device, remote=scenario in ("account_takeover", "mule") and rng.random() < 0.2)
        payment["session"] = self._session(payment)
        payment["authentication"] = {"method": who.method, "sca": "performed"}
        who.balance = max(50.0, who.balance - euros)
        return self._made(payment, at, scenario)

    def _device(self, device: Device, *, remote: bool = False) -> dict:
        told: dict = {"id": device.id, "ip": device.ip, "os": device.os, "language": "en"}
        told["user_agent"] = device.user_agent
        flags = ["remote_access"] if remote else []
        if device.ip.startswith(("203.0.113", "198.51.100", "192.0.2")) and self.rng.random() < 0.35:
            flags.append(self.rng.choice(("vpn", "proxy", "tor")))
        elif self.rng.random() < 0.03:
            flags.append("vpn")
        return told | {"flags": flags} if flags else told

    def _session(self, payment: dict) -> dict:
        began = datetime.fromisoformat(payment["occurred_at"]).timestamp() - exp(self.rng.gauss(5.0, 0.8))
        return {"id": token("ses", payment["external_id"], self.run), "started_at": instant(began)}

    def _made(self, payment: dict, at: float, scenario: str = "") -> Simulated:
        return Simulated(payment, at, scenario, self._report(scenario))

    def _report(self, scenario: str) -> Report | None:
        rng = self.rng
        if not scenario:
            if rng.random() < 0.002:  # an investigator looked, and found nothing
                return Report("legitimate", "investigator", "", rng.uniform(0.5, 30) * HOUR)
            return None
        draw = rng.random()
        for source, share, days, spread in REPORTS:
            draw -= share
            if draw < 0:
                return Report("fraud", source, FRAUD_TYPE[scenario], days * exp(rng.gauss(0, spread)) * DAY)
        return None


def kilometres(a: Place, b: Place) -> float:
    """Between two places, on a flat map: near enough for who can be where."""
    across = (a.lon - b.lon) * cos((a.lat + b.lat) * pi / 360)
    return 111.2 * sqrt((a.lat - b.lat) ** 2 + across**2)


def instant(at: float) -> str:
    """Unix seconds as RFC 3339 with milliseconds, UTC."""
    return datetime.fromtimestamp(round(at, 3), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def money(euros: float, currency: str) -> dict:
    """`euros` as an amount of `currency` in its minor units (JPY has none, KWD three)."""
    exponent = EXPONENT[currency]
    value = euros * PER_EURO[currency]
    return {"value": max(1, round(value * 10**exponent)), "currency": currency}


def hash_of(text: str) -> int:
    """A small stable number for a text (Python's own hash differs from process to process)."""
    return int.from_bytes(text.encode()[-6:], "big")


def expected_wait(rate: float, rng: random.Random) -> float:
    """Seconds to the next payment of a Poisson stream of `rate` a second."""
    return -log(1.0 - rng.random()) / rate
