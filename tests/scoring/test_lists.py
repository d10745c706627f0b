"""Putting on and taking off: by two persons or at once, on record for ever, and met by the next payment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from django.db import IntegrityError
from django.db.transaction import atomic
from django.utils import timezone

from alerts.models import Alert
from fraudsite import answering
from fraudsite.pipeline import drain
from scoring import entries, governance, lists, matching, releases, services, switches
from scoring.features import N_FEATURES, NAMES
from scoring.models import List, ListEntry, ListRemoval, Proposal, Release, Rule, RuleVersion
from tests.factories import make_user
from tests.judging import keep
from tests.scoring.conftest import APPROVE, PROPOSE
from tests.scoring.standing import standing
from transactions.codes import OUTCOME, entity_key
from transactions.facts import blank, micros

pytestmark = pytest.mark.django_db
LISTING = ("scoring.propose_list", "scoring.approve_list", "scoring.watch_list", "scoring.add_list")
DECLINE, REVIEW, CHALLENGED = (OUTCOME.code(text) for text in ("decline", "review", "challenge"))


@pytest.fixture
def dora(db):
    return make_user("dora", *LISTING, *PROPOSE, "scoring.pull_switch")


@pytest.fixture
def egon(db):
    return make_user("egon", *LISTING, *APPROVE)


@pytest.fixture
def block(lane, dora) -> List:
    return lists.create_list(lane, "stolen", kind="block", subject="card", by=dora)


@pytest.fixture
def watch(lane, dora) -> List:
    return lists.create_list(lane, "emulators", kind="watch", subject="device", by=dora)


def payments(n: int = 1, *, at: datetime | None = None, **tokens: str) -> np.ndarray:
    """`n` authorisations accepted at a moment (a second from now on, if none is given) of these entities."""
    facts = blank(n)
    facts["id"], facts["stage"], facts["type"] = np.arange(n) + 1, 1, 1
    facts["received_at"] = micros(at or timezone.now() + timedelta(seconds=1))
    for kind, token in tokens.items():
        facts[kind] = entity_key(kind, token)
    return facts


def judged(lane: Any, facts: np.ndarray) -> services.Decisions:
    """How what is in force judges them, without a model; of the features only remote access is known."""
    matrix = np.full((len(facts), N_FEATURES), np.nan, "f4")
    matrix[:, NAMES.index("device_remote_access")] = facts["device_flags"] & 4 != 0
    return services.decide(facts, matrix, releases.assemble(standing(lane).pk))


def on(held: List, value: str, by: Any, approver: Any, **about: Any) -> ListEntry:
    """An approved entry."""
    proposal = lists.propose_entry(held, value, by=by, reason="Seen in ring 12", **about)
    governance.approve(proposal, by=approver)
    return proposal.entries.get()


# --- two persons ------------------------------------------------------------------------------------------------------


def test_a_block_entry_counts_from_its_approval_on(lane, block, dora, egon):
    proposal = lists.propose_entry(block, "tok-93kf02mmx81q", by=dora, reason="Seen in ring 12")
    assert not ListEntry.objects.filter(list=block).exists()
    assert "tok-93kf02mmx81q" not in str(proposal.after)
    assert judged(lane, payments(card="tok-93kf02mmx81q")).outcomes[0] == OUTCOME.code("approve")
    release = governance.approve(proposal, by=egon)
    decided = judged(lane, payments(2, card="tok-93kf02mmx81q"))
    assert release.lists_version == standing(lane).lists_version == 2
    assert decided.outcomes.tolist() == [DECLINE] * 2
    entry = block.entries.get()
    assert (entry.value, entry.author, entry.proposal) == ("tok-…x81q", "dora", proposal)
    columns = decided.columns(np.array([1, 2]), micros(timezone.now()))
    assert entries.entry_ids(columns["list_hits"][1][0]) == [entry.pk]
    assert columns["basis"][1].tolist() == [services.BLOCK_LIST] * 2
    [reason, *_] = decided.reasons(0)
    assert (reason["code"], reason["source"]) == ("BLOCK_LIST", "list")
    assert reason["text"] == f"Card is on the block list “stolen” since {entry.valid_from:%-d %b %Y}: Seen in ring 12"


def test_the_proposer_cannot_approve_and_who_lacks_the_right_cannot_either(block, dora, stranger):
    proposal = lists.propose_entry(block, "tok-1", by=dora, reason="Mine")
    for person, refusal in ((dora, governance.SamePerson), (stranger, governance.NotAllowed)):
        with pytest.raises(refusal):
            governance.approve(proposal, by=person)
    with pytest.raises(governance.NotAllowed):
        lists.propose_entry(block, "tok-2", by=stranger, reason="Let me")
    with pytest.raises(governance.NotPossible):
        lists.add_watch_entry(block, "tok-2", by=dora, reason="At once")
    with pytest.raises(IntegrityError, match="approved_by_another_person"), atomic():
        Proposal.objects.filter(pk=proposal.pk).update(status="approved", decided_by=dora)


def test_a_system_may_propose_and_one_person_approves(block, egon, dora):
    made = lists.draft(block, "tok-1", reason="Reported stolen", author="Hotline", origin="api bank")
    proposal = governance.propose_list(block, [made], by=None, via="bank", reason="Reported stolen")
    assert proposal.proposer == "bank"
    governance.approve(proposal, by=egon)
    assert block.entries.get().author == "Hotline"
    with pytest.raises(IntegrityError, match="somebody_proposed_it"), atomic():
        Proposal.objects.filter(pk=proposal.pk).update(proposed_via="")


def test_taking_off_needs_two_persons_and_leaves_the_entry_on_record(lane, block, dora, egon):
    entry = on(block, "tok-1", dora, egon)
    before = timezone.now()
    proposal = lists.propose_removal(entry, by=dora, reason="Card was found")
    assert judged(lane, payments(card="tok-1")).outcomes[0] == DECLINE
    with pytest.raises(governance.SamePerson):
        governance.approve(proposal, by=dora)
    governance.approve(proposal, by=egon)
    assert judged(lane, payments(card="tok-1")).listed is None
    assert judged(lane, payments(card="tok-1", at=before)).outcomes[0] == DECLINE  # as it stood when that was accepted
    removal = ListRemoval.objects.get(entry=entry)
    assert (removal.removed_by, removal.reason) == ("dora, approved by egon", "Card was found")
    with pytest.raises(governance.NoChange):
        lists.propose_removal(entry, by=dora, reason="Again")
    proposal.refresh_from_db()
    back = governance.revert(proposal, by=dora, reason="It was stolen after all")
    governance.approve(back, by=egon)
    assert judged(lane, payments(card="tok-1")).outcomes[0] == DECLINE


def test_what_stands_there_cannot_be_proposed_again_and_a_second_proposal_grows_stale(block, dora, egon):
    first, second = (lists.propose_entry(block, "tok-1", by=dora, reason=why) for why in ("One", "Two"))
    governance.approve(first, by=egon)
    with pytest.raises(governance.Stale):
        governance.approve(second, by=egon)
    with pytest.raises(governance.NoChange):
        lists.propose_entry(block, "tok-1", by=dora, reason="Three")


def test_a_proposal_tells_how_many_payments_it_would_have_hit(lane, block, dora):
    from tests.factories import make_decision, make_transaction

    for outcome in ("approve", "review"):
        make_decision(make_transaction(card="tok-1", lane=lane), outcome=outcome, release=standing(lane))
    effect = lists.propose_entry(block, "tok-1", by=dora, reason="Stolen").effect
    assert (effect["touched"]["payments"], effect["touched"]["stopped"], effect["touched"]["value"]) == (2, 1, 25000)
    networks = lists.create_list(lane, "networks", kind="block", subject="ip", by=dora)
    assert lists.propose_entry(networks, "8000::/1", by=dora, reason="Half").effect["touched"]["payments"] == 0


# --- one person -------------------------------------------------------------------------------------------------------


def test_a_watch_entry_counts_at_once_and_changes_no_outcome_by_itself(lane, watch, dora, stranger):
    with pytest.raises(governance.NotAllowed):
        lists.add_watch_entry(watch, "dev-9", by=stranger, reason="Odd")
    with pytest.raises(governance.NotPossible, match="Say why"):
        lists.add_watch_entry(watch, "dev-9", by=dora, reason=" ")
    entry = lists.add_watch_entry(watch, "dev-9", by=dora, reason="Odd", origin="case 12")
    decided = judged(lane, payments(device="dev-9"))
    assert decided.outcomes[0] == OUTCOME.code("approve")
    assert (decided.basis(0), [each.id for each in decided.entries(0)]) == (0, [entry.pk])
    assert standing(lane).reason == "On watch list emulators: Odd"
    with pytest.raises(governance.NoChange):
        lists.add_watch_entry(watch, "dev-9", by=dora, reason="Again")
    lists.remove_watch_entry(entry, by=dora, reason="Known now")
    assert judged(lane, payments(device="dev-9")).listed is None
    with pytest.raises(governance.NoChange):
        lists.remove_watch_entry(entry, by=dora, reason="Again")


def test_an_entry_ends_by_itself(lane, watch, dora):
    ends = timezone.now() + timedelta(hours=1)
    lists.add_watch_entry(watch, "dev-9", by=dora, reason="For an hour", expires_at=ends)
    assert judged(lane, payments(device="dev-9", at=ends - timedelta(seconds=1))).listed is not None
    assert judged(lane, payments(device="dev-9", at=ends)).listed is None
    with pytest.raises(governance.NotPossible, match="over before"):
        lists.add_watch_entry(watch, "dev-8", by=dora, reason="Late", expires_at=timezone.now())


def test_a_release_is_judged_by_its_own_lists_for_ever(lane, watch, dora):
    first = lists.add_watch_entry(watch, "dev-1", by=dora, reason="One")
    then = standing(lane)
    lists.add_watch_entry(watch, "dev-2", by=dora, reason="Two")
    lists.remove_watch_entry(first, by=dora, reason="Gone")
    now = matching.load(lane.pk, standing(lane).lists_version)
    known = matching.load(lane.pk, then.lists_version)
    added_to = matching.load(lane.pk, standing(lane).lists_version, known)
    assert added_to.entries.tolist() == now.entries.tolist()
    facts = payments(2)
    facts["device"] = [entity_key("device", "dev-1"), entity_key("device", "dev-2")]
    assert [each.match(facts).hits[0].tolist() for each in (known, now)] == [[0], [1]]


# --- what a hit does --------------------------------------------------------------------------------------------------


def test_an_allow_list_that_says_so_lets_pass_unseen_unless_a_block_list_hits(lane, block, dora, egon):
    trusted = lists.create_list(lane, "trusted", kind="allow", subject="customer", skips_scoring=True, by=dora)
    on(trusted, "cust-1", dora, egon)
    on(block, "tok-1", dora, egon)
    switches.pull(lane, by=dora, reason="Test")  # no model, so that "degraded" tells who asked for it
    facts = payments(3, customer="cust-1")
    facts["card"][1] = entity_key("card", "tok-1")
    facts["customer"][2] = 5
    facts["device_flags"] = 4  # remote access: a live rule reviews it
    facts["amount_base"] = 50_000
    decided = judged(lane, facts)
    assert decided.outcomes.tolist() == [OUTCOME.code("approve"), DECLINE, REVIEW]
    assert [decided.basis(place) for place in range(3)] == [services.ALLOW_LIST, services.BLOCK_LIST, 0]
    assert decided.columns(np.arange(3), 0)["degraded"][1].tolist() == [0, services.MODEL_OFF, services.MODEL_OFF]
    assert decided.mask[0].sum() == 0
    assert decided.reasons(0)[0]["code"] == "ALLOW_LIST"


@pytest.mark.parametrize("stretch", [1, 2, 3, 6])
def test_a_batch_decided_in_stretches_is_the_batch_decided_at_once(lane, block, dora, egon, stretch: int):
    on(block, "tok-1", dora, egon)
    on(block, "tok-2", dora, egon)
    facts = payments(6)
    facts["card"][[2, 3]] = entity_key("card", "tok-1"), entity_key("card", "tok-2")
    facts["device_flags"][[1, 3]], facts["amount_base"], facts["stage"][5] = 4, 50_000, 2
    whole = judged(lane, facts)
    parts = [judged(lane, facts[at : at + stretch]) for at in range(0, 6, stretch)]
    again = services.joined(parts)
    assert all(whole.entries(place) == again.entries(place) != [] for place in (2, 3))
    assert [again.reasons(place) for place in range(6)] == [whole.reasons(place) for place in range(6)]
    columns, others = whole.columns(np.arange(6), 0), again.columns(np.arange(6), 0)
    assert columns.keys() == others.keys()
    for name, (kind, values) in columns.items():
        np.testing.assert_array_equal(others[name][1], values, err_msg=f"{name} {kind}")


def test_an_allow_list_that_does_not_say_so_only_tells_rules(lane, dora, egon):
    known = lists.create_list(lane, "known", kind="allow", subject="customer", by=dora)
    on(known, "cust-1", dora, egon)
    facts = payments(customer="cust-1")
    facts["device_flags"], facts["amount_base"] = 4, 50_000
    assert judged(lane, facts).outcomes[0] == REVIEW


def test_what_is_only_recorded_hits_no_list(lane, block, dora, egon):
    on(block, "tok-1", dora, egon)
    facts = payments(card="tok-1")
    facts["stage"] = 2
    assert judged(lane, facts).listed is None


def test_without_lists_nothing_is_matched(lane):
    Release.objects.filter(pk=standing(lane).pk).update(lists_version=0)
    releases._judges.clear()
    assert releases.assemble(standing(lane).pk).lists is None


def test_a_rule_asks_lists_and_the_reasons_name_the_entry(lane, watch, dora, egon):
    lists.add_watch_entry(watch, "dev-9", by=dora, reason="Odd")
    rule = Rule.objects.get(lane=lane, code="R-101")
    text = {"expression": 'device in list("emulators") and amount > 5', "outcome": "challenge"}
    governance.approve(governance.propose_rule(rule, mode="live", by=dora, reason="Try", text=text), by=egon)
    facts = payments(2, device="dev-9")
    facts["device"][1] = 77
    facts["amount_base"] = 1000
    decided = judged(lane, facts)
    assert decided.outcomes.tolist() == [CHALLENGED, OUTCOME.code("approve")]
    assert [each["source"] for each in decided.reasons(0)][:2] == ["rule R-101 v2", "list"]
    assert "emulators" in decided.reasons(0)[1]["text"]
    assert [each["rule"].code for each in lists.users(lane)["emulators"]] == ["R-101"]


def test_a_rule_that_declines_cannot_rest_on_a_watch_list(lane, watch, dora):
    rule = Rule.objects.get(lane=lane, code="R-101")  # it declines
    for expression in ('device in list("emulators")', "device in watch"):
        with pytest.raises(governance.NotPossible, match="watch list"):
            governance.propose_rule(rule, mode="live", by=dora, reason="Try", text={"expression": expression})
    governance.propose_rule(rule, mode="shadow", by=dora, reason="Try", text={"expression": "device in watch"})


# --- making lists, files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "with space"}, "letters"),
        ({"name": "stolen"}, "already"),
        ({"kind": "grey"}, "kind"),
        ({"subject": "shoe"}, "kind"),
        ({"outcome": "approve"}, "block list"),
        ({"skips_scoring": True}, "allow list"),
    ],
)
def test_a_list_that_cannot_be_is_refused(lane, block, dora, change, words):
    about: dict[str, Any] = {"name": "other", "kind": "block", "subject": "card", **change}
    with pytest.raises(governance.GovernanceError, match=words):
        lists.create_list(lane, about.pop("name"), by=dora, **about)


def test_a_file_goes_in_as_one_proposal_without_what_stands_there(lane, block, dora, egon):
    on(block, "tok-1", dora, egon)
    text = "value,reason,expires_at\ntok-1,,\ntok-2,Own reason,2099-01-31\ntok-3,,\ntok-3,,\n"
    drafts = lists.read_file(block, text, author="dora", reason="Reported")
    assert [each["reason"] for each in drafts] == ["Own reason", "Reported"]
    governance.approve(governance.propose_list(block, drafts, by=dora, reason="Reported"), by=egon)
    assert block.entries.count() == 3
    assert lists.written(block).splitlines()[0] == ",".join(lists.HEADER)
    assert "tok-2" not in lists.written(block)  # a card's token is kept nowhere
    with pytest.raises(governance.NotPossible, match="Line 3"):
        lists.read_file(block, "value\ntok-9\n" + "4111" + "1" * 12, author="dora", reason="Bad")
    with pytest.raises(governance.NotPossible, match="no CSV"):
        lists.read_file(block, "value\n" + "x" * 140_000, author="dora", reason="Bad")


def test_a_cell_that_a_spreadsheet_would_run_is_written_as_text(lane, dora):
    held = lists.create_list(lane, "shops", kind="watch", subject="merchant", by=dora)
    lists.add_watch_entry(held, "=HYPERLINK(1)", by=dora, reason="@odd")
    assert "'=HYPERLINK(1),'@odd" in lists.written(held)


# --- a lane -----------------------------------------------------------------------------------------------------------


def test_the_next_payment_meets_what_was_approved_and_its_decision_keeps_it(bank):
    dora, egon = make_user("dora", *LISTING), make_user("egon", *LISTING)
    trusted = lists.create_list(bank.lane, "trusted", kind="allow", subject="customer", skips_scoring=True, by=dora)
    held = lists.create_list(bank.lane, "devices", kind="block", subject="device", by=dora)
    [before] = keep(bank, "pay-1", device__id="dev-77")
    drain(bank.lane_id)
    entry, passing = on(held, "dev-77", dora, egon), on(trusted, "cust-9", dora, egon)
    [after] = keep(bank, "pay-2", device__id="dev-77")
    [passed] = keep(bank, "pay-3", device__id="dev-78", customer__id="cust-9")
    drain(bank.lane_id)
    found = answering.find([before, after, passed])
    assert [found[each]["outcome"] for each in (before, after, passed)] == ["approve", "decline", "approve"]
    assert [found[each]["basis"] for each in (before, after, passed)] == [None, "block_list", "allow_list"]
    assert found[passed]["reasons"][0]["text"] == entries.sentence(passing)
    assert not found[passed]["degraded"]
    assert Alert.objects.get().reasons[0]["text"] == entries.sentence(entry)
    [kept] = answering_rows(after)
    assert entries.entry_ids(kept) == [entry.pk]


def answering_rows(transaction_id: int) -> list[bytes]:
    from scoring.models import Decision

    return list(Decision.objects.filter(transaction_id=transaction_id).values_list("list_hits", flat=True))


# --- kill switches ----------------------------------------------------------------------------------------------------


def test_one_person_switches_a_rule_off_and_on_again_and_it_stays_on_record(lane, dora, stranger):
    rule = Rule.objects.get(lane=lane, code="R-106")
    facts = payments()
    facts["device_flags"], facts["amount_base"] = 4, 50_000
    assert judged(lane, facts).outcomes[0] == REVIEW
    with pytest.raises(governance.NotAllowed):
        switches.pull(lane, rule, by=stranger, reason="Noise")
    with pytest.raises(governance.NotPossible):
        switches.pull(lane, rule, by=dora, reason=" ")
    release = switches.pull(lane, rule, by=dora, reason="It stops everybody")
    decided = judged(lane, facts)
    assert (decided.outcomes[0], decided.mask.sum()) == (OUTCOME.code("approve"), 0)
    assert governance.standing_rule(rule)[1] == RuleVersion.Mode.LIVE  # what was approved stands
    [shown] = switches.pulled(lane)
    assert (shown.act.by, shown.act.reason, shown.act.release) == (dora, "It stops everybody", release)
    with pytest.raises(governance.NoChange):
        switches.pull(lane, rule, by=dora, reason="Again")
    switches.restore(lane, rule, by=dora, reason="Mended")
    assert judged(lane, facts).outcomes[0] == REVIEW
    assert [each.act for each in switches.acts(lane, rule)] == ["restored", "pulled"]
    assert standing(lane).pulled == {}


def test_a_rule_that_is_switched_off_stays_off_through_approvals(lane, dora, egon):
    rule = Rule.objects.get(lane=lane, code="R-106")
    switches.pull(lane, rule, by=dora, reason="It stops everybody")
    change = governance.propose_rule(rule, mode="live", by=dora, reason="Milder", text={"outcome": "challenge"})
    governance.approve(change, by=egon)
    facts = payments()
    facts["device_flags"], facts["amount_base"] = 4, 50_000
    assert judged(lane, facts).outcomes[0] == OUTCOME.code("approve")
    switches.restore(lane, rule, by=dora, reason="Milder now")
    assert judged(lane, facts).outcomes[0] == CHALLENGED


def test_the_models_switch_leaves_the_rules_and_says_so(lane, dora, monkeypatch):
    from scoring import registry
    from tests.scoring.test_governance import make_model

    class Scorer:
        def score(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.full(len(matrix), 0.97), np.full(len(matrix), 3.0)

    monkeypatch.setattr(registry, "load", lambda version: Scorer())
    releases.activate(lane, by="test", reason="A model", model=make_model(lane, "kill-1"))
    assert judged(lane, payments()).scores[0] > 0
    switches.pull(lane, by=dora, reason="It went mad")
    decided = judged(lane, payments())
    assert (decided.scores[0], decided.degraded) == (-1, services.MODEL_OFF)
    assert decided.judge.names["model_version"] == ""
    assert standing(lane).model is not None
    switches.restore(lane, by=dora, reason="Well again")
    assert judged(lane, payments()).degraded == 0
    assert datetime.now(UTC) - switches.acts(lane)[0].at < timedelta(minutes=1)
