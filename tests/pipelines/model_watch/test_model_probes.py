"""Probes through a real HTTP server: baseline, a model that switches, resumption, budgets, log-probabilities."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import numpy as np
import pytest

from pipelines.jobs import REGISTRY, JobContext, JobInterrupted, JobResult
from pipelines.model_watch import probe_cost, probe_job
from pipelines.model_watch.measures import PROBE_LOGPROBS, PROBE_TEXTS, PROBES_TOGETHER
from store import audit, llm_calls, model_anchors, model_figures, model_probe_runs, model_probes, notices
from store.clock import FixedClock
from store.connection import Store
from store.errors import ActionRefused
from store.settings import Settings

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
KEY = "sk-probe-51f2"
WORDS = ("amber", "birch", "cedar", "delta", "ember")


class Endpoint:
    """A model that speaks both APIs and answers at random, by `shares` of its words; told when to be another."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(11)
        self.shares: list[float] = [0.2] * 5
        self.shift = 0.0
        self.lists = True
        self.fingerprint = "fp_one"
        self.asked: list[dict[str, Any]] = []
        self.fail: Callable[[dict[str, Any]], tuple[int, dict[str, Any]] | None] = lambda body: None
        self.url = ""

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.asked.append(body)
        failed = self.fail(body)
        if failed is not None:
            return failed
        limit = body.get("max_completion_tokens", body.get("max_output_tokens"))
        assert isinstance(limit, int)
        assert "temperature" not in body
        assert "response_format" not in body
        text = " ".join(self.random.choice(WORDS, size=3, p=self.shares))
        listed = [
            {"token": word, "logprob": -1.0 - place + self.shift * (place == 0) + float(self.random.normal(0, 0.02))}
            for place, word in enumerate(WORDS)
        ]
        usage = {"prompt_tokens": 12, "completion_tokens": 3, "input_tokens": 12, "output_tokens": 3}
        if path.endswith("/responses"):
            part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": []}
            if "include" in body and self.lists:
                part["logprobs"] = [{"token": WORDS[0], "logprob": -1.0, "top_logprobs": listed}]
            output = [{"type": "reasoning", "summary": []}, {"type": "message", "role": "assistant", "content": [part]}]
            return 200, {"object": "response", "status": "completed", "model": "m-1", "output": output, "usage": usage}
        logprobs = {"content": [{"token": WORDS[0], "logprob": -1.0, "top_logprobs": listed}]}
        choice = {
            "index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": text},
            "logprobs": logprobs if body.get("logprobs") and self.lists else None,
        }  # fmt: skip
        return 200, {
            "object": "chat.completion", "model": "m-1", "system_fingerprint": self.fingerprint, "choices": [choice],
            "usage": usage,
        }  # fmt: skip


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    model = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # head and body in one piece, or each answer waits for an acknowledgement

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code, document = model.answer(self.path, body)
            content = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    model.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield model
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
def store(clock: FixedClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    # Three prompts instead of 26, and fewer samples: the same statistics in little time.
    whole = probe_cost.built_in
    monkeypatch.setattr(probe_cost, "built_in", lambda samples: [*whole(samples)[:2], whole(samples)[-1]])
    opened = Store.open(None, clock=clock, threads=1)
    yield opened
    opened.close()


def settings(endpoint: Endpoint, **changed: Any) -> Settings:
    base = Settings(
        model="m", model_base_url=endpoint.url, model_api="chat", model_key_env="MODEL_KEY", model_prices="m=2/8",
        model_timeout_seconds=5.0,
    )  # fmt: skip
    return replace(base, **changed)


def run(store: Store, chosen: Settings, progress: Any = None, seed: int = 0) -> JobResult:
    context = JobContext(
        store, store.clock, chosen, np.random.default_rng(seed), progress or (lambda share, text: None), None
    )
    return probe_job.probe(context, environ={"MODEL_KEY": KEY})


def switched_on(store: Store, **changed: Any) -> None:
    fewer = {"baseline_samples": 8, "samples": 6}
    model_probes.put_settings(store, operator="ann", switched_on=True, **{**fewer, **changed})


def later(clock: FixedClock, hours: float = 168) -> None:
    clock.moment += timedelta(hours=hours)


def metrics(store: Store) -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in model_figures.changes(store, kind="active", current_only=True).to_dicts()}


