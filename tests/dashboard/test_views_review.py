"""Review: the queue, deciding by button, and text from traces that stays text."""

from datetime import date

import pytest
from lesson_pages import propose_many
from loop_data import HOSTILE, NOW, shop_file
from page_driver import click, markup, open_page, shown, store_for_pages, unescaped, untouched
from publishing import publisher

from dashboard.ui.text import clean
from pipelines.lessons import review
from pipelines.lessons.lint import gather
from pipelines.lessons.proposing import Claim, Proposal, propose, propose_by_operator
from store import audit, embeddings, lesson_lint, lesson_settings, lessons, meta, playbooks
from store.lesson_reviews import LessonText
from store.lesson_versions import Scope

BLOCKED = LessonText("Write to ada@example.com", "Always.", None, "Write to ada@example.com.")


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


@pytest.fixture
def proposed(tmp_path):
    """A store with what the loop proposes for the shop, and three more."""
    with store_for_pages(tmp_path / "trimtab.duckdb", shop_file()) as opened:
        propose_many(opened, 3)
        assert lessons.queue(opened).height >= 4
        yield opened


def served(store, agent="shop"):
    """The ids of the lessons that an agent is served."""
    return [entry.lesson_id for entry in playbooks.in_force(store, agent).entries]


@pytest.fixture
def blocked(proposed):
    """The id of a proposal whose text lint blocks."""
    first = lessons.queue(proposed)["lesson_id"][0]
    review.edit(proposed, first, version=1, operator="Ada", text=BLOCKED)
    assert lesson_lint.counts(proposed, (first,))["open"][0] > 0
    return first


def test_an_empty_store_says_where_lessons_come_from(store):
    page = open_page("review")
    assert "No traces yet" in shown(page)
    assert not [button for button in page.button if button.key == "approve"]


def test_traces_without_rewards_say_what_is_missing(store, tmp_path):
    publisher(store, tmp_path)(traces=[{"trace_id": "t", "agent": "a", "input": "x"}])
    assert "No rewards yet" in shown(open_page("review"))


def test_a_decided_queue_says_that_nothing_waits(proposed):
    for row in lessons.queue(proposed).iter_rows(named=True):
        review.reject(proposed, row["lesson_id"], version=1, operator="Ada", reason="no")
    page = open_page("review")
    assert "Nothing waits for review" in shown(page)
    assert "Last review: rejected" in shown(page)


def test_the_first_lesson_is_shown_with_reach_and_evidence(proposed):
    queue = lessons.queue(proposed)
    page = open_page("review")
    text = shown(page)
    first = queue.row(0, named=True)
    assert f"{queue.height} lessons wait for you" in text
    assert first["do_text"] in text
    assert first["why"] in text
    assert "tested effect" in text
    reach = lessons.blast_radius(proposed, "shop", None, NOW)
    assert reach.traces == 28
    told = {metric.label: metric.value for metric in page.metric}
    assert told.keys() == {"requests per day", "agents", "users", "tokens per day"}
    assert (told["requests per day"], told["users"]) == ("4.0", str(reach.users))
    assert 4 * 20 < float(told["tokens per day"].replace(",", "")) < 4 * 400
    assert "here they part" in text
    assert "good · action 1 · look_up" in text


def test_a_lesson_for_every_agent_says_whose_playbooks_it_joins(proposed):
    first, second = lessons.queue(proposed)["lesson_id"][:2]
    review.edit(proposed, first, version=1, operator="Ada", scope=Scope("*"))
    page = open_page("review", lesson=first)
    assert "It would be the first lesson of every agent." in shown(page)

    review.approve(proposed, second, version=1, operator="Ada")
    lesson_settings.kill(proposed, "shop", reason="a test", by="Ada", render=review.render)
    page = open_page("review", lesson=first)
    assert "Joins the playbooks of 1 agent. The kill switch is on for 1 agent." in shown(page)
    told = {metric.label: metric.value for metric in page.metric}
    assert told["agents"] == str(lessons.blast_radius(proposed, "*", None, NOW).agents)


def test_approving_serves_the_lesson_and_moves_on(proposed):
    first, second = lessons.queue(proposed)["lesson_id"][:2]
    page = click(open_page("review"), "approve")
    assert lessons.one(proposed, first)["state"] == "canary"
    assert served(proposed) == [first]
    assert [actor for actor in audit.recent(proposed)["actor"] if actor != "trimtab"] == ["local operator"]
    assert "the playbook of shop is at version 1" in unescaped(page.success[0].value).lower()
    assert page.query_params["lesson"] == second
    assert lessons.one(proposed, second)["do_text"] in shown(page)


