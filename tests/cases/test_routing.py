"""Routes: pure functions over alerts by tables; then what they do to cases."""

from types import SimpleNamespace

import pytest

from cases import routing, services
from cases.models import Case, Queue, Route
from cases.routing import BadConditions, Table
from tests.factories import WORK, make_alert, make_case, make_lane, make_queue, make_user
from transactions.codes import entity_key

fits = routing.test_of  # under another name: pytest takes test_… of this module for tests


def alert(**fields):
    values = {
        "channel": "atm",
        "country": "DE",
        "currency": "EUR",
        "outcome": "review",
        "score": 800,
        "amount_base": 5000,
        "reasons": [{"code": "MERCHANT_RISK"}],
        "rules": [{"rule": "R-1", "mode": "live"}, {"rule": "R-2", "mode": "shadow"}],
    }
    return SimpleNamespace(**(values | fields))


@pytest.mark.parametrize(
    "conditions, expected",
    [
        ({}, True),
        ({"channels": ["atm", "branch"]}, True),
        ({"channels": ["branch"]}, False),
        ({"countries": ["DE"]}, True),
        ({"currencies": ["USD"]}, False),
        ({"outcomes": ["decline"]}, False),
        ({"reason_codes": ["MERCHANT_RISK", "X"]}, True),
        ({"reason_codes": ["X"]}, False),
        ({"rules": ["R-1"]}, True),
        ({"rules": ["R-2"]}, False),  # in shadow, it did not speak
        ({"score_from": 800}, True),
        ({"score_below": 800}, False),
        ({"amount_from": 5001}, False),
        ({"amount_below": 5001}, True),
        ({"channels": ["atm"], "score_from": 900}, False),
        ({"channels": ["atm"], "score_from": 700, "amount_from": 1}, True),
    ],
)
def test_all_conditions_must_hold(conditions, expected):
    assert fits(conditions)(alert()) is expected


@pytest.mark.parametrize(
    "conditions, name",
    [
        ({"colour": ["red"]}, "colour"),
        ({"channels": "atm"}, "channels"),
        ({"channels": []}, "channels"),
        ({"channels": ["teleporter"]}, "channels"),
        ({"countries": ["XX"]}, "countries"),
        ({"score_from": "700"}, "score_from"),
        ({"score_from": -1}, "score_from"),
        ({"score_from": True}, "score_from"),
        ({"score_from": 800, "score_below": 800}, "score_below"),
        ({"amount_from": 10, "amount_below": 5}, "amount_below"),
        ([], "conditions"),
    ],
)
def test_conditions_that_cannot_be_are_refused_by_name(conditions, name):
    with pytest.raises(BadConditions) as refused:
        routing.check(conditions)
    assert set(refused.value.errors) == {name}


def test_conditions_that_can_be_are_taken():
    routing.check({"channels": ["atm"], "countries": ["DE"], "rules": ["R-1"], "score_from": 0, "score_below": 1001})
    assert routing.in_words({"channels": ["atm", "api"], "score_from": 900}) == "channel is atm or api, score from 900"
    assert routing.in_words({}) == "every alert"


def queues_and_routes(*routes):
    cards, payments, incidents = (
        Queue(id=1, name="Cards", channels=[]),
        Queue(id=2, name="Payments", channels=["api"]),
        Queue(id=3, name="Incidents"),
    )
    made = [Route(id=i, name=f"r{i}", queue_id=queue, conditions=c) for i, (queue, c) in enumerate(routes, 1)]
    return Table([cards, payments, incidents], made)


@pytest.mark.parametrize(
    "routes, given, name",
    [
        ([], {"channel": "atm"}, "Cards"),
        ([], {"channel": "api"}, "Payments"),
        ([(3, {"reason_codes": ["MERCHANT_RISK"]})], {"channel": "api"}, "Incidents"),
        ([(3, {"score_from": 900}), (2, {})], {"score": 950}, "Incidents"),
        ([(3, {"score_from": 900}), (2, {})], {"score": 850}, "Payments"),
        ([(9, {})], {"channel": "atm"}, "Cards"),  # a queue of another lane
    ],
)
def test_the_first_route_that_fits_wins_else_the_channel_decides(routes, given, name):
    assert queues_and_routes(*routes).queue_of(alert(**given)).name == name


