"""The model port against a server that speaks both APIs: answers, failures, budgets, cache, record, secrecy."""

import json
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines import llm
from pipelines.llm import BudgetExceeded, Message, ModelPort
from pipelines.llm_schema import strict_object
from store import llm_calls
from store.clock import FixedClock
from store.connection import Store
from store.errors import SettingsError, TrimtabError
from store.llm_calls import Charge
from store.settings import Settings
from tests.pipelines.judges.model_server import (
    KEY,
    NAMED,
    WRITTEN,
    Asked,
    Body,
    Drops,
    Hangs,
    ModelServer,
    Refuses,
    Says,
    Status,
    model_server,
)

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
SCHEMA = strict_object({"word": {"type": "string"}})
GOOD = json.dumps({"word": "yes"})
TALK = (Message("system", "Answer in one word."), Message("user", "Is it so?"))

Open = Callable[..., ModelPort]


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    with_store = Store.open(tmp_path / "trimtab.duckdb", clock=clock, threads=1)
    yield with_store
    with_store.close()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as running:
        running.mind = lambda asked: {"word": "yes"}
        yield running


@pytest.fixture(params=["responses", "chat"])
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def connect(store: Store, server: ModelServer, api: str, waits: list[float]) -> Iterator[Open]:
    opened: list[ModelPort] = []

    def run(**changes: Any) -> ModelPort:
        port = llm.connect(store, settings(server, api, **changes), environ={"MODEL_KEY": KEY}, wait=waits.append)
        assert port is not None
        opened.append(port)
        return port

    yield run
    for port in opened:
        port.close()


def settings(server: ModelServer, api: str = "responses", **changes: Any) -> Settings:
    base = Settings(
        model="fake", model_base_url=server.url, model_api=api, model_key_env="MODEL_KEY",
        model_prices="other=9/9,fake=2/8", model_output_tokens=100, model_timeout_seconds=5.0,
    )  # fmt: skip
    return replace(base, **changes)


def calls(store: Store) -> list[dict[str, Any]]:
    return llm_calls.recent(store, 1_000).reverse().to_dicts()


def ask(port: ModelPort, talk: tuple[Message, ...] = TALK) -> llm.Answer:
    return port.complete("test", talk, SCHEMA, prompt_version="p.v1", subject="t1")


def most(port: ModelPort) -> int:
    """The tokens that are reserved for a question like `TALK`."""
    stated = json.dumps([{"role": each.role, "text": each.text} for each in TALK]) + json.dumps(SCHEMA)
    return port.setup.most(stated).tokens


def test_without_a_model_there_is_no_port(store: Store) -> None:
    assert llm.connect(store, Settings(), environ={}) is None


def test_an_answer_is_returned_and_recorded_with_what_it_cost(
    store: Store, server: ModelServer, connect: Open, api: str
) -> None:
    answer = ask(connect())
    assert (answer.value, answer.cached, answer.model) == ({"word": "yes"}, False, NAMED)
    asked = server.asked[0]
    cost = (asked.tokens * 2 + WRITTEN * 8) / 1e6
    assert (answer.input_tokens, answer.output_tokens) == (asked.tokens, WRITTEN)
    assert answer.cost_usd == pytest.approx(cost, abs=1e-15)
    (row,) = calls(store)
    assert (row["purpose"], row["prompt_version"], row["subject"]) == ("test", "p.v1", "t1")
    assert (row["api"], row["model"], row["answered_by"]) == (api, "fake", NAMED)
    assert (row["outcome"], row["attempts"], row["estimated"], row["error"]) == ("answered", 1, False, None)
    assert row["charged_tokens"] == asked.tokens + WRITTEN
    assert row["cost_usd"] == pytest.approx(cost, abs=1e-15)
    assert row["seconds"] >= 0
    assert row["asked_at"] == NOW


