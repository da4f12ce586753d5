"""A support agent steered by Trimtab, from the decision to the feedback.

    pip install openai opentelemetry-sdk opentelemetry-exporter-otlp-proto-http openinference-instrumentation-openai
    python docs/client/example_agent.py --base-url http://127.0.0.1:8501 --openai-base-url https://api.openai.com/v1 \\
        --model gpt-5-mini --user ada --session visit-3 "Where is my order 7?"

It asks which arm to run, runs it within the limits, sends its trace by OTLP, and asks for feedback when it is told to.
Keys come from TRIMTAB_API_KEY (scopes steer and ingest) and OPENAI_API_KEY.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import openai
from openinference.instrumentation import using_attributes
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from trimtab_steer import Decision, Limits, Trimtab

AGENT = "support"
# What this program can run. Trimtab's definition of an arm, where it has one, goes before ours.
ARMS: dict[str, dict[str, Any]] = {
    "plain": {"prompt": "Answer the customer's question about their order."},
    "warm": {"prompt": "You are warm and personal. Answer the customer's question about their order."},
}
SAFE_ARM = "plain"
MOST_TURNS = 4
USD_A_TOKEN = 1e-6


def order_status(order: str = "?", **_: object) -> str:
    """Where an order is."""
    return f"Order {order} ships today."


def refund(order: str = "?", **_: object) -> str:
    """Give a customer their money back."""
    return f"Order {order} was refunded."


TOOLS: dict[str, Callable[..., str]] = {"order_status": order_status, "refund": refund}


class LimitReached(Exception):
    """The agent may do no more for this request."""


class Guard:
    """Keeps what the agent does within the limits that came with the decision. One for each session."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._acted: deque[float] = deque()
        self._spent = 0.0

    def tools(self) -> list[dict[str, Any]]:
        """The tools that are not off limits, as the model is told of them."""
        order = {"type": "object", "properties": {"order": {"type": "string"}}}
        return [
            {"type": "function", "function": {"name": name, "description": run.__doc__, "parameters": order}}
            for name, run in TOOLS.items()
            if self._limits.forbids(name) is None
        ]

    def refuses(self, tool: str, given: dict[str, Any]) -> str | None:
        """Why a call may not be done; None when it may."""
        return self._limits.forbids(tool, given) if tool in TOOLS else f"there is no tool {tool}"

    def wait(self) -> None:
        """Wait until a tool may be called. Raises: LimitReached when none may be."""
        most, least = self._limits.max_actions_per_minute, self._limits.min_delay_seconds
        if most is not None and most < 1.0:
            raise LimitReached("no action is allowed")
        due = [self._acted[-1] + least] if least and self._acted else []
        if most is not None and len(self._acted) >= most:
            due.append(self._acted[-int(most)] + 60.0)
        time.sleep(max(0.0, *(each - time.monotonic() for each in due), 0.0))

    def acted(self) -> None:
        """A call of a tool has begun."""
        self._acted.append(time.monotonic())

    def spend(self, usd: float) -> None:
        """Count what was spent. Raises: LimitReached when no money is left."""
        self._spent += usd
        if self._limits.max_spend_usd is not None and self._spent >= self._limits.max_spend_usd:
            raise LimitReached(f"{self._spent:g} USD are spent, of {self._limits.max_spend_usd:g}")


def answer(question: str, decision: Decision, model: openai.OpenAI, tracer: trace.Tracer, default_model: str) -> str:
    """Run the arm that was decided."""
    arm = {**ARMS.get(decision.arm or SAFE_ARM, ARMS[SAFE_ARM]), **decision.definition}
    system = "\n\n".join(text for text in (str(arm["prompt"]), decision.instructions) if text)
    messages: list[Any] = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    guard = Guard(decision.limits)
    for turn in range(MOST_TURNS):
        guard.spend(0.0)
        tools = guard.tools() if turn < MOST_TURNS - 1 else []
        asked: dict[str, Any] = {"tools": tools} if tools else {}
        reply = model.chat.completions.create(model=str(arm.get("model") or default_model), messages=messages, **asked)
        said = reply.choices[0].message
        calls = [call for call in said.tool_calls or [] if call.type == "function"]
        if not calls:
            return said.content or ""
        guard.spend(USD_A_TOKEN * (reply.usage.total_tokens if reply.usage else 0))
        messages.append(said.model_dump(exclude_none=True))
        for call in calls:
            result = called(call.function.name, call.function.arguments, guard, tracer)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return "I could not find that out."