def test_nothing_is_sent_until_probes_are_switched_on(store: Store, endpoint: Endpoint) -> None:
    assert not REGISTRY["model-probes"].has_work(store, settings(endpoint))
    assert "switched off" in run(store, settings(endpoint)).message
    switched_on(store)
    assert not probe_job.has_work(store, Settings())
    assert "No model" in run(store, Settings()).message
    assert endpoint.asked == []
    assert probe_job.has_work(store, settings(endpoint))


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_model_that_switches_mid_way_is_detected_and_one_that_stays_is_not(
    store: Store, endpoint: Endpoint, clock: FixedClock, api: str
) -> None:
    chosen = settings(endpoint, model_api=api)
    switched_on(store)
    assert "baseline" in run(store, chosen).message
    assert model_figures.changes(store).is_empty()
    assert not probe_job.has_work(store, chosen)
    later(clock)
    assert probe_job.has_work(store, chosen)
    assert "No change" in run(store, chosen).message
    assert {name: row["flagged"] for name, row in metrics(store).items()} == dict.fromkeys(
        (PROBE_TEXTS, PROBE_LOGPROBS, PROBES_TOGETHER), False
    )
    assert notices.open_(store).is_empty()

    endpoint.shares, endpoint.shift, endpoint.fingerprint = [0.9, 0.1, 0, 0, 0], -0.3, "fp_two"
    later(clock)
    changed_at = clock.now()
    assert "seems to have changed" in run(store, chosen).message
    found = metrics(store)
    assert all(row["flagged"] and row["status"] == "change" and row["p_value"] < 0.05 for row in found.values())
    texts, shift = found[PROBE_TEXTS], found[PROBE_LOGPROBS]
    assert (texts["before_n"], texts["after_n"], shift["before_n"], shift["after_n"]) == (16, 12, 8, 6)
    assert texts["changed_at"] == changed_at
    assert shift["effect"] == pytest.approx(-0.3, abs=0.05)
    assert shift["effect_lower"] < shift["effect"] < shift["effect_upper"] < 0
    if api == "chat":
        assert json.loads(texts["detail"])["fingerprints"] == {"before": ["fp_one"], "after": ["fp_two"]}
    (notice,) = notices.open_(store).to_dicts()
    assert notice["kind"] == "model change"
    assert notice["times"] == 1

    later(clock)
    run(store, chosen)
    again = metrics(store)
    # Seen again it is the same change: no second notice, and when it was found stays.
    assert again[PROBE_TEXTS]["changed_at"] == changed_at
    assert again[PROBE_TEXTS]["found_at"] == texts["found_at"]
    assert notices.open_(store)["times"].to_list() == [1]
    assert model_probe_runs.runs(store)["state"].to_list() == ["compared"] * 4


def test_an_anchored_model_gets_a_new_baseline(store: Store, endpoint: Endpoint, clock: FixedClock) -> None:
    chosen = settings(endpoint)
    switched_on(store)
    run(store, chosen)
    endpoint.shares = [0.9, 0.1, 0, 0, 0]
    later(clock)
    run(store, chosen)
    assert any(row["flagged"] for row in metrics(store).values())
    later(clock, 1)
    model_anchors.anchor(store, "m", anchored_at=clock.now(), reason="The provider said so.", operator="ann")
    assert notices.open_(store).is_empty()
    assert metrics(store) == {}
    later(clock, 1)
    assert probe_job.has_work(store, chosen)
    assert "baseline" in run(store, chosen).message
    later(clock)
    assert "No change" in run(store, chosen).message
    assert audit.verify(store) is None
    assert "model anchor" in audit.recent(store)["action"].to_list()


def test_a_run_that_was_cut_short_goes_on_and_asks_for_nothing_twice(
    store: Store, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(endpoint)
    switched_on(store)

    def stop(share: float, text: str) -> None:
        if len(endpoint.asked) >= 7:
            raise JobInterrupted

    with pytest.raises(JobInterrupted):
        run(store, chosen, stop)
    # The worst moment: the answer is kept with its call, and the process ends before it is kept with its run.
    keep = model_probe_runs.keep_sample

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model_probe_runs, "keep_sample", killed)
    with pytest.raises(KeyboardInterrupt):
        run(store, chosen)
    monkeypatch.setattr(model_probe_runs, "keep_sample", keep)
    assert probe_job.has_work(store, chosen)
    assert "baseline" in run(store, chosen).message
    assert len(endpoint.asked) == 24
    (held,) = model_probe_runs.runs(store).to_dicts()
    assert (held["planned"], held["answered"], held["state"]) == (24, 24, "compared")
    calls = llm_calls.recent(store, 200)
    assert calls["outcome"].value_counts().sort("outcome").rows() == [("answered", 24), ("cached", 1)]
    assert held["usd"] == pytest.approx(24 * (12 * 2 + 3 * 8) / 1e6)
    assert model_probes.spent_today(store) == pytest.approx(held["usd"])
    assert model_probes.spend(store)["calls"].to_list() == [25]