def test_the_request_is_what_the_api_documents(server: ModelServer, connect: Open, api: str) -> None:
    ask(connect())
    asked = server.asked[0]
    assert asked.turns == [("system", TALK[0].text), ("user", TALK[1].text)]
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.body["model"] == "fake"
    assert asked.form["schema"] == SCHEMA
    assert asked.form["name"] == "test"
    if api == "responses":
        assert (asked.path, asked.body["max_output_tokens"], asked.body["store"]) == ("/v1/responses", 100, False)
    else:
        assert (asked.path, asked.body["max_completion_tokens"]) == ("/v1/chat/completions", 100)


def test_the_same_question_is_answered_from_the_cache_by_any_later_run(
    store: Store, server: ModelServer, connect: Open, clock: FixedClock
) -> None:
    first = ask(connect())
    clock.moment += timedelta(days=3)
    again = ask(connect())
    assert len(server.asked) == 1
    assert (again.value, again.cached, again.cost_usd, again.model) == (first.value, True, 0.0, NAMED)
    assert again.answered_at == first.answered_at == NOW
    assert [(row["outcome"], row["charged_tokens"]) for row in calls(store)][1] == ("cached", 0)


@pytest.mark.parametrize(
    "change",
    [
        {"messages": (TALK[0], Message("user", "Is it not so?"))},
        {"prompt_version": "p.v2"},
        {"purpose": "other"},
        {"schema": strict_object({"word": {"type": "string", "enum": ["yes", "no"]}})},
    ],
)
def test_whatever_decides_the_answer_is_part_of_the_key(
    server: ModelServer, connect: Open, change: dict[str, Any]
) -> None:
    port = connect()
    stated: dict[str, Any] = {"purpose": "test", "messages": TALK, "schema": SCHEMA, "prompt_version": "p.v1"}
    port.complete(**stated)
    port.complete(**stated | change)
    assert len(server.asked) == 2


def test_an_answer_that_failed_is_not_kept(server: ModelServer, connect: Open) -> None:
    server.script = [Refuses()]
    port = connect()
    with pytest.raises(llm.ModelRefused):
        ask(port)
    assert ask(port).value == {"word": "yes"}


def test_after_429_it_waits_as_long_as_it_is_asked_to(
    store: Store, server: ModelServer, connect: Open, waits: list[float]
) -> None:
    later = "Sat, 21 Nov 2026 10:00:11 GMT"
    server.script = [Status(429, {"Retry-After": "7"}), Status(429, {"Retry-After": later})]
    assert ask(connect()).value == {"word": "yes"}
    assert waits == [7.0, 11.0]
    (row,) = calls(store)
    assert (row["attempts"], row["outcome"]) == (3, "answered")
    # A server that answered with an error is not paid.
    assert row["charged_tokens"] == server.asked[0].tokens + WRITTEN


def test_without_retry_after_it_backs_off_exponentially(server: ModelServer, connect: Open, waits: list[float]) -> None:
    server.script = [Status(500), Status(502), Status(503)]
    assert ask(connect()).value == {"word": "yes"}
    assert [0.5 <= wait / 2**power <= 1.5 for power, wait in enumerate(waits)] == [True] * 3


def test_a_wait_that_is_too_long_ends_it(server: ModelServer, connect: Open, waits: list[float]) -> None:
    server.script = [Status(429, {"Retry-After": "3600"})]
    with pytest.raises(llm.ModelUnavailable, match="asks to wait 3,600 s"):
        ask(connect())
    assert waits == []


def test_it_gives_up_after_the_attempts_allowed(store: Store, server: ModelServer, connect: Open) -> None:
    server.script = [Status(500)] * 9
    with pytest.raises(llm.ModelUnavailable, match="answered 500"):
        ask(connect(model_attempts=3))
    assert len(server.asked) == 3
    (row,) = calls(store)
    assert (row["outcome"], row["attempts"], row["charged_tokens"], row["cost_usd"]) == ("unavailable", 3, 0, 0.0)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_asking_again_cannot_help_is_asked_once(server: ModelServer, connect: Open, status: int) -> None:
    server.script = [Status(status, error={"message": "no such model"})]
    with pytest.raises(llm.ModelRejected, match=f"answered {status}: .*no such model"):
        ask(connect())
    assert len(server.asked) == 1


