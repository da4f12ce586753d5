"""Near duplicates by embeddings: made by a job through the model port, kept by content, used by lint where they are."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from embedding_server import server
from lesson_library import proposals

from pipelines.jobs import REGISTRY, JobContext
from pipelines.lessons import embedding, review
from pipelines.lessons.lint import gather, job, work
from store import embeddings, lesson_lint, lessons, llm_calls
from store.connection import Store
from store.lesson_versions import LessonText
from store.settings import Settings

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
WHEN = "A bill is to be paid."
# Other words for the same, nearly the same, and something else.
DO = {
    "a": "Call `look_up` before `pay_bill`.",
    "same": "Fetch the invoice, only then transfer money.",
    "near": "Check the amount with a query first of all.",
    "far": "Thank whoever complains politely.",
}
AT = {"a": 0.0, "same": 0.2, "near": 0.5, "far": 1.5}  # angles: cosines with a are .980, .878, .071


class Ticking:
    """A clock that moves with every look."""

    def __init__(self):
        self.moment = NOW

    def now(self):
        self.moment += timedelta(milliseconds=1)
        return self.moment


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "s.duckdb", clock=Ticking(), threads=1)
    yield opened
    opened.close()


def add(store, *names):
    for name in names:
        text = {"title": f"About {name}", "when_text": WHEN, "do_text": DO[name]}
        rows = pl.DataFrame(
            [{"lesson_id": name, "trace_id": f"t{role}", "role": role, "reward": 0.5, "reward_sd": 0.1}
             for role in ("good", "bad")],
            schema=lessons.EVIDENCE,
        )  # fmt: skip
        lessons.propose(store, proposals(name, agent="pay", **text), rows)
        gather.check(store, name)


def vectors(request):
    """Every text gets the vector of the lesson whose instruction it holds."""
    angles = [next(AT[name] for name, do in DO.items() if do in text) for text in request["input"]]
    rows = [{"index": i, "embedding": [float(np.cos(at)), float(np.sin(at))]} for i, at in enumerate(angles)]
    return 200, {"data": rows, "usage": {"prompt_tokens": 9 * len(rows)}}


def broken(_):
    return 500, {"error": {"message": "the server is on fire"}}


def setup(address, **changed):
    return Settings(**{"embedding_model": "e", "model_base_url": address, "model_prices": "e=1/0", **changed})


def run(store, settings):
    return job.run(JobContext(store, store.clock, settings, np.random.default_rng(0), lambda *_: None, None))


def near(store, name):
    version = lessons.one(store, name)["version"]
    found = lesson_lint.of(store, name, version).filter(rule="near_duplicate").sort("other_id")
    return [(row["other_id"], row["severity"]) for row in found.iter_rows(named=True)]


def how(store, name):
    return lesson_lint.compared(store, name, lessons.one(store, name)["version"])


def test_without_a_model_words_are_compared_and_nothing_is_to_be_done(store):
    add(store, "a", "same")
    assert near(store, "a") == []
    assert how(store, "a") == lesson_lint.Compared("TF-IDF", None)
    assert not work.has_work(store, Settings())
    assert run(store, Settings()).rows == 0


def test_a_lesson_whose_proposer_ended_before_lint_is_read_by_the_job(store):
    add(store, "a")
    rows = pl.DataFrame(schema=lessons.EVIDENCE)
    text = {"title": "Left", "when_text": WHEN, "do_text": "Write to ann@example.com about it."}
    lessons.propose(store, proposals("left", agent="pay", **text), rows)
    assert work.has_work(store, Settings())
    assert run(store, Settings()).rows == 1
    assert not work.has_work(store, Settings())
    assert lessons.queue(store).sort("lesson_id").select("lesson_id", "linted").rows() == [("a", True), ("left", True)]


def test_the_job_embeds_each_text_once_and_lint_finds_the_same_in_other_words(store):
    add(store, "a", "same", "near", "far")
    with server(vectors) as (address, asked):
        settings = setup(address)
        assert work.has_work(store, settings)
        assert run(store, settings).rows == 8
        assert near(store, "a") == [("near", "warn"), ("same", "block")]
        assert near(store, "far") == []
        (message,) = lesson_lint.of(store, "a", 1).filter(severity="block", rule="near_duplicate")["message"]
        assert "(cosine 0.98 by embeddings)" in message
        assert how(store, "a") == lesson_lint.Compared("embeddings", None)
        assert not work.has_work(store, settings)
        assert run(store, settings).rows == 0
    assert [len(request["input"]) for request in asked] == [4]
    (call,) = llm_calls.recent(store).to_dicts()
    assert (call["purpose"], call["outcome"], call["input_tokens"]) == ("embedding", "answered", 36)


def test_what_is_new_is_compared_by_words_until_the_job_has_come_and_no_page_asks(store):
    add(store, "a", "far")
    with server(vectors) as (address, asked):
        settings = setup(address)
        run(store, settings)
        add(store, "same")
        assert len(asked) == 1
        assert near(store, "same") == []
        assert how(store, "same").method == "TF-IDF"
        assert "not made yet" in how(store, "same").reason
        # Whoever is read beside it is told what was compared otherwise.
        gather.check(store, "a")
        assert how(store, "a").method == "embeddings"
        assert "1 of 3 lessons by TF-IDF" in how(store, "a").reason
        assert work.has_work(store, settings)
        run(store, settings)
        assert near(store, "same") == [("a", "block")]
        assert near(store, "a") == [("same", "block")]
        assert how(store, "a").reason is None
        assert [len(request["input"]) for request in asked] == [2, 1]
        # An edit makes a new text; the old one's vector serves nobody any more.
        review.edit(store, "same", version=1, operator="Ada", text=LessonText("Thanks", WHEN, None, DO["far"]))
        assert (len(asked), how(store, "same").method) == (2, "TF-IDF")
        run(store, settings)
    assert [len(request["input"]) for request in asked] == [2, 1, 1]
    with store.read() as reader:
        assert reader.value("SELECT count(*) FROM lesson_embeddings") == 3


def test_a_failing_model_is_said_and_left_alone_for_longer_and_longer(store):
    add(store, "a", "same")
    with server(broken) as (address, asked):
        settings = setup(address)
        said = run(store, settings).message
        assert "on fire" in said
        assert "TF-IDF is used" in said
        told = how(store, "a")
        assert (told.method, "on fire" in told.reason) == ("TF-IDF", True)
        assert near(store, "a") == []
        assert not work.has_work(store, settings)
        store.clock.moment += timedelta(minutes=11)
        assert work.has_work(store, settings)
        run(store, settings)
        store.clock.moment += timedelta(minutes=11)
        assert not work.has_work(store, settings)
        assert len(asked) == 2
        store.clock.moment += timedelta(minutes=10)
        assert work.has_work(store, settings)
    # It answers again.
    with server(vectors) as (address, _):
        run(store, setup(address))
    assert near(store, "a") == [("same", "block")]
    assert how(store, "a") == lesson_lint.Compared("embeddings", None)


def test_beyond_the_budget_nothing_is_sent_and_the_reason_is_told(store):
    add(store, "a", "same")
    with server(vectors) as (address, asked):
        assert "The model was not asked" in run(store, setup(address, model_daily_tokens=5)).message
    assert asked == []
    assert "The model was not asked" in how(store, "same").reason


def test_what_a_budget_cuts_short_goes_on_where_it_was(store, monkeypatch):
    monkeypatch.setattr("pipelines.llm_embeddings._BATCH", 2)
    add(store, "a", "same", "near", "far")
    with server(vectors) as (address, asked):
        # A batch may take 400 tokens, and takes 18.
        found = run(store, setup(address, model_run_tokens=410))
        assert found.message.startswith("2 texts embedded")
        assert "in this run" in found.message
        assert [len(request["input"]) for request in asked] == [2]
        assert embeddings.state(store).failures == 1
        store.clock.moment += timedelta(minutes=11)
        run(store, setup(address, model_run_tokens=410))
    assert [len(request["input"]) for request in asked] == [2, 2]
    assert near(store, "a") == [("near", "warn"), ("same", "block")]


def test_another_model_is_never_compared_with_the_first_and_none_ends_it(store):
    add(store, "a", "same")
    with server(vectors) as (address, asked):
        run(store, setup(address))
        other = setup(address, embedding_model="f", model_prices="f=1/0")
        assert work.has_work(store, other)
        run(store, other)
        assert [request["model"] for request in asked] == ["e", "f"]
        with store.read() as reader:
            assert reader.value("SELECT count(DISTINCT origin) FROM lesson_embeddings") == 1
        assert work.has_work(store, Settings())
        run(store, Settings())
        assert not work.has_work(store, Settings())
    assert embeddings.state(store) is None
    gather.check(store, "a")
    assert how(store, "a") == lesson_lint.Compared("TF-IDF", None)


def test_a_model_that_finds_everything_alike_is_not_believed(store):
    names = [f"l{i:02}" for i in range(24)]
    DO.update({name: f"Sentence number {name}." for name in names})
    AT.update(dict.fromkeys(names, 0.0))
    try:
        add(store, *names)
        with server(vectors) as (address, _):
            settings = setup(address)
            run(store, settings)
            assert near(store, "l00") == []
            assert "finds more than 25% of all lessons like this one" in how(store, "l00").reason
            assert not work.has_work(store, settings)
    finally:
        for name in names:
            del DO[name], AT[name]


def test_vectors_of_no_or_another_length_are_like_nothing(store):
    add(store, "a", "same", "near")
    lengths = iter(([1.0, 0.0], [0.0, 0.0], [1.0, 0.0, 0.0]))

    def odd(request):
        return 200, {"data": [{"index": 0, "embedding": next(lengths)}], "usage": {"prompt_tokens": 1}}

    with server(odd) as (address, _):
        for name in ("a", "same", "near"):
            row = lessons.one(store, name)
            text = "\n".join((row["title"], row["when_text"], row["do_text"]))
            assert embedding.of_texts(store, setup(address), [text], environ={}).problem is None
        origin = work.origin(setup(address))
    row = lessons.one(store, "a")
    text = "\n".join((row["title"], row["when_text"], row["do_text"]))
    assert embeddings.cosines(store, origin, text) == {"a": 1.0, "same": 0.0}
    assert embeddings.cosines(store, origin, "unknown") is None


def test_the_job_is_registered():
    registered = REGISTRY["lint-lessons"]
    assert registered.run.resolve() is job.run  # type: ignore[attr-defined]
    assert registered.has_work.resolve() is work.has_work  # type: ignore[union-attr]