def test_undo_puts_it_back(proposed):
    first = lessons.queue(proposed)["lesson_id"][0]
    page = click(open_page("review"), "approve")
    page = click(page, "undo")
    assert lessons.one(proposed, first)["state"] == "proposed"
    assert page.query_params["lesson"] == first
    assert served(proposed) == []
    assert not [button for button in page.button if button.key == "undo"]


def test_rejecting_asks_for_a_reason(proposed):
    first = lessons.queue(proposed)["lesson_id"][0]
    page = click(open_page("review"), "reject")
    click(page, "reject_confirm")
    assert "no reason was given" in shown(page)
    assert lessons.one(proposed, first)["state"] == "proposed"
    page.text_area(key="reject_reason").set_value("not ours to tell")
    click(page, "reject_confirm")
    assert lessons.one(proposed, first)["state"] == "rejected"
    assert lessons.reviews(proposed)["reason"].to_list() == ["not ours to tell"]


def test_editing_makes_a_version(proposed):
    lesson = lessons.queue(proposed).row(0, named=True)
    page = click(open_page("review"), "edit")
    page.text_input(key=f"edit_title_{lesson['lesson_id']}_1").set_value("Look before you book")
    click(page, "edit_confirm")
    changed = lessons.one(proposed, lesson["lesson_id"])
    assert (changed["title"], changed["version"], changed["author"]) == ("Look before you book", 2, "local operator")
    assert "Look before you book" in shown(page)


def test_next_previous_and_skip_walk_the_queue(proposed):
    ids = lessons.queue(proposed)["lesson_id"].to_list()
    page = open_page("review", lesson=ids[1])
    assert page.query_params["lesson"] == ids[1]
    page = click(page, "previous")
    assert page.query_params["lesson"] == ids[0]
    assert page.button(key="previous").disabled
    page = click(click(page, "next"), "previous")
    page = click(page, "skip")
    assert page.query_params["lesson"] == ids[1]
    assert lessons.reviews(proposed).is_empty()


def test_every_decision_has_a_key(proposed):
    page = open_page("review")
    keys = {
        key: page.button(key=key).proto.shortcut for key in ("approve", "reject", "edit", "skip", "previous", "next")
    }
    assert keys == {"approve": "a", "reject": "x", "edit": "e", "skip": "s", "previous": "p", "next": "n"}


def test_a_decision_that_somebody_else_took_first_is_refused_and_said(proposed):
    first = lessons.queue(proposed)["lesson_id"][0]
    page = open_page("review")
    review.reject(proposed, first, version=1, operator="Bob", reason="mine")
    page = click(page, "approve")
    assert "the lesson is rejected" in shown(page).replace("\\", "")
    assert lessons.one(proposed, first)["state"] == "rejected"


def test_active_at_once_is_one_key_too(proposed):
    first = lessons.queue(proposed)["lesson_id"][0]
    page = open_page("review")
    assert page.button(key="approve_active").proto.shortcut == "shift+a"
    click(page, "approve_active")
    assert lessons.one(proposed, first)["state"] == "active"


def test_sending_back_needs_a_reason_and_waits_at_the_end(proposed):
    first = lessons.queue(proposed)["lesson_id"][0]
    page = click(open_page("review"), "send_back")
    click(page, "send_back_confirm")
    assert "no reason was given" in shown(page)
    page.text_area(key="send_back_reason").set_value("which tool?")
    click(page, "send_back_confirm")
    assert page.query_params["lesson"] != first
    assert lessons.queue(proposed)["lesson_id"].to_list()[-1] == first
    assert "1 sent back, at the end" in shown(page)
    again = shown(open_page("review", lesson=first))
    assert "which tool?" in again
    click(page, "undo")
    assert lessons.queue(proposed)["sent_back"].sum() == 0


@pytest.mark.parametrize(("action", "state"), [("approve_active", "active"), ("reject", "rejected")])
def test_each_decision_is_taken_back_by_undo(proposed, action, state):
    first = lessons.queue(proposed)["lesson_id"][0]
    page = click(open_page("review"), action)
    if action == "reject":
        page.text_area(key="reject_reason").set_value("no")
        click(page, "reject_confirm")
    assert lessons.one(proposed, first)["state"] == state
    click(page, "undo")
    assert lessons.one(proposed, first)["state"] == "proposed"
    assert lessons.reviews(proposed)["action"].to_list()[0] == "undo"


def test_cancelling_closes_the_form_and_changes_nothing(proposed):
    page = click(open_page("review"), "reject")
    click(page, "reject_cancel")
    assert not [area for area in page.text_area if area.key == "reject_reason"]
    assert lessons.reviews(proposed).is_empty()