def test_an_empty_account_is_not_asked_again(server: ModelServer, connect: Open) -> None:
    server.script = [Status(429, error={"message": "You exceeded your quota", "code": "insufficient_quota"})]
    with pytest.raises(llm.ModelRejected, match="quota"):
        ask(connect())
    assert len(server.asked) == 1


def test_a_timeout_may_have_been_billed_and_stays_charged(store: Store, server: ModelServer, connect: Open) -> None:
    server.script = [Hangs(), Hangs()]
    port = connect(model_timeout_seconds=0.1, model_attempts=2)
    with pytest.raises(llm.ModelUnavailable, match=r"did not answer within 0\.1 s"):
        ask(port)
    (row,) = calls(store)
    assert (row["outcome"], row["attempts"], row["estimated"]) == ("unavailable", 2, True)
    assert row["charged_tokens"] >= server.answered_tokens()


def test_a_connection_that_breaks_is_tried_again(store: Store, server: ModelServer, connect: Open) -> None:
    server.script = [Drops()]
    assert ask(connect()).value == {"word": "yes"}
    (row,) = calls(store)
    assert (row["outcome"], row["attempts"], row["estimated"]) == ("answered", 2, True)


def test_a_server_that_is_not_there_costs_nothing(store: Store, connect: Open) -> None:
    with pytest.raises(llm.ModelUnavailable, match="could not be asked"):
        ask(connect(model_base_url="http://127.0.0.1:1/v1", model_attempts=2))
    (row,) = calls(store)
    assert (row["charged_tokens"], row["cost_usd"], row["estimated"]) == (0, 0.0, False)


@pytest.mark.parametrize(
    "text",
    ["", "yes", '{"word": "ye', '{"word": 3}', '{"word": "a", "x": 1}', "[]", "null", '{"word": NaN}', "[" * 9_999],
)
def test_malformed_answers_are_asked_for_once_more_and_paid(
    store: Store, server: ModelServer, connect: Open, text: str
) -> None:
    server.script = [Says(text), Says(text)]
    with pytest.raises(llm.ModelMalformed):
        ask(connect())
    (row,) = calls(store)
    assert (row["outcome"], row["attempts"]) == ("malformed", 2)
    assert row["charged_tokens"] == server.answered_tokens() == 2 * (server.asked[0].tokens + WRITTEN)


def test_a_second_answer_may_be_well_formed(server: ModelServer, connect: Open) -> None:
    server.script = [Says("{")]
    assert ask(connect()).value == {"word": "yes"}


@pytest.mark.parametrize(
    "body", [Body(b"<html>proxy</html>", "text/html"), Body(b'{"id": '), Body(b"[1]"), Body(b"\xff\xfe")]
)
def test_a_body_that_is_no_json_object_is_no_answer(server: ModelServer, connect: Open, body: Body) -> None:
    server.script = [body, body]
    with pytest.raises(llm.ModelUnavailable, match="no JSON object"):
        ask(connect(model_attempts=2))


@pytest.mark.parametrize(
    "body", [b"{}", b'{"output": 3, "choices": 4, "usage": 5}', b'{"output": [null], "choices": [null]}']
)
def test_a_document_of_another_shape_is_malformed(server: ModelServer, connect: Open, body: bytes) -> None:
    server.script = [Body(body), Body(body)]
    with pytest.raises(llm.ModelMalformed):
        ask(connect())