def test_probes_cost_no_more_in_a_day_than_they_may(store: Store, endpoint: Endpoint, clock: FixedClock) -> None:
    chosen = settings(endpoint)
    switched_on(store, daily_usd=0.0001)
    assert "Nothing was asked" in run(store, chosen).message
    assert endpoint.asked == []
    switched_on(store, daily_usd=0.0025)
    # The estimate is below the cap, and answers turn out dearer: the server counts far more than was likely.
    true = endpoint.answer

    def dear(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        code, document = true(path, body)
        document["usage"] = {"prompt_tokens": 80, "completion_tokens": 3}
        return code, document

    endpoint.answer = dear  # type: ignore[method-assign]
    first = run(store, chosen)
    assert "goes on tomorrow" in first.message
    assert 0 < first.rows < 24
    assert model_probes.spent_today(store) <= 0.0025
    later(clock, 24)
    assert "baseline" in run(store, chosen).message
    assert len(endpoint.asked) == 24


def test_a_server_without_log_probabilities_is_asked_for_them_once_a_run(
    store: Store, endpoint: Endpoint, clock: FixedClock
) -> None:
    chosen = settings(endpoint)
    switched_on(store)
    endpoint.lists = False
    assert "baseline" in run(store, chosen).message
    assert sum("logprobs" in body for body in endpoint.asked) == 1
    endpoint.fail = lambda body: (400, {"error": {"message": "no logprobs"}}) if "logprobs" in body else None
    later(clock)
    assert "No change" in run(store, chosen).message
    assert set(metrics(store)) == {PROBE_TEXTS}


def test_a_server_that_refuses_stops_the_run_and_one_that_fails_leaves_it_open(
    store: Store, endpoint: Endpoint
) -> None:
    from pipelines.llm import ModelUnavailable

    chosen = settings(endpoint)
    switched_on(store)
    endpoint.fail = lambda body: (503, {"error": {"message": f"busy, {KEY}"}}) if len(endpoint.asked) > 5 else None
    with pytest.raises(ModelUnavailable) as failed:
        run(store, chosen)
    assert KEY not in str(failed.value)
    held = model_probe_runs.open_run(store)
    assert held is not None
    assert held["answered"] == 5
    endpoint.fail = lambda body: (400, {"error": {"message": "no such model"}})
    assert "no such model" in run(store, chosen).message
    assert model_probe_runs.open_run(store) is None
    assert model_probe_runs.runs(store)["state"].to_list() == ["stopped"]


def test_hostile_answers_are_kept_and_compared(store: Store, endpoint: Endpoint, clock: FixedClock) -> None:
    chosen = settings(endpoint)
    switched_on(store)

    def hostile(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        endpoint.asked.append(body)
        message = {"content": "\ud800<script>" + KEY + "x" * 20_000}
        odd = {"content": [{"top_logprobs": [{"token": "\udfff", "logprob": float("nan")}, 3, None]}]}
        return 200, {"choices": [{"message": message, "logprobs": odd}], "system_fingerprint": ["no"], "usage": 7}

    endpoint.answer = hostile  # type: ignore[method-assign]
    run(store, chosen)
    later(clock)
    assert "No change" in run(store, chosen).message
    answers = model_probe_runs.samples(store, [1])["answer"]
    assert not answers.str.contains(KEY, literal=True).any()
    assert answers.str.len_chars().max() <= 8_000


def test_prompts_of_operators_are_asked_and_those_retired_are_not(store: Store, endpoint: Endpoint) -> None:
    own = model_probes.put_prompt(store, "Say yes.", kind="text", output_tokens=5, operator="ann")
    with pytest.raises(ActionRefused, match="there already"):
        model_probes.put_prompt(store, "Say yes.", kind="text", output_tokens=5, operator="ann")
    plan = probe_cost.planned(store, model_probes.settings(store), baseline=False)
    assert [each.prompt for each in plan if each.probe_id == own] == ["Say yes."]
    model_probes.retire_prompt(store, own, operator="ann")
    with pytest.raises(ActionRefused, match="retired already"):
        model_probes.retire_prompt(store, own, operator="ann")
    assert len(probe_cost.planned(store, model_probes.settings(store), baseline=False)) == len(plan) - 1
    assert model_probes.put_prompt(store, "Say yes.", kind="text", output_tokens=5, operator="ann") == own
    assert audit.recent(store)["action"].to_list() == ["model probe add", "model probe retire", "model probe add"]


@pytest.mark.parametrize(
    "changed",
    [{"samples": 1}, {"samples": 2.5}, {"daily_usd": float("nan")}, {"daily_usd": True}, {"every_hours": "7"},
     {"switched_on": "yes"}, {"colour": 1}],
)  # fmt: skip
def test_settings_that_cannot_be_used_are_refused_by_name(store: Store, changed: dict[str, Any]) -> None:
    with pytest.raises(ActionRefused, match=next(iter(changed))):
        model_probes.put_settings(store, operator="ann", **changed)
    assert model_probes.settings(store) == model_probes.ProbeSettings()


@pytest.mark.parametrize(("name", "reason", "days"), [("", "why", 0), ("m", " ", 0), ("m", "why", 1)])
def test_anchors_need_a_model_a_reason_and_a_time_that_has_passed(
    store: Store, name: str, reason: str, days: int
) -> None:
    with pytest.raises(ActionRefused):
        model_anchors.anchor(store, name, anchored_at=NOW + timedelta(days=days), reason=reason, operator="ann")
    assert model_anchors.anchors(store).is_empty()