def test_the_effect_counts_every_alert_once():
    table = queues_and_routes((3, {"score_from": 900}))
    effect = routing.effect(table, [alert(score=950), alert(score=10), alert(score=10, channel="api")])
    assert (effect.alerts, effect.by_route, effect.by_queue) == (3, {1: 1, 0: 2}, {3: 1, 1: 1, 2: 1})


# --- on the database --------------------------------------------------------------------------------------------------


@pytest.fixture
def ines(db):
    return make_user("ines", *WORK)


def test_a_route_is_tried_before_it_is_saved(ines):
    cards, high = make_queue(ines), make_queue(ines, name="High")
    make_alert("anna", score=950)
    make_alert("ben", score=650)
    draft = Route(lane=make_lane(), name="High scores", queue=high, conditions={"score_from": 900})
    before, after = routing.tried(draft, routing.last_alerts(draft.lane_id))
    assert before.by_queue == {cards.pk: 2}
    assert after.by_queue == {cards.pk: 1, high.pk: 1}
    assert after.by_route == {None: 1, 0: 1}
    assert not Route.objects.exists()


def test_routes_send_alerts_to_their_queues_in_order(ines):
    make_queue(ines)
    second, first = make_queue(ines, name="Second"), make_queue(ines, name="First")
    lane = make_lane()
    Route.objects.create(lane=lane, name="all", position=20, queue=second)
    Route.objects.create(lane=lane, name="high", position=10, queue=first, conditions={"score_from": 900})
    Route.objects.create(lane=lane, name="off", position=1, queue=second, is_active=False)
    make_alert("anna", score=950)
    make_alert("ben", score=650)
    services.open_cases()
    assert {case.customer_ref: case.queue for case in Case.objects.all()} == {"anna": first, "ben": second}


def test_a_compromised_terminal_is_one_case_with_hundreds_of_payments(ines, django_assert_max_num_queries):
    make_queue(ines)
    incidents = make_queue(ines, name="Incidents", grouping="merchant")
    Route.objects.create(lane=make_lane(), name="in", queue=incidents, conditions={"reason_codes": ["MERCHANT_RISK"]})
    told = [{"code": "MERCHANT_RISK", "text": "x", "source": "model", "contribution": 0.0}]
    for number in range(150):
        make_alert(f"customer-{number}", merchant="shop-1", reasons=told)
    services.open_cases()
    for number in range(150):
        make_alert(f"later-{number}", merchant="shop-1", reasons=told)
    with django_assert_max_num_queries(14):  # joining hundreds costs what joining one costs
        services.open_cases()
    case = Case.objects.get()
    assert (case.queue, case.alert_count, case.grouping_key) == (incidents, 300, entity_key("merchant", "shop-1"))
    assert list(case.events.values_list("kind", flat=True)) == ["alert_added", "opened"]


def test_an_incident_names_its_merchant_or_device(ines):
    merchants = make_queue(ines, name="Merchants", grouping="merchant")
    devices = make_queue(ines, name="Devices", grouping="device")
    shop = make_alert("anna", merchant="shop-1", document={"merchant": {"id": "shop-1", "name": "Kaufhof Nord"}})
    phone = make_alert("ben", device="dev-9")
    cases = [
        make_case(shop, queue=merchants),
        make_case(phone, queue=devices),
        make_case(queue=make_queue(ines)),
        make_case(make_alert("carl"), queue=merchants, grouping_key=7),
    ]
    found = routing.subjects(cases)
    assert found[cases[0].pk] == routing.Subject("Merchant", "Kaufhof Nord", "shop-1")
    assert found[cases[1].pk] == routing.Subject("Device", "dev-9", "dev-9")
    assert set(found) == {cases[0].pk, cases[1].pk}
