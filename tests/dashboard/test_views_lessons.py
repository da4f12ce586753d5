"""Lessons: the library by state, what is served, what changed between versions, and retiring."""

import pytest
from lesson_pages import decide, exposed, pay, propose_many
from loop_data import HOSTILE, NOW, run_loop, shop_file
from page_driver import click, labels, markup, open_page, shown, store_for_pages, unescaped, untouched
from publishing import publisher

from pipelines.lessons import review
from pipelines.lessons.proposing import propose_by_operator
from store import audit, distilling, lesson_lint, lesson_settings, lessons, payoffs, playbooks
from store.lesson_reviews import LessonText
from store.lesson_versions import Scope

TABS = ("Library", "Payoff", "Playbooks", "Why", "Contrasts", "Tidy", "Rules")
HARMFUL = ("<img", "](http", "**bold", ":red[", "$x^2$")


@pytest.fixture
def store(tmp_path):
    """A store with what the loop proposes for the shop."""
    with store_for_pages(tmp_path / "trimtab.duckdb", shop_file()) as opened:
        yield opened


@pytest.fixture
def active(store):
    """The id of the one active lesson."""
    lesson = lessons.queue(store)["lesson_id"][0]
    review.approve(store, lesson, version=1, operator="Ada", to="active")
    return lesson


@pytest.fixture
def paid(store, active):
    """Four lessons that were measured: one better, one worse, one no worse, one that cannot be told; by verdict."""
    effects = {active: 0.3, **dict(zip(propose_many(store, 3), (-0.3, 0.05, 0.0), strict=True))}
    for name in list(effects)[1:]:
        review.approve(store, name, version=1, operator="Ada", to="canary")
    frame = exposed(effects)
    decide(store, exposed(effects, logged=20))
    pay(store, frame)
    rows = payoffs.newest(store).filter(kind="lesson", measure="outcome", estimator="doubly robust")
    rows = rows.filter(rows["segment"].is_null())
    assert rows["lesson_id"].sort().to_list() == sorted(effects)
    return dict(rows.select("lesson_id", "verdict").iter_rows())


def served(store, agent="shop"):
    """The ids of the lessons that an agent is served."""
    return [entry.lesson_id for entry in playbooks.in_force(store, agent).entries]


def test_an_empty_store_says_how_lessons_come_about(tmp_path):
    with store_for_pages(tmp_path / "empty.duckdb"):
        assert "No lessons yet" in shown(open_page("lessons"))


def test_the_answer_is_on_top_and_the_table_has_every_lesson(store, active):
    page = open_page("lessons")
    waiting = lessons.queue(store).height
    assert "1 lesson is served." in shown(page)
    assert f"{waiting} proposal" in shown(page)
    table = page.dataframe[0].value
    assert len(table) == waiting + 1
    assert table["state"].tolist() == ["active"] + ["proposed"] * waiting
    assert table["payoff"].tolist()[0] == "not measured"
    page.pills(key="state").set_value(["active"]).run()
    assert len(page.dataframe[0].value) == 1


def test_one_lesson_shows_its_reviews_and_texts(store, active):
    review.edit(store, active, version=1, operator="Bob", text=LessonText("Title two", "When", None, "Do two"))
    text = shown(open_page("lessons", lesson=active))
    assert "Title two" in text
    assert "edited (version 2) by Bob" in text
    assert "approved (version 1) by Ada" in text
    assert "Served to shop." in text


def test_retiring_takes_it_out_of_the_playbook_and_undo_brings_it_back(store, active):
    page = open_page("lessons", lesson=active)
    page.text_area(key="retire_reason").set_value("harmful")
    click(page, "retire_confirm")
    assert lessons.one(store, active)["state"] == "retired"
    assert served(store) == []
    assert "at version 2" in shown(page)
    assert not [button for button in page.button if button.key == "retire_confirm"]
    click(page, "undo_review")
    assert lessons.one(store, active)["state"] == "active"


def test_a_lesson_that_does_not_exist_is_said(store, active):
    page = open_page("lessons", lesson="nothing")
    assert "no such lesson" in shown(page)


def test_a_served_lesson_that_nobody_gets_says_why(store, active):
    review.pause(store, active, version=1, operator="Ada", reason="looks odd")
    text = shown(open_page("lessons", lesson=active))
    assert "Active but not served: it is paused: looks odd." in text
    assert "No lesson is served. 1 more is paused or expired." in text
    review.resume(store, active, version=1, operator="Ada")
    lesson_settings.kill(store, "shop", reason="fire", by="Ada", render=review.render)
    assert "Active but not served: the kill switch is on: fire." in shown(open_page("lessons", lesson=active))


