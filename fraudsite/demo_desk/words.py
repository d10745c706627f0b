"""What the demo's people write: verdicts with their reasons, notes, tags, the team's texts and views."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

# Of each fraud type: the structured reasons, what the person wrote, and the notes on the way there.
FRAUD: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "card_not_present": (
        ("FR-05", "FR-01"),
        (
            "Customer reached by phone, does not know the shop and still has the card. Card blocked, new one ordered.",
            "Small amounts tried first, then the large one, all from a device the customer never used. Card blocked.",
            "Customer denies the purchase and never received the confirmation. Chargeback prepared.",
        ),
        (
            "Same device tried other cards within the hour. Looks like **card testing**, see the link graph.",
            "The shop confirms delivery to an address that is not the customer's.",
            "Security code was wrong twice before it went through.",
        ),
    ),
    "account_takeover": (
        ("FR-02", "FR-03"),
        (
            "New phone enrolled just before, then the account was emptied. Customer had typed a code on a false page.",
            "Customer did not sign in at that time. Sessions ended, credentials reset, receiving bank told.",
            "Caller pretended to be the bank and got the code. Access reset together with the customer.",
        ),
        (
            "Device enrolled minutes before the first transfer. Customer's own phone was in use at the same time.",
            "Sent a recall to the receiving bank. They hold the rest of the money.",
            "Limit was raised just before. *Change undone.*",
        ),
    ),
    "lost_stolen": (
        ("FR-01", "FR-07"),
        (
            "Card was stolen with the bag; the customer had not noticed yet. Card blocked.",
            "Customer is at home, the card is not: terminal abroad, magnetic stripe. Card blocked, police told.",
        ),
        (
            "Two places within an hour that nobody can travel between.",
            "Customer checks the wallet while on the phone: the card is gone.",
        ),
    ),
    "payer_manipulated": (
        ("FR-04",),
        (
            "Customer was told by phone to move the money to a safe account. Recall sent to the receiving bank.",
            "Customer believed a message from a relative with a new number. Warnings were clicked away.",
        ),
        (
            "The story is the same as in other cases of this payee: *your money is in danger*.",
            "Customer is upset, asked for a call by the branch tomorrow.",
        ),
    ),
    "mule": (
        ("FR-06", "FR-07"),
        (
            "The account is worked from a phone that works several other accounts too. Handed over for closing.",
            "Money comes in and leaves to the same payee within the hour. Account blocked, incoming payments traced.",
        ),
        (
            "**One phone, several customers, one payee.** See the graph before you call anybody.",
            "Customer says a friend uses the account for a fee.",
        ),
    ),
    "merchant_collusion": (
        ("FR-07", "FR-01"),
        (
            "Several customers of this merchant were charged more than they signed for. Acquirer told.",
            "Amounts do not match the receipts the customers sent in. Terminal taken out of service by the acquirer.",
        ),
        (
            "Receipt says less than a third of what was booked.",
            "Third call about this shop today. Keep payments there together in the incident.",
        ),
    ),
}
OTHER_FRAUD = (
    ("FR-07",),
    ("Pattern matches frauds confirmed before; the customer denies the payment.",),
    ("Compared with the frauds of last month.",),
)

GENUINE = (
    ("LG-01", "Reached by phone; the customer made the payment and expected the call."),
    ("LG-01", "Customer confirmed in the app within minutes. Amount and payee are right."),
    ("LG-02", "Same amount at the same time every year; the first one with this device."),
    ("LG-03", "Customer is on a journey until next week and told the branch before."),
    ("LG-03", "Customer moved; address and new phone are known since last month."),
    ("LG-04", "Payee is the customer's own account at another bank."),
    ("LG-04", "Known merchant under a new name after a takeover; others pay there too."),
)
USEFUL = (
    ("LG-01", "Customer made the payment, but the alert was right: everything else speaks for a takeover."),
    ("LG-02", "Genuine this time. Same pattern as the frauds of last week, worth looking at again."),
)
OPEN_ENDED = (
    ("IN-01", "Not reached after three tries on two days; letter sent, limits lowered meanwhile."),
    ("IN-02", "Customer is not sure, the shop has a signed receipt. Neither can be shown."),
)
TWICE = ("DU-01", "The same payment is worked in the other case of this customer.")
MISTAKEN = ("LG-01", "Somebody at the customer's number confirmed the payment.")
NOTES = (
    "Called the number on file, no answer. Left a message without details.",
    "Spoke to the customer. Date of birth and last two payments were right.",
    "Called twice, busy. Trying again before noon.",
    "Compared with the payments of the last 30 days: amount is high, place is usual.",
    "Customer calls back after work, asked for an appointment at 18:00.",
    "Looked at the device: same one as in spring, only the system is newer.",
)
CORRECTIONS = (
    "Correction: it was the *second* payment the customer denied, not the first.",
    "Correction: the call was today, not yesterday.",
)
MENTIONS = (
    "@{name} you had this customer last month, does the story fit?",
    "@{name} please look at the payee, I think we know that one.",
    "@{name} for your information: the amount is close to the four-eyes limit.",
)
ESCALATIONS = (
    "Payee appears in other open cases. Please decide on all of them together.",
    "Customer is a premium client and wants to speak to somebody who decides.",
    "Limits of my role: the money has left already, the receiving bank wants a written recall.",
    "Could be a ring: the phone is used by several customers.",
)
LEADS = (
    "Looked at the graph with the team; agreed how to go on.",
    "Receiving bank answered, rest of the money is held.",
)
WAITS = (
    ("customer", "Customer calls back after a journey."),
    ("customer", "Wrote to the customer through the app; waiting for the answer."),
    ("chargeback", "Merchant's answer to the dispute is due."),
    ("", "Receiving bank answers on working days only."),
    ("", "Police report was promised for this week."),
)
RELEASES = ("End of my shift, nothing done yet that is not in the notes.", "Needs somebody who speaks Polish.")
APPROVALS = ("", "Agreed, read the notes and the recall.", "Fine. Tell the branch as well.", "")
REJECTIONS = ("Please reach the customer first; the note only says a message was left.",)
REOPENS = (
    "The customer called back and tells another story than the person on the phone before.",
    "New document from the merchant: the receipt is not signed by the customer.",
)
LATE = (
    "The dispute is right: the number called before was changed by the thief.",
    "The customer's complaint holds; the first check was too short.",
)
LEFT_CLOSED = ("The customer disputes every payment there; the goods were delivered and used.",)
REVIEWS: dict[str, tuple[str, ...]] = {
    "agree": ("", "", "Clear case, well told.", "Right, and quick."),
    "disagree": (
        "The customer was not reached on a number that was on file before; I would have called it suspected.",
        "Two things speak for fraud that the rationale does not mention: the new device and the payee.",
    ),
    "process_error": (
        "Right result, but the required steps of the checklist are not ticked.",
        "The rationale does not say who was called, and on which number.",
    ),
}
TAGS: dict[str, tuple[str, ...]] = {
    "card_not_present": ("card-testing", "e-commerce"),
    "account_takeover": ("phishing", "sim-swap", "recall-sent"),
    "lost_stolen": ("abroad", "card-blocked"),
    "payer_manipulated": ("safe-account-story", "recall-sent"),
    "mule": ("ring", "mule-account"),
    "merchant_collusion": ("merchant", "acquirer-told"),
    "": ("call-back", "travel", "vip", "new-phone"),
}
SNIPPETS = (
    ("Not reached", "Called the number on file at __:__, no answer. No message left. Next try: "),
    ("Recall sent", "Recall sent to the receiving bank at __:__, reference: \nAnswer expected by: "),
    ("Safe-account story", "The customer was called by somebody who said he was from the bank, and was told to: "),
    ("Identity checked", "Spoke to the customer. Identity checked by: date of birth, last two payments, "),
)
INCIDENT = (
    "**Compromised terminal.** Receipts of three customers show less than half of what was booked. Acquirer called.",
    "Payments join here until the terminal is off. Close as one, except those the customers confirm.",
)
ABSENCES = (  # who, from and until so many days from now, why
    ("noor", -1, 1, "Ill"),
    ("amara", 2, 3, "Training: calls with victims"),
    ("jonas", 5, 14, "Leave"),
)
VIEWS: tuple[tuple[str, str, dict[str, str], bool], ...] = (  # owner, name, filters, shared with the team
    ("lead", "High value", {"amount_from": "1000", "sort": "-amount"}, True),
    ("lead", "Due today, nobody's", {"assignee": "none", "due": "today"}, True),
    ("investigator", "Rings", {"tag": "ring"}, True),
    ("investigator", "My waiting cases", {"assignee": "me", "status": "waiting"}, False),
)


def verdict(frauds: Mapping[int, str], rng: Random) -> dict[str, Any]:
    """What somebody finds of a case, as `close_case` takes it; `frauds`: the truth of each alert ("": none)."""
    found = sorted(filter(None, frauds.values()))
    return _of_fraud(frauds, found[0], rng) if found else _of_none(rng)


def genuine(rng: Random) -> dict[str, Any]:
    """The customer made the payments."""
    return _said("legitimate", rng.choice(GENUINE))


def certain(frauds: Mapping[int, str], rng: Random) -> dict[str, Any]:
    """The same by somebody who makes no mistake."""
    found = sorted(filter(None, frauds.values()))
    return confirmed(frauds, found[0], rng) if found else genuine(rng)


def confirmed(frauds: Mapping[int, str], fraud_type: str, rng: Random, word: str = "confirmed_fraud") -> dict[str, Any]:
    """A fraud, with the payments of the case that are none excepted."""
    reasons, texts, _ = FRAUD.get(fraud_type, OTHER_FRAUD)
    said = _said(word, (rng.choice(reasons), rng.choice(texts)))
    genuine = {alert: "legitimate" for alert, what in frauds.items() if not what}
    return said | {"fraud_type": fraud_type, "verdicts": genuine}


def _of_fraud(frauds: Mapping[int, str], fraud_type: str, rng: Random) -> dict[str, Any]:
    draw = rng.random()
    if draw < 0.05:
        return _said("legitimate", MISTAKEN)
    if draw < 0.09:
        return _said("inconclusive", rng.choice(OPEN_ENDED))
    return confirmed(frauds, fraud_type, rng, "suspected_fraud" if draw < 0.18 else "confirmed_fraud")


def _of_none(rng: Random) -> dict[str, Any]:
    draw = rng.random()
    if draw < 0.04:
        return _said("duplicate", TWICE)
    if draw < 0.10:
        return _said("inconclusive", rng.choice(OPEN_ENDED))
    return _said("legitimate_useful", rng.choice(USEFUL)) if draw < 0.22 else genuine(rng)


def _said(disposition: str, reason: tuple[str, str]) -> dict[str, Any]:
    return {"disposition": disposition, "close_reason": reason[0], "rationale": reason[1]}


def notes(fraud_type: str, rng: Random) -> list[str]:
    """What is written down before the verdict: nothing, or one or two notes."""
    known = (*NOTES, *(2 * FRAUD.get(fraud_type, OTHER_FRAUD)[2] if fraud_type else ()))
    return rng.sample(known, rng.choice((0, 0, 1, 1, 2)))
