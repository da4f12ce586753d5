"""The palette and the keys: where words lead, and that every key of the pages is written down."""

import ast
from pathlib import Path

import pytest
from lesson_library import propose
from loop_data import NOW
from page_driver import APP, click, open_page, shown, store_for_pages
from publishing import publisher

from dashboard.access.actor import LOCAL
from dashboard.feel import glossary, keys, palette
from dashboard.feel.pages import PAGES, name_of
from dashboard.feel.palette import Target
from store import job_runs, saved_views

DASHBOARD = Path(APP).parent


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        publisher(opened, tmp_path)(
            traces=[{"trace_id": "T-1", "agent": "desk", "user_id": "u-1", "started_at": NOW, "status": "ok"}]
        )
        yield opened


def _labels(text):
    return [target.label for target in palette.found(text)]


def test_a_page_is_found_by_any_part_of_its_name(store):
    assert palette.found("drift") == [Target("Drift", "drift")]
    assert _labels("rewa") == ["Rewards"]
    assert _labels("re") == ["Review", "Rewards"]
    assert _labels("VIEW")[:2] == ["Overview", "Review"]
    assert _labels("  ") == []


def test_ids_are_found_exactly(store):
    assert palette.found("T-1") == [Target("Trace T-1", "traces", {"trace": ["T-1"]})]
    assert palette.found("u-1") == [Target("User u-1", "users", {"user": ["u-1"]})]
    assert palette.found("T-") == []
    assert palette.found("' OR 1=1 --") == []


def test_lessons_are_found_by_a_part_of_the_title_and_open_where_they_are_decided(store):
    propose(store, "one")
    (target,) = (target for target in palette.found("one") if target.label.startswith("Lesson"))
    assert (target.page, list(target.query)) == ("review", ["lesson"])


def test_saved_views_are_places(store):
    saved_views.save(store, operator=LOCAL, page="traces", name="Weekly", query={"status": ["error"]})
    assert palette.found("week") == [Target("Weekly (Traces)", "traces", {"status": ["error"]})]


def test_what_nobody_is_called_can_be_searched_for():
    assert [(target.page, target.query) for target in palette.searches(" x ")] == [
        ("traces", {"q": ["x"]}), ("users", {"find_user": ["x"]}),
    ]  # fmt: skip


def test_the_pages_of_the_keys_are_the_pages_of_the_app():
    source = APP.read_text(encoding="utf-8")
    for name, page in PAGES.items():
        assert f'"{page.path}"' in source
        assert f'title="{page.title}"' in source
        assert f'icon="{page.icon}"' in source
        assert name_of("" if name == "overview" else name) == name
    assert source.count("st.Page(") == len(PAGES)
    assert len({page.letter for page in PAGES.values()}) == len(PAGES)


def test_every_key_of_a_button_is_in_the_list_of_keys():
    written = {key for listed in (keys.EVERYWHERE, *keys.ON_PAGES.values()) for key, _ in listed}
    used = set()
    for path in DASHBOARD.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "shortcut" and isinstance(node.value, ast.Constant):
                used.add(node.value.value)
    assert len(used) >= 8
    assert used <= written


def test_the_dialog_lists_keys_and_words(store):
    app = click(open_page("review"), "feel_help")
    tables = [table.value for table in app.table]
    assert any("Approve as canary" in list(table["What it does"]) for table in tables)
    assert "Propensity" in shown(app)


def test_words_are_explained_in_a_sentence():
    for word, text in glossary.WORDS.items():
        assert text.endswith("."), word
        assert text[0].isupper(), word
        assert glossary.meaning(word).startswith(word.capitalize())


def test_the_palette_opens_on_every_page(store):
    for page in ("overview", "data"):
        app = click(open_page(page), "feel_goto_open")
        assert app.text_input(key=palette.TYPED).label.startswith("A page, a saved view")


def test_a_finished_job_is_said_once_to_who_started_it(store):
    app = open_page("overview")
    run = job_runs.begin(store, job="rewards", cause="manual", attempt=1, watermark=0, code_version="c")
    app.session_state["feel_jobs_started"] = {run}
    app.run()
    assert not app.toast
    job_runs.fail(store, run, error="The **disk** is full.", traceback="")
    app.run()
    (toast,) = app.toast
    assert "rewards** failed" in toast.value
    assert r"\*\*disk\*\*" in toast.value
    app.run()
    assert not app.toast


def test_first_steps_tick_off(store):
    app = open_page("overview")
    assert [box.label for box in app.expander if "First steps" in box.label] == ["First steps: 1 of 5 done"]
    propose(store, "one")
    app = open_page("overview")
    assert "First steps: 2 of 5 done" in [box.label for box in app.expander]
    assert "**Have a lesson proposed**, done" in shown(app)