def test_editing_whom_it_is_for_how_often_withheld_and_until_when(proposed):
    lesson = lessons.queue(proposed).row(0, named=True)
    mark = f"{lesson['lesson_id']}_1"
    page = click(open_page("review"), "edit")
    page.text_area(key=f"edit_do_text_{mark}").set_value(f"{lesson['do_text']} Twice.").run()
    assert page.code[0].language == "diff"
    assert "+ Twice." in page.code[0].value
    page.text_input(key=f"edit_task_{mark}").set_value("seats")
    page.text_input(key=f"edit_segment_{mark}").set_value("new")
    page.text_input(key=f"edit_user_id_{mark}").set_value("ada")
    page.number_input(key=f"edit_holdout_{mark}").set_value(35.0)
    page.date_input(key=f"edit_expires_{mark}").set_value(date(2027, 1, 1))
    click(page, "edit_confirm")
    now = lessons.one(proposed, lesson["lesson_id"])
    assert (now["task"], now["segment"], now["user_id"]) == ("seats", "new", "ada")
    assert now["holdout"] == pytest.approx(0.35)
    assert f"{now['expires_at']:%Y-%m-%d}" == "2027-01-01"
    assert now["do_text"].endswith("Twice.")
    assert "task seats · segment new · user ada" in shown(page)
    click(page, "undo")
    back = lessons.one(proposed, lesson["lesson_id"])
    assert (back["task"], back["holdout"], back["expires_at"]) == (None, None, None)
    assert back["do_text"] == lesson["do_text"]


def test_what_lint_blocks_cannot_be_approved_before_it_is_overridden(proposed, blocked):
    page = open_page("review", lesson=blocked)
    assert "ada@example.com" in shown(page)
    assert page.button(key="approve").disabled
    assert page.button(key="approve_active").disabled
    assert "Lint blocks 1." in shown(page)
    open_findings = lesson_lint.counts(proposed, (blocked,))["open"][0]
    for _ in range(open_findings):
        key = next(button.key for button in page.button if (button.key or "").startswith("override_"))
        click(page, key)
        assert page.button(key="approve").disabled, "an override needs a reason"
        page.text_area(key=f"override_reason_{key.removeprefix('override_')}").set_value("our own desk")
        click(page, key)
        if not page.button(key="approve").disabled:
            break
    assert "Overridden by local operator: our own desk" in shown(page)
    assert not page.button(key="approve").disabled
    click(page, "approve_active")
    assert lessons.one(proposed, blocked)["state"] == "active"
    assert "ada@example.com" in playbooks.body(proposed, "shop", 1)
    assert "our own desk" in str(audit.recent(proposed)["detail"].to_list())


def test_approving_what_lint_blocks_by_a_page_that_is_old_is_refused(proposed, blocked):
    """The button was there when the page was drawn; meanwhile lint found something."""
    second = lessons.queue(proposed)["lesson_id"][1]
    page = open_page("review", lesson=second)
    review.edit(proposed, second, version=1, operator="Ada", text=BLOCKED)
    click(page, "approve")
    assert page.warning
    assert lessons.one(proposed, second)["state"] == "proposed"


def test_two_persons_have_to_approve_where_the_setting_says_so(proposed):
    lesson_settings.put(proposed, "shop", by="Ada", render=review.render, two_person=True)
    first = lessons.queue(proposed)["lesson_id"][0]
    assert "Two persons have to approve" in shown(open_page("review"))
    page = click(open_page("review", lesson=first), "approve")
    assert lessons.one(proposed, first)["state"] == "approved"
    assert "A second person has to approve it" in unescaped(page.success[0].value)
    assert playbooks.latest(proposed).is_empty()
    page = open_page("review", lesson=first)
    assert "Approved once, by local operator" in unescaped(shown(page))
    click(page, "approve")
    assert lessons.one(proposed, first)["state"] == "approved"
    assert page.warning
    review.approve(proposed, first, version=1, operator="Bob", to="canary")
    assert lessons.one(proposed, first)["state"] == "canary"


def test_the_second_person_approves_on_the_page(proposed):
    lesson_settings.put(proposed, "shop", by="Ada", render=review.render, two_person=True)
    first = lessons.queue(proposed)["lesson_id"][0]
    review.approve(proposed, first, version=1, operator="Bob", to="active")
    click(open_page("review", lesson=first), "approve_active")
    assert lessons.one(proposed, first)["state"] == "active"


def test_similar_lessons_are_named_with_their_likeness(proposed):
    page = open_page("review", lesson="many-0001")
    assert "Similar lessons, by the cosine of TF-IDF" in shown(page)
    assert "First look up the seat" in shown(page)