def test_refusals_and_cut_answers_are_told_apart_and_paid(store: Store, server: ModelServer, connect: Open) -> None:
    server.script = [Refuses("No, I will not."), Says('{"word": "y', cut=True)]
    port = connect()
    with pytest.raises(llm.ModelRefused, match="No, I will not"):
        ask(port)
    with pytest.raises(llm.ModelTruncated, match="TRIMTAB_MODEL_OUTPUT_TOKENS"):
        ask(port)
    assert [row["outcome"] for row in calls(store)] == ["refused", "truncated"]
    assert sum(row["charged_tokens"] for row in calls(store)) == server.answered_tokens()


def test_without_token_counts_the_most_is_charged(store: Store, server: ModelServer, connect: Open) -> None:
    server.script = [Says(GOOD, counted=False)]
    answer = ask(connect())
    (row,) = calls(store)
    assert (answer.input_tokens, row["estimated"]) == (None, True)
    assert row["charged_tokens"] > server.asked[0].tokens + 100


def test_nothing_is_sent_that_could_exceed_the_day(store: Store, server: ModelServer, connect: Open) -> None:
    with pytest.raises(BudgetExceeded, match="TRIMTAB_MODEL_DAILY_USD"):
        ask(connect(model_daily_usd=0.0))
    with pytest.raises(BudgetExceeded, match="TRIMTAB_MODEL_DAILY_TOKENS"):
        ask(connect(model_daily_tokens=50))
    assert server.asked == []
    assert [(row["outcome"], row["charged_tokens"]) for row in calls(store)] == [("over budget", 0)] * 2


def test_a_run_has_a_budget_of_its_own(server: ModelServer, connect: Open) -> None:
    limit = most(connect()) + 10
    port = connect(model_run_tokens=limit)
    ask(port)
    with pytest.raises(BudgetExceeded, match="TRIMTAB_MODEL_RUN_TOKENS") as caught:
        ask(port, (TALK[0], Message("user", "And so?")))
    assert caught.value.span == "run"
    ask(connect(model_run_tokens=limit), (TALK[0], Message("user", "And so?")))
    assert len(server.asked) == 2


def test_a_new_day_has_a_new_budget(store: Store, connect: Open, clock: FixedClock) -> None:
    limit = most(connect()) + 10
    port = connect(model_daily_tokens=limit)
    ask(port)
    with pytest.raises(BudgetExceeded):
        ask(port, (TALK[0], Message("user", "Is it 1?")))
    clock.moment = datetime(2026, 11, 22, 0, 0, 1, tzinfo=UTC)
    assert llm_calls.spent(store) == Charge(0, 0.0)
    assert not ask(connect(model_daily_tokens=limit), (TALK[0], Message("user", "Is it 2?"))).cached


def test_many_at_once_never_spend_more_than_the_budget_and_use_it_up(
    store: Store, server: ModelServer, connect: Open
) -> None:
    """Sixteen threads, one budget, failures of every kind: what the server would bill stays within."""
    limit = 8_000
    port = connect(model_daily_tokens=limit, model_run_tokens=10**9, model_timeout_seconds=5.0)
    server.script = [Says("{"), Status(500), Status(429, {"Retry-After": "0"}), Drops(), Refuses()] * 4
    refused = threading.Event()

    def work(thread: int) -> None:
        for number in range(1_000):
            try:
                ask(port, (TALK[0], Message("user", f"Is it {thread} or {number}?")))
            except BudgetExceeded:
                refused.set()
                return
            except llm.ModelError:
                continue

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused.is_set()
    charged = sum(row["charged_tokens"] for row in calls(store))
    billed = sum(asked.tokens + WRITTEN for asked in server.asked)
    assert charged <= limit
    assert billed <= limit
    # Whoever was refused last was alone, and could not have been let in.
    assert charged + most(port) + 20 > limit
    assert llm_calls.spent(store).tokens == charged


