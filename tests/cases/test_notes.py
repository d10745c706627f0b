"""Notes: what they may hold, whom they tell, where they show, and that nobody rewrites them."""

import pytest
from django.db import DatabaseError
from django.db.transaction import atomic

from cases import mentions, notes, services, snippets
from cases.history import NotAllowed
from cases.markup import marked_up, names_in, plain
from cases.models import CaseEvent, Mention, Note, Sighting
from tests.factories import LEAD, READ, WORK, make_alert, make_case, make_queue, make_user
from transactions.codes import entity_key

CARD = "4111 1111 1111 1111"


@pytest.fixture
def owner(db):
    return make_user("ines", *WORK, first_name="Ines")


@pytest.fixture
def mate(db):
    return make_user("tomas", *WORK, first_name="Tomas")


@pytest.fixture
def stranger(db):
    return make_user("stranger", *WORK)


@pytest.fixture
def queue(owner, mate):
    return make_queue(owner, mate)


@pytest.fixture
def case(queue):
    return make_case(make_alert("cust-1", card="card-1", merchant="shop-1"), queue=queue)


# --- markup -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("plain", "<p>plain</p>"),
        ("**bold** and *slanted*", "<p><strong>bold</strong> and <em>slanted</em></p>"),
        ("one\ntwo\n\nthree", "<p>one<br>two</p><p>three</p>"),
        ("- a\n- b", "<ul><li>a</li><li>b</li></ul>"),
        ("1. a\n2) b", "<ol><li>a</li><li>b</li></ol>"),
        ("see C-12.", '<p>see <a href="/desk/cases/12/">C-12</a>.</p>'),
        ("ask @tomas", '<p>ask <span class="c-mention">@tomas</span></p>'),
        ("2*3*4 and 5 ** 6", "<p>2*3*4 and 5 ** 6</p>"),
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
        ("**<img src=x>**", "<p><strong>&lt;img src=x&gt;</strong></p>"),
        ("[x](javascript:alert(1)) http://a.example", "<p>[x](javascript:alert(1)) http://a.example</p>"),
    ],
)
def test_a_note_knows_a_little_markdown_and_no_html(text, html):
    assert marked_up(text) == html


def test_the_timeline_shows_a_note_without_its_marks():
    assert plain("**Compromised.** Seen *twice*, 2*3*4 and <b>") == "Compromised. Seen twice, 2*3*4 and <b>"


def test_an_address_names_nobody():
    assert names_in("a@tomas.example, @tomas and (@ines.v). @tomas") == ["tomas", "ines.v"]


# --- notes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "   ", "x" * 4001, f"Her card is {CARD}.", "4111-1111-1111-1111"])
def test_a_note_without_text_or_with_a_card_number_is_refused(case, owner, text):
    with pytest.raises(notes.RefusedText):
        services.add_note(case.pk, text, by=owner)
    assert not Note.objects.exists()


def test_only_members_with_the_right_write_notes(case, stranger):
    with pytest.raises(NotAllowed):
        services.add_note(case.pk, "Called.", by=stranger)


def test_a_second_click_writes_nothing_twice(case, owner):
    first = services.add_note(case.pk, "Called the customer.", by=owner)
    assert services.add_note(case.pk, "Called the customer.", by=owner) == first
    assert Note.objects.count() == 1


def test_a_correction_is_a_new_note_and_both_stay(case, owner, mate):
    old = services.add_note(case.pk, "Lives in Berlin.", by=owner, about="customer")
    new = services.add_note(case.pk, "Lives in Bern.", by=mate, corrects=old.pk)
    assert (new.corrects_id, new.entity_kind, new.entity_key) == (old.pk, "customer", old.entity_key)
    with pytest.raises(notes.RefusedText, match="corrected already"):
        services.add_note(case.pk, "Lives in Basel.", by=owner, corrects=old.pk)


def test_the_database_refuses_to_change_notes_histories_and_sightings(case, owner):
    services.add_note(case.pk, "Called.", by=owner)
    services.claim(case.pk, owner)
    Sighting.objects.create(actor=owner, act="case_viewed", case=case)
    for rows in (Note.objects, CaseEvent.objects, Sighting.objects):
        for act in (lambda rows=rows: rows.all().delete(), lambda rows=rows: rows.update(at="2020-01-01T00:00Z")):
            with pytest.raises(DatabaseError, match="append-only"), atomic():
                act()