def test_the_playbook_is_shown_as_served_with_the_difference_between_versions(store, active):
    review.edit(store, active, version=1, operator="Bob", text=LessonText("Title two", "When", None, "Do two"))
    page = open_page("lessons", lessons_tab="Playbooks")
    assert playbooks.body(store, "shop", 2).strip() in shown(page)
    changed = page.code[-1].value
    assert page.code[-1].language == "diff"
    assert "+Do: Do two" in changed
    assert "-Do: " in changed
    page.selectbox(key="before").set_value(2).run()
    assert "read the same" in shown(page)


def test_hostile_text_is_never_markup(store, active):
    hostile = LessonText(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    review.edit(store, active, version=1, operator=HOSTILE, text=hostile)
    page = open_page("lessons", lesson=active)
    assert HOSTILE in [element.value for element in page.text]
    for harmful in ("<img", "](http", "**bold", ":red[", "$x^2$"):
        assert harmful not in markup(page)


@pytest.mark.parametrize("tab", TABS)
def test_each_tab_of_an_empty_store_says_what_would_be_there(tmp_path, tab):
    with store_for_pages(tmp_path / "empty.duckdb") as opened, untouched(opened):
        page = open_page("lessons", lessons_tab=tab)
        told = {
            "Library": "No lessons yet", "Payoff": "Nothing was measured yet", "Playbooks": "No playbook yet",
            "Why": "No decision was made yet", "Contrasts": "Nothing was contrasted yet",
            "Tidy": "The library was not tidied yet", "Rules": "One person has to approve a lesson",
        }  # fmt: skip
        assert told[tab] in shown(page)


def test_no_tab_writes_anything(store, paid):
    with untouched(store):
        for tab in TABS:
            open_page("lessons", lessons_tab=tab, lesson=next(iter(paid)))


def test_promote_demote_pause_resume_and_retire_each_with_undo(store):
    lesson = lessons.queue(store)["lesson_id"][0]
    review.approve(store, lesson, version=1, operator="Ada", to="canary")
    page = open_page("lessons", lesson=lesson)

    def state():
        row = lessons.one(store, lesson)
        return row["state"], row["paused"]

    def act(action, reason=None):
        if reason:
            page.text_area(key=f"{action}_reason").set_value(reason)
        click(page, f"{action}_confirm")

    assert not [button for button in page.button if button.key in ("demote_confirm", "resume_confirm")]
    act("promote")
    assert state() == ("active", None)
    click(page, "undo_review")
    assert state() == ("canary", None)
    act("promote")
    act("demote")
    assert "no reason was given" in shown(page)
    assert state() == ("active", None)
    act("demote", "measure it better")
    assert state() == ("canary", None)
    act("pause", "odd")
    assert (state(), served(store)) == (("canary", "odd"), [])
    act("resume")
    assert (state(), served(store)) == (("canary", None), [lesson])
    act("retire")
    assert (state(), served(store)) == (("retired", None), [])
    click(page, "undo_review")
    assert (state(), served(store)) == (("canary", None), [lesson])


def test_editing_a_served_lesson_serves_its_new_text(store, active):
    page = click(open_page("lessons", lesson=active), "library_edit")
    page.text_input(key=f"edit_title_{active}_1").set_value("Another title").run()
    assert "+ Another title" in page.code[0].value
    click(page, "edit_confirm")
    assert (lessons.one(store, active)["title"], lessons.one(store, active)["version"]) == ("Another title", 2)


@pytest.mark.parametrize("mark", ["agent", "all"])
def test_the_kill_switch_stops_serving_and_gives_it_back(store, active, mark):
    agent = {"agent": "shop", "all": "*"}[mark]
    page = open_page("lessons", lessons_tab="Playbooks")
    click(page, f"kill_{mark}")
    assert lesson_settings.of(store, "shop").serving_off is None, "it needs a reason"
    page.text_area(key=f"kill_reason_{mark}").set_value(HOSTILE)
    click(page, f"kill_{mark}")
    assert lesson_settings.of(store, agent).serving_off == HOSTILE
    assert served(store) == []
    assert HOSTILE in [element.value for element in page.text]
    assert not any(harmful in markup(page) for harmful in HARMFUL)
    if mark == "all":
        assert "Nothing is served: the kill switch for every agent is on." in shown(page)
    click(page, f"restore_{mark}")
    assert served(store) == [active]
    assert lessons.one(store, active)["state"] == "active"
    assert any("kill" in action for action in audit.recent(store)["action"])


def test_the_kill_switch_for_everything_is_there_before_any_playbook(tmp_path):
    with store_for_pages(tmp_path / "empty.duckdb") as opened:
        page = open_page("lessons", lessons_tab="Playbooks")
        page.text_area(key="kill_reason_all").set_value("not yet")
        click(page, "kill_all")
        assert lesson_settings.of(opened, "*").serving_off == "not yet"


def test_going_back_to_an_earlier_playbook_and_on_again(store, active):
    body = playbooks.body(store, "shop", 1)
    review.edit(store, active, version=1, operator="Bob", text=LessonText("Title two", "When", None, "Do two"))
    page = open_page("lessons", lessons_tab="Playbooks")
    assert page.dataframe[0].value["because of"].tolist()[0] == "edited: Title two"
    page.selectbox(key="before").set_value(1).run()
    click(page, "pin")
    assert playbooks.in_force(store, "shop").body == body
    assert "Pinned: this repeats version 1" in shown(page)
    click(page, "unpin")
    assert "Do two" in playbooks.in_force(store, "shop").body


def test_rules_are_saved_for_every_agent_and_for_one(store, active):
    page = open_page("lessons", lessons_tab="Rules")
    page.selectbox(key="rules_two_person_*").set_value(True)
    page.number_input(key="rules_canary_holdout_*").set_value(30.0)
    page.number_input(key="rules_token_budget_*").set_value(900)
    click(page, "rules_save")
    held = lesson_settings.of(store, "shop")
    assert (held.two_person, held.canary_holdout, held.token_budget) == (True, 0.3, 900)
    assert "Two persons have to approve a lesson." in shown(page)
    assert "withheld from 30 % of decisions" in shown(page)
    page.selectbox(key="rules").set_value("shop").run()
    page.selectbox(key="rules_two_person_shop").set_value(False)
    page.number_input(key="rules_active_holdout_shop").set_value(0.0)
    click(page, "rules_save")
    assert page.warning, "a lesson is never served to everybody"
    page = open_page("lessons", lessons_tab="Rules", rules="shop")
    page.selectbox(key="rules_two_person_shop").set_value(False)
    click(page, "rules_save")
    assert not lesson_settings.of(store, "shop").two_person
    assert lesson_settings.of(store, "other").two_person


def test_a_lesson_is_written_on_the_page_and_waits(store):
    page = click(open_page("lessons"), "write_lesson")
    before = lessons.queue(store).height
    for name, text in (("title", "Ask twice"),):
        page.text_input(key=f"write_{name}").set_value(text)
    page.text_area(key="write_when_text").set_value("A refund is asked for")
    page.text_area(key="write_do_text").set_value("Ask for the order before the refund")
    page.text_area(key="write_why").set_value("Seen in three cases")
    click(page, "write_confirm")
    assert lessons.queue(store).height == before + 1
    made = lessons.one(store, page.query_params["lesson"])
    assert (made["title"], made["agent"], made["state"], made["origin"]) == (
        "Ask twice", "shop", "proposed", "operator",
    )  # fmt: skip
    assert "Proposed: it waits in Review." in unescaped(shown(page))


def test_an_incomplete_lesson_is_refused_and_said(store):
    page = click(open_page("lessons"), "write_lesson")
    page.text_input(key="write_title").set_value("Only a title")
    click(page, "write_confirm")
    assert "the field" in unescaped(page.warning[0].value)


def test_payoffs_are_shown_with_figure_interval_and_verdict(store, paid):
    page = open_page("lessons", lessons_tab="Payoff")
    counts = {verdict: list(paid.values()).count(verdict) for verdict in paid.values()}
    assert counts["better"] == 1
    assert counts["worse"] == 1
    headline = "Of 4 measured lessons: " + ", ".join(
        f"{counts[verdict]} {verdict}" for verdict in ("better", "no worse", "worse", "can't tell yet")
        if verdict in counts
    )  # fmt: skip
    assert f"{headline}." in shown(page)
    table = page.dataframe[0].value
    assert table["verdict"].tolist()[:2] == ["worse", "better"]
    assert table["effect"].tolist()[0] == pytest.approx(-30, abs=12)
    assert (table["from"] < table["effect"]).all()
    assert (table["effect"] < table["to"]).all()
    # What a gain costs is said of the one lesson that gains; all effects are in points of the outcome.
    better = table[table["verdict"] == "better"].iloc[0]
    assert better["tokens per point"] == pytest.approx(better["tokens"] / better["effect"])
    assert table["tokens per point"].notna().sum() == 1
    assert (table["detectable"] > 1).all()
    assert page.get("plotly_chart")
    assert "All lessons together against none" in shown(page)
    library = open_page("lessons").dataframe[0].value
    assert set(library[library["state"].isin(["active", "canary"])]["payoff"]) == set(counts)
    assert set(library[library["state"] == "proposed"]["payoff"].isna()) == {True}


def test_one_lesson_shows_what_it_pays_and_its_decisions(store, paid, active):
    page = open_page("lessons", lesson=active)
    text = shown(page)
    assert "**Better**" in text
    assert "points (+" in text
    assert "served, " in text
    measured = page.dataframe[1].value
    costs = measured[measured["of"].isin(["cost, USD", "tokens"])]
    assert set(costs["verdict"]) <= {"costs more", "costs less", "costs no more", "can't tell yet"}
    assert any("latest 20 decisions" in expander.label for expander in page.expander)


def test_why_a_decision_got_each_lesson(store, paid, active, tmp_path):
    decision = f"d0-{active}"
    publisher(store, tmp_path)(
        traces=[{"trace_id": "of-decision", "agent": "shop", "decision_id": decision, "input": HOSTILE * 60,
                 "started_at": NOW}]
    )  # fmt: skip
    for asked in (decision, "of-decision"):
        page = open_page("lessons", lessons_tab="Why", decision=asked)
        text = shown(page)
        assert "served**" in text
        assert lessons.one(store, active)["title"] in text
        assert f"decision {decision}" in text
    assert "No such decision" in shown(open_page("lessons", lessons_tab="Why", decision=HOSTILE))
    click(page, "why_clear")
    assert len(page.dataframe[0].value) == 20


def duplicates(store):
    names = [
        propose_by_operator(
            store, operator="Ada", scope=Scope("shop"), why=HOSTILE,
            text=LessonText(title, "A parcel is late.", None, "Look the parcel up in the tracker and say where it is."),
        )
        for title in (f"Look up {HOSTILE}"[:190], f"Do look up {HOSTILE}"[:190])
    ]  # fmt: skip
    for name in names:
        for rule in [row for row in review.findings(store, name) if row.severity == "block"]:
            lesson_lint.override(store, name, 1, rule.rule, rule.excerpt, reason="a test", operator="Ada")
        review.approve(store, name, version=1, operator="Ada", to="active")
    run_loop(store, "distil")
    return names


def test_tidying_is_previewed_approved_and_taken_back(store):
    names = duplicates(store)
    page = open_page("lessons", lessons_tab="Tidy")
    (proposal,) = distilling.listed(store)["proposal_id"]
    assert page.button(key=f"tidy_approve_{proposal}").disabled, "a preview comes first"
    with untouched(store):
        click(page, f"tidy_preview_{proposal}")
    assert "1 lesson less" in shown(page)
    click(page, f"tidy_approve_{proposal}")
    assert sorted(lessons.one(store, name)["state"] for name in names) == ["active", "superseded"]
    for harmful in HARMFUL:
        assert harmful not in markup(page)
    click(page, f"tidy_undo_{proposal}")
    assert [lessons.one(store, name)["state"] for name in names] == ["active", "active"]


def test_declining_to_tidy_needs_a_reason_and_lasts(store):
    duplicates(store)
    page = open_page("lessons", lessons_tab="Tidy")
    (proposal,) = distilling.listed(store)["proposal_id"]
    click(page, f"tidy_decline_{proposal}")
    assert distilling.listed(store).height == 1
    page.text_area(key=f"tidy_reason_{proposal}").set_value("both are read")
    click(page, f"tidy_decline_{proposal}")
    assert "Declined" in unescaped(shown(page))
    assert distilling.listed(store).is_empty()
    run_loop(store, "distil")
    assert distilling.listed(store).is_empty()


def test_contrasts_say_what_was_tested_in_words(store):
    page = open_page("lessons", lessons_tab="Contrasts")
    text = shown(page)
    assert "step patterns tested" in text
    assert "survive" in text
    groups, patterns = page.dataframe[0].value, page.dataframe[1].value
    assert groups["value"].is_monotonic_decreasing
    assert patterns["survives"].any()
    assert "called book again with the same arguments" in set(patterns["rollouts that"]), patterns["rollouts that"]
    assert "No model is configured" in text


def test_the_dry_run_without_a_model_shows_the_question_and_sends_nothing(store):
    page = open_page("lessons", lessons_tab="Contrasts")
    with untouched(store):
        click(page, "draft_dry_run")
    text = shown(page)
    assert "no price, as no model is configured" in text
    assert [expander.label for expander in page.expander if "message, " in expander.label]
    assert not any(harmful in markup(page) for harmful in HARMFUL)


def test_names_of_agents_and_tasks_are_never_markup(store):
    name = propose_by_operator(
        store, operator=HOSTILE, scope=Scope(HOSTILE, HOSTILE), why=HOSTILE,
        text=LessonText("Plain", "A parcel is late.", None, "Look the parcel up."),
    )  # fmt: skip
    review.approve(store, name, version=1, operator=HOSTILE, to="active")
    frame = exposed({name: 0.2}, units=400)
    decide(store, exposed({name: 0.2}, units=400, logged=5), agent=HOSTILE)
    pay(store, frame, agent=HOSTILE)
    for tab in TABS:
        page = open_page("lessons", lessons_tab=tab, lesson=name, playbook=HOSTILE, rules=HOSTILE)
        for harmful in HARMFUL:
            assert harmful not in markup(page) + labels(page), tab