def test_what_a_dead_process_reserved_stays_charged(store: Store, connect: Open) -> None:
    port = connect()
    question = llm_calls.Question(port.run, "test", "p.v1", None, "chat", "fake", "0" * 64)
    llm_calls.begin(store, question, Charge(1_000, 0.5), port.setup.budget)
    assert llm_calls.spent(store) == Charge(1_000, 0.5)
    with pytest.raises(BudgetExceeded):
        ask(connect(model_daily_usd=0.5))


def test_an_interrupted_wait_is_recorded_and_passed_on(store: Store, server: ModelServer) -> None:
    class Stop(BaseException):
        pass

    def stop(seconds: float) -> None:
        raise Stop

    server.script = [Status(500)]
    port = llm.connect(store, settings(server), environ={"MODEL_KEY": KEY}, wait=stop)
    assert port is not None
    with port, pytest.raises(Stop):
        ask(port)
    assert calls(store)[0]["outcome"] == "interrupted"


def test_the_key_appears_in_no_message_record_or_log(
    store: Store, server: ModelServer, connect: Open, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = {"message": f"Incorrect API key provided: {KEY}. See {KEY}", "code": "invalid_api_key"}
    html = Body(f"<html>{KEY}</html>".encode(), "text/html")
    server.script = [Status(401, error=echo), html, Refuses(f"No: {KEY}"), Says(KEY)]
    port = connect(model_attempts=1)
    said = []
    for number in range(4):
        try:
            ask(port, (TALK[0], Message("user", f"Is it {number}?")))
        except TrimtabError:
            said.append(traceback.format_exc())
    ask(port)
    said += [repr(port), repr(port.setup), str(vars(port.setup)), caplog.text, json.dumps(calls(store), default=str)]
    assert len(said) >= 8
    assert not [text for text in said if KEY in text or KEY[:12] in text]
    store.write(lambda connection: connection.execute("CHECKPOINT"))
    assert KEY.encode() not in (tmp_path / "trimtab.duckdb").read_bytes()


def test_a_redirect_is_not_followed(server: ModelServer, connect: Open) -> None:
    with model_server() as other:
        server.script = [Status(307, {"Location": f"{other.url}/responses"})]
        with pytest.raises(llm.ModelError):
            ask(connect(model_attempts=1))
        assert other.asked == []


def test_a_model_without_price_or_key_is_refused(store: Store, server: ModelServer) -> None:
    with pytest.raises(SettingsError, match=r"TRIMTAB_MODEL_PRICES.*the price of fake"):
        llm.connect(store, settings(server, model_prices="other=1/1"), environ={"MODEL_KEY": KEY})
    openai = settings(server, model_base_url="https://api.openai.com/v1")
    with pytest.raises(SettingsError, match="TRIMTAB_MODEL_KEY_ENV is 'MODEL_KEY'"):
        llm.connect(store, openai, environ={})


def test_a_server_of_ones_own_needs_no_key(store: Store, server: ModelServer) -> None:
    port = llm.connect(store, settings(server), environ={})
    assert port is not None
    with port:
        assert ask(port).value == {"word": "yes"}


def test_no_text_has_more_tokens_than_are_reserved_for_it(server: ModelServer, connect: Open) -> None:
    """A token of a byte-level tokeniser is at least one byte: emoji and Chinese cost several bytes a character."""
    setup = connect().setup
    for text in ("", "word " * 100, "答" * 100, "🛰️" * 100):
        assert setup.most(text).tokens >= len(text.encode()) + setup.output_tokens
        assert setup.likely(text, 50).tokens <= setup.most(text).tokens


def test_the_mind_of_the_server_sees_both_messages(server: ModelServer, connect: Open) -> None:
    seen: list[Asked] = []

    def mind(asked: Asked) -> dict[str, Any]:
        seen.append(asked)
        return {"word": asked.user}

    server.mind = mind
    assert ask(connect()).value == {"word": "Is it so?"}
    assert seen[0].system == "Answer in one word."