def test_a_note_about_an_entity_shows_in_its_later_cases_and_nowhere_else(case, queue, owner):
    other = make_queue(owner, name="Second")
    about_card = services.add_note(case.pk, "This card was skimmed.", by=owner, about="card")
    services.add_note(case.pk, "Only here.", by=owner)
    same_card = make_case(make_alert("cust-2", card="card-1"), queue=other)
    elsewhere = make_case(make_alert("cust-3", card="card-9"), queue=queue)
    assert about_card.entity_key == entity_key("card", "card-1")
    assert list(notes.of_case(same_card)) == [about_card]
    assert list(notes.of_case(elsewhere)) == []
    assert [each.text for each in notes.of_case(case)] == ["Only here.", "This card was skimmed."]
    assert list(notes.of_entity("card", about_card.entity_key)) == [about_card]


def test_a_note_can_be_about_what_the_case_has_once_only(queue, owner):
    case = make_case(make_alert("cust-1", card="card-1"), make_alert("cust-1", card="card-2"), queue=queue)
    with pytest.raises(notes.RefusedText, match="several"):
        services.add_note(case.pk, "Which card?", by=owner, about="card")
    assert notes.entities_of(case) == {"customer": entity_key("customer", "cust-1")}


def test_an_entity_takes_notes_without_a_case(case, owner, mate):
    key = entity_key("merchant", "shop-1")
    note = notes.add_entity_note("merchant", key, "Closed down in May, @tomas.", by=owner)
    assert list(notes.of_case(case)) == [note]
    assert mentions.unseen(mate).count() == 1
    with pytest.raises(notes.RefusedText):
        notes.add_entity_note("planet", 1, "Far away.", by=owner)
    with pytest.raises(NotAllowed):
        notes.add_entity_note("merchant", key, "Hm.", by=make_user("reader", *READ))


# --- mentions ---------------------------------------------------------------------------------------------------------


def test_whom_a_note_names_is_told_until_they_saw_it(case, owner, mate):
    services.add_note(case.pk, "@tomas please call, cc @ines and @nobody", by=owner)
    assert [mention.user for mention in Mention.objects.all()] == [mate]
    assert (mentions.unseen(mate).count(), mentions.unseen(owner).count()) == (1, 0)
    [mention], more = mentions.of(mate)
    assert (mention.note.case, more) == (case, 0)
    assert mentions.mark_seen(mate) == 1
    assert mentions.mark_seen(mate) == 0
    assert mentions.unseen(mate).count() == 0


def test_nobody_is_called_to_a_case_they_cannot_read(case, owner, stranger):
    with pytest.raises(mentions.RefusedMention, match="stranger cannot read"):
        services.add_note(case.pk, "@stranger look", by=owner)
    assert not Note.objects.exists()


def test_who_left_the_queue_no_longer_reads_where_they_were_named(case, queue, owner, mate):
    services.add_note(case.pk, "@tomas look", by=owner)
    queue.members.remove(mate)
    assert (mentions.unseen(mate).count(), mentions.of(mate)) == (0, ([], 0))


def test_an_auditor_can_be_named(case, owner):
    auditor = make_user("owen", *READ)
    services.add_note(case.pk, "For @owen.", by=owner)
    assert mentions.unseen(auditor).count() == 1


# --- snippets ---------------------------------------------------------------------------------------------------------


def test_snippets_are_ones_own_or_the_teams(owner, mate):
    lead = make_user("lead", *LEAD)
    mine = snippets.keep("Call", "Called the number on file.", by=owner)
    team = snippets.keep("Chargeback", "Chargeback received.", by=lead, team=True)
    assert list(snippets.offered(owner)) == [mine, team]
    assert list(snippets.offered(mate)) == [team]
    with pytest.raises(NotAllowed):
        snippets.keep("Mine now", "x", by=mate, snippet_id=mine.pk)
    with pytest.raises(NotAllowed):
        snippets.remove(team.pk, by=mate)
    with pytest.raises(NotAllowed):
        snippets.keep("For all", "x", by=mate, team=True)
    with pytest.raises(notes.RefusedText):
        snippets.keep("Card", CARD, by=owner)
    snippets.remove(mine.pk, by=owner)
    snippets.remove(mine.pk, by=owner)
    assert list(snippets.offered(owner)) == [team]