def test_the_method_of_comparison_is_told_and_why_not_the_other(proposed):
    assert "Other lessons were compared by TF-IDF." in shown(open_page("review", lesson="many-0001"))
    row = lessons.one(proposed, "many-0001")
    now = proposed.clock.now()

    def embed(*names):
        texts = [lessons.one(proposed, name) for name in names]
        hashes = ["\n".join((one["title"], one["when_text"], one["do_text"])) for one in texts]
        made = {embeddings.content_hash(text): [1.0, 0.3 * place] for place, text in enumerate(hashes)}
        embeddings.keep(proposed, "here", 1, made)

    proposed.write(lambda connection: embeddings.note(connection, embeddings.State("here", "e5", 1, now, "<b>503</b>")))
    gather.check(proposed, row["lesson_id"])
    proposed.write(meta.bump)
    assert "TF-IDF was used in place of embeddings: they could not be had: <b>503</b>" in unescaped(
        shown(open_page("review", lesson="many-0001"))
    )
    embed("many-0001", "many-0002")
    gather.check(proposed, row["lesson_id"])
    proposed.write(meta.bump)
    told = unescaped(shown(open_page("review", lesson="many-0001")))
    assert "(cosine 0.96 by embeddings)" in told
    assert "Other lessons were compared by embeddings." in told
    assert "Similar lessons, by the cosine of TF-IDF and embeddings" in told


def test_the_least_certain_first(proposed):
    page = open_page("review")
    page.selectbox(key="order").set_value("uncertainty").run()
    assert list(page.selectbox(key="order").options) == ["most valuable first", "least certain first"]
    del page.query_params["lesson"]
    page.run()
    assert page.query_params["lesson"] == lessons.queue(proposed, by="uncertainty")["lesson_id"][0]


def test_what_an_agent_teaches_says_who_wrote_it_and_where_its_words_stand(proposed):
    text = LessonText("Seats", "A seat is asked for.", None, "Please change the seat on my flight number 0.")
    claim = Claim("t000", "good", quote="change the seat on my flight")
    made = propose(proposed, Proposal(Scope("shop"), text, HOSTILE, (claim,)), origin="agent", author=HOSTILE)
    page = open_page("review", lesson=made.lesson_id)
    assert "proposed by an agent" in shown(page)
    assert "of it stand" in shown(page)
    for harmful in HARMFUL:
        assert harmful not in markup(page)


def test_looking_writes_nothing(proposed, blocked):
    with untouched(proposed):
        for query in ({}, {"lesson": blocked}, {"lesson": "many-0001"}, {"order": "uncertainty"}, {"lesson": "?"}):
            open_page("review", **query)


HARMFUL = ("<img", "](http", "**bold", ":red[", "$x^2$")
RTL = "\u202eevil\u202c \u05d0\u05dc \u05ea\u05d6\u05de\u05d9\u05df"


@pytest.mark.parametrize("hostile", [HOSTILE, RTL, f"{HOSTILE} " + "long " * 370], ids=["markup", "rtl", "long"])
def test_hostile_text_is_never_markup(proposed, hostile):
    title = hostile[:190]
    made = propose_by_operator(
        proposed, operator=HOSTILE, scope=Scope("shop", hostile[:190], hostile[:190], hostile[:190]),
        text=LessonText(title, hostile, hostile, hostile), why=hostile,
    )  # fmt: skip
    review.send_back(proposed, made, version=1, operator=HOSTILE, reason=hostile)
    page = click(open_page("review", lesson=made), "edit")
    assert not any("\u202e" in area.value for area in page.text_area), "a field would read backwards"
    said = clean(hostile.strip())
    assert said in [element.value for element in page.text]
    assert "\u202e" not in "".join(element.value for element in (*page.text, *page.markdown, *page.caption))
    for harmful in HARMFUL:
        assert harmful not in markup(page)


def test_hostile_steps_and_inputs_are_never_markup(store, tmp_path):
    publisher(store, tmp_path)(
        traces=[{"trace_id": f"h{i}", "agent": HOSTILE, "input": HOSTILE + "x" * 5_000, "task": HOSTILE}
                for i in range(2)],
        spans=[{"trace_id": f"h{i}", "span_id": "s", "kind": "tool", "name": HOSTILE, "ordinal": 0,
                "input": HOSTILE * (i + 1), "output": HOSTILE} for i in range(2)],
    )  # fmt: skip
    propose_many(store, 1, agents=(HOSTILE,), good="h0", bad="h1")
    page = open_page("review")
    assert HOSTILE in "\n".join(element.value for element in page.code)
    for harmful in HARMFUL:
        assert harmful not in markup(page)