def called(name: str, arguments: str, guard: Guard, tracer: trace.Tracer) -> str:
    """What a call of a tool gives, as a span of its own. What is off limits is not called, whoever asks for it."""
    try:
        given = json.loads(arguments or "{}")
        refused = guard.refuses(name, given) if isinstance(given, dict) else "the arguments are no object"
    except ValueError as error:
        refused = f"the arguments are no JSON: {error}"
    if refused:
        return f"Not called: {refused}."
    guard.wait()
    with tracer.start_as_current_span(name) as span:
        guard.acted()
        span.set_attributes({"openinference.span.kind": "TOOL", "tool.name": name, "input.value": arguments})
        result = TOOLS[name](**given)
        span.set_attribute("output.value", result)
        return result


@contextmanager
def tracing(base_url: str, api_key: str | None) -> Iterator[trace.Tracer]:
    """Traces of this program, and of its calls of the model, sent to Trimtab when the block ends."""
    headers = {"authorization": f"Bearer {api_key}"} if api_key else None
    provider = TracerProvider(resource=Resource({"service.name": AGENT}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{base_url}/v1/traces", headers=headers)))
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        yield provider.get_tracer("example_agent")
    finally:
        instrumentor.uninstrument()
        provider.shutdown()


def feedback(decision: Decision, given: str | None) -> dict[str, Any] | None:
    """A thumb, asked for where Trimtab wants it asked for, and with the probability with which it wanted that.

    What is volunteered is sent as well, without a probability: Trimtab keeps the two apart.
    """
    if given is None and decision.solicit and sys.stdin.isatty():
        given = input("Was this helpful? [yes/no] ").strip().lower()
    if given not in ("yes", "no"):
        return None
    signal: dict[str, Any] = {"kind": "thumb", "value": 1 if given == "yes" else 0, "solicited": decision.solicit}
    if decision.solicit:
        signal["propensity"] = decision.solicit_propensity
    return signal


def send(base_url: str, api_key: str | None, signal: dict[str, Any]) -> None:
    """Send a signal. Its id makes sending it again harmless."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {api_key}"} if api_key else {})}
    content = json.dumps({"signal_id": uuid.uuid4().hex, **signal}).encode()
    request = urllib.request.Request(f"{base_url}/v1/signals", content, headers)
    try:
        with urllib.request.urlopen(request, timeout=10):
            say("feedback sent")
    except urllib.error.URLError as error:
        say(f"feedback not sent: {error}")


def say(text: str) -> None:
    """Print."""
    sys.stdout.write(f"{text}\n")


def arguments() -> argparse.Namespace:
    """What was given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", nargs="?", default="Where is my order 7?")
    parser.add_argument("--base-url", default="http://127.0.0.1:8501", help="of Trimtab")
    parser.add_argument("--openai-base-url", default=None, help="of the model's API")
    parser.add_argument("--model", default="gpt-5-mini", help="where the arm names none")
    parser.add_argument("--user", default="ada")
    parser.add_argument("--session", default=None, help="a new one when absent")
    parser.add_argument("--task", default="order-status")
    parser.add_argument("--feedback", choices=("yes", "no"), help="instead of being asked")
    parser.add_argument("--timeout", type=float, default=0.05, help="seconds to wait for a decision")
    return parser.parse_args()


def main() -> None:
    """Answer one question."""
    given = arguments()
    key = os.environ.get("TRIMTAB_API_KEY") or None
    base_url = given.base_url.rstrip("/")
    session = given.session or uuid.uuid4().hex
    model = openai.OpenAI(base_url=given.openai_base_url, api_key=os.environ.get("OPENAI_API_KEY", "none"))
    with (
        Trimtab(base_url, key, agent=AGENT, timeout=given.timeout, fallback_arm=SAFE_ARM) as trimtab,
        tracing(base_url, key) as tracer,
        tracer.start_as_current_span(AGENT) as root,
        using_attributes(session_id=session, user_id=given.user),
    ):
        about = {"openinference.span.kind": "AGENT", "session.id": session, "user.id": given.user}
        root.set_attributes({**about, "input.value": given.question})
        # The root span is the current one, so the decision is stated on it.
        decision = trimtab.steer(
            user_id=given.user, session_id=session, task=given.task, input=given.question, arms=list(ARMS)
        )
        say(f"arm {decision.arm} ({decision.source}{f': {decision.note}' if decision.note else ''})")
        try:
            output = answer(given.question, decision, model, tracer, given.model)
        except LimitReached as reached:
            output = f"I have to stop here: {reached}."
        root.set_attribute("output.value", output)
        if cited := decision.cited(output):
            root.set_attribute("steer.lesson.cited", cited)
        trace_id = f"{root.get_span_context().trace_id:032x}"
    say(output)
    signal = feedback(decision, given.feedback)
    if signal is not None:
        send(base_url, key, {"trace_id": trace_id, "user_id": given.user, "session_id": session, **signal})


if __name__ == "__main__":
    main()
