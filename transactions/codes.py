"""Every enumeration of a payment as a table of text and small integer.

Facts are stored fixed-width so that a batch travels between Postgres and NumPy without per-row Python; people and
programs see the text. Code 0 always means "not sent". A code, once given, never changes its meaning: new texts are
appended. Sources of the names: `docs/integrate.md`; countries are ISO 3166-1, currencies ISO 4217.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b

from django.conf import settings


class CodeTable:
    """A closed set of texts, each with a small positive integer; `""` is 0."""

    def __init__(self, name: str, codes: dict[str, int] | Iterable[str]):
        table = dict(codes) if isinstance(codes, dict) else {text: n for n, text in enumerate(codes, start=1)}
        self.name = name
        self.codes: dict[str, int] = {"": 0, **table}
        self.texts: dict[int, str] = {code: text for text, code in self.codes.items()}

    def code(self, text: str | None) -> int:
        """The integer of `text` (None and "" are 0). Raises KeyError for an unknown text."""
        return self.codes[text or ""]

    def text(self, code: int) -> str:
        """The text of `code`; an unknown code, which only newer software writes, shows as `?n`."""
        return self.texts.get(int(code), f"?{code}")

    def __contains__(self, text: object) -> bool:
        return text in self.codes and text != ""

    def __iter__(self):
        return iter(text for text in self.codes if text)

    @property
    def choices(self) -> list[tuple[int, str]]:
        return [(code, text) for text, code in self.codes.items()]


TYPE = CodeTable(
    "type",
    ["purchase", "cash_withdrawal", "transfer", "direct_debit", "top_up", "refund", "reversal", "fee", "other"],
)
STAGE = CodeTable("stage", ["authorisation", "clearing", "advice", "reversal"])
DIRECTION = CodeTable("direction", ["debit", "credit"])
CHANNEL = CodeTable(
    "channel",
    [
        "card_present",
        "ecommerce",
        "atm",
        "mobile_app",
        "online_banking",
        "branch",
        "phone",
        "batch",
        "api",
        "other",
    ],
)
INSTRUMENT = CodeTable("instrument", ["card", "account", "wallet", "cash", "other"])
SEGMENT = CodeTable("segment", ["retail", "premium", "sme", "corporate"])
SCHEME = CodeTable(
    "scheme",
    ["visa", "mastercard", "amex", "discover", "jcb", "unionpay", "maestro", "domestic", "other"],
)
FUNDING = CodeTable("funding", ["credit", "debit", "prepaid", "unknown"])
ENTRY_MODE = CodeTable(
    "entry_mode",
    ["chip", "contactless", "magstripe", "manual", "credential_on_file", "ecommerce", "fallback"],
)
AUTHENTICATION = CodeTable(
    "authentication",
    ["none", "password", "otp_sms", "otp_app", "push", "biometric", "passkey", "hardware", "pin"],
)
SCA = CodeTable("sca", ["performed", "exempt", "out_of_scope", "failed"])
EXEMPTION = CodeTable(
    "exemption",
    [
        "low_value",
        "recurring",
        "trusted_beneficiary",
        "tra",
        "contactless",
        "unattended",
        "corporate",
        "none",
    ],
)
THREE_DS = CodeTable("three_ds", ["Y", "N", "A", "U", "C", "R", "I"])
VOP = CodeTable("vop", ["match", "close", "no_match", "unavailable"])
TRANSFER_SCHEME = CodeTable(
    "transfer_scheme",
    ["sepa_ct", "sepa_inst", "sepa_dd", "ach", "wire", "rtp", "fednow", "fps", "chaps", "swift", "internal", "other"],
)
LOCATION_SOURCE = CodeTable("location_source", ["gps", "ip", "terminal"])
RESULT = CodeTable("result", [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ", *"0123456789"])
INTAKE = CodeTable("intake", ["live", "history"])
OUTCOME = CodeTable("outcome", ["approve", "challenge", "review", "decline", "recorded"])
VERDICT = CodeTable("verdict", ["legitimate", "fraud", "withdrawn"])
LABEL_SOURCE = CodeTable("label_source", ["import", "customer", "investigator", "chargeback"])
FRAUD_TYPE = CodeTable(
    "fraud_type",
    [
        "lost_stolen",
        "card_not_present",
        "counterfeit",
        "account_takeover",
        "payer_manipulated",
        "mule",
        "first_party",
        "synthetic_id",
        "merchant_collusion",
        "other",
    ],
)

ENTITY = CodeTable("entity", ["customer", "account", "card", "device", "ip", "merchant", "terminal", "counterparty"])

# Bits of the set `device.flags`.
DEVICE_FLAGS: dict[str, int] = {
    "emulator": 1,
    "rooted": 2,
    "remote_access": 4,
    "proxy": 8,
    "vpn": 16,
    "tor": 32,
}

_COUNTRIES = re.findall(
    r"[A-Z]{2}",
    """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC
CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD
GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH
KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW
MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC
SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY
UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
""",
)


def _country_code(alpha2: str) -> int:
    return (ord(alpha2[0]) - 64) * 32 + ord(alpha2[1]) - 64


COUNTRY = CodeTable("country", {alpha2: _country_code(alpha2) for alpha2 in _COUNTRIES})

# Active ISO 4217 codes that a payment can be made in: alpha, numeric, exponent (decimals).
_CURRENCIES = """
AED 784 2,AFN 971 2,ALL 008 2,AMD 051 2,AOA 973 2,ARS 032 2,AUD 036 2,AWG 533 2,AZN 944 2,BAM 977 2,BBD 052 2,
BDT 050 2,BHD 048 3,BIF 108 0,BMD 060 2,BND 096 2,BOB 068 2,BRL 986 2,BSD 044 2,BTN 064 2,BWP 072 2,
BYN 933 2,BZD 084 2,CAD 124 2,CDF 976 2,CHF 756 2,CLP 152 0,CNY 156 2,COP 170 2,CRC 188 2,CUP 192 2,CVE 132 2,
CZK 203 2,DJF 262 0,DKK 208 2,DOP 214 2,DZD 012 2,EGP 818 2,ERN 232 2,ETB 230 2,EUR 978 2,FJD 242 2,FKP 238 2,
GBP 826 2,GEL 981 2,GHS 936 2,GIP 292 2,GMD 270 2,GNF 324 0,GTQ 320 2,GYD 328 2,HKD 344 2,HNL 340 2,HTG 332 2,
HUF 348 2,IDR 360 2,ILS 376 2,INR 356 2,IQD 368 3,IRR 364 2,ISK 352 0,JMD 388 2,JOD 400 3,JPY 392 0,KES 404 2,
KGS 417 2,KHR 116 2,KMF 174 0,KPW 408 2,KRW 410 0,KWD 414 3,KYD 136 2,KZT 398 2,LAK 418 2,LBP 422 2,LKR 144 2,
LRD 430 2,LSL 426 2,LYD 434 3,MAD 504 2,MDL 498 2,MGA 969 2,MKD 807 2,MMK 104 2,MNT 496 2,MOP 446 2,MRU 929 2,
MUR 480 2,MVR 462 2,MWK 454 2,MXN 484 2,MYR 458 2,MZN 943 2,NAD 516 2,NGN 566 2,NIO 558 2,NOK 578 2,NPR 524 2,
NZD 554 2,OMR 512 3,PAB 590 2,PEN 604 2,PGK 598 2,PHP 608 2,PKR 586 2,PLN 985 2,PYG 600 0,QAR 634 2,RON 946 2,
RSD 941 2,RUB 643 2,RWF 646 0,SAR 682 2,SBD 090 2,SCR 690 2,SDG 938 2,SEK 752 2,SGD 702 2,SHP 654 2,SLE 925 2,
SOS 706 2,SRD 968 2,SSP 728 2,STN 930 2,SVC 222 2,SYP 760 2,SZL 748 2,THB 764 2,TJS 972 2,TMT 934 2,TND 788 3,
TOP 776 2,TRY 949 2,TTD 780 2,TWD 901 2,TZS 834 2,UAH 980 2,UGX 800 0,USD 840 2,UYU 858 2,UZS 860 2,VED 926 2,
VES 928 2,VND 704 0,VUV 548 0,WST 882 2,XAF 950 0,XCD 951 2,XCG 532 2,XOF 952 0,XPF 953 0,YER 886 2,ZAR 710 2,
ZMW 967 2,ZWG 924 2
"""
_ROWS = [row.split() for row in _CURRENCIES.replace("\n", "").split(",")]

CURRENCY = CodeTable("currency", {alpha: int(numeric) for alpha, numeric, _ in _ROWS})
EXPONENT: dict[str, int] = {alpha: int(exponent) for alpha, _, exponent in _ROWS}


def entity_key(kind: str, token: str | None) -> int:
    """The signed 64-bit key under which an entity is known to profiles and links; 0 for "not sent".

    Keyed (`settings.ENTITY_KEY`), so that a dump of the facts tells nobody who paid; the kind takes part, so that a
    customer and a device with the same token stay two entities.
    """
    if not token:
        return 0
    hasher = _keyed(kind).copy()
    hasher.update(token.encode())
    return int.from_bytes(hasher.digest(), "big", signed=True) or 1


@cache
def _keyed(kind: str) -> blake2b:
    """A hash that has taken in the secret and the kind already: half the work of each key."""
    return blake2b(digest_size=8, key=settings.ENTITY_KEY.encode()[:64], person=kind.encode()[:16])
