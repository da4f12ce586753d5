"""The deployed agents: prompts, models, arms, and the causes of failure planted in what they do.

Every effect is in logits of quality and exact. A planted cause is visible in the steps of a trace (its `pattern`), so
that a contrast of good and bad rollouts can find it; a decoy is a visible step that changes nothing.
"""

from dataclasses import dataclass, field

__all__ = [
    "AGENTS",
    "CHANGED_MODEL",
    "CHANGE_SHIFT",
    "CHANGE_STYLE",
    "ENVIRONMENT_RATE",
    "ENVIRONMENT_SHIFT",
    "FAILED_SHIFT",
    "FAILURE_SHARE",
    "KINDS",
    "MODELS",
    "SHOP",
    "SUPPORT",
    "TRAVEL",
    "UNDERSPECIFIED_RATE",
    "UNDERSPECIFIED_SHIFT",
    "Agent",
    "Cause",
    "Decoy",
    "Model",
    "Prompt",
]

SHOP, TRAVEL, SUPPORT = 0, 1, 2
KINDS = ("recommendation", "trip", "refund", "order", "policy")  # kinds of task; the last three are the support desk's


@dataclass(frozen=True)
class Model:
    """A language model: effect on quality, typical latency and prices per million tokens."""

    name: str
    fingerprint: str
    effect: float
    latency_ms: float
    input_usd: float
    output_usd: float


@dataclass(frozen=True)
class Prompt:
    """A prompt version: effect on quality, on clicks alone, on style, and on how often each cause occurs."""

    version: str
    effect: float
    system: str
    click_effect: float = 0.0
    brevity: float = 0.0
    explanation: float = 0.0
    cause_factors: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Cause:
    """A mistake of the agent: how often it happens in tasks of its kinds, what it costs, and how it shows.

    `axis` is the failure label it deserves; `pattern` says in terms of steps what to look for; `remedy` is the lesson.
    """

    key: str
    rate: float
    effect: float
    kinds: tuple[str, ...]
    axis: str
    pattern: dict[str, str]
    remedy: str


@dataclass(frozen=True)
class Decoy:
    """A step that some traces have and that changes nothing."""

    tool: str
    rate: float


@dataclass(frozen=True)
class Agent:
    """One deployed agent. `greedy` is the arm its logging policy prefers per segment; None: arms are not randomised."""

    name: str
    base: float
    share: float
    explicit_task: bool
    prompts: tuple[Prompt, ...]
    causes: tuple[Cause, ...]
    decoy: Decoy
    greedy: tuple[tuple[int, int], ...] | None  # (prompt, model) per segment


MODELS = (
    Model("aurora-4-mini", "fp_3c81d07a52", 0.0, 900.0, 0.15, 0.60),
    Model("aurora-4", "fp_b70e9412cf", 0.35, 1900.0, 2.50, 10.00),
)

CHANGED_MODEL = 0  # aurora-4-mini is replaced behind its name, with the same fingerprint
CHANGE_SHIFT = -0.7
CHANGE_STYLE = {"brevity": -0.5, "explanation": 0.1}

ENVIRONMENT_RATE, ENVIRONMENT_SHIFT = 0.06, -0.8  # a tool of the platform fails: not the agent's fault
FAILURE_SHARE, FAILED_SHIFT = 0.3, -1.6  # of those, the share in which the retry fails too, and what that adds
UNDERSPECIFIED_RATE, UNDERSPECIFIED_SHIFT = 0.04, -0.9  # the request lacks what is needed: not the agent's fault

_SHOP = Agent(
    name="shop-assistant",
    base=2.0,
    share=0.45,
    explicit_task=True,
    prompts=(
        Prompt(
            "v3",
            0.0,
            "You are the shopping assistant of Greenbasket, an online grocer. Search the catalogue, check stock, and "
            "recommend up to five products with prices. Never promise what the stock check did not confirm.",
        ),
        Prompt(
            "v4",
            0.25,
            "You are the shopping assistant of Greenbasket, an online grocer. Search the catalogue with the customer's "
            "budget as a number, check stock, and recommend up to five products. Give one honest reason for each.",
            brevity=-0.3,
            explanation=0.5,
            cause_factors={"skipped_stock_check": 0.5, "price_as_text": 0.5},
        ),
        Prompt(
            "v5",
            -0.45,
            "You are the shopping assistant of Greenbasket, an online grocer. Be irresistible: recommend up to five "
            "products in vivid language that makes the customer click. Check stock.",
            click_effect=0.7,
            explanation=-0.1,
        ),
    ),
    causes=(
        Cause(
            "repeated_search",
            0.09,
            -1.4,
            ("recommendation",),
            "loop",
            {"type": "repeated", "tool": "search_catalog", "arguments": "identical"},
            "Do not repeat a catalogue search with the same arguments: change the query or answer with what was found.",
        ),
        Cause(
            "price_as_text",
            0.11,
            -1.6,
            ("recommendation",),
            "wrong_argument",
            {"type": "argument_shape", "tool": "search_catalog", "argument": "max_price", "shape": "text"},
            "Pass the budget to search_catalog as a number: words are ignored and the results exceed the budget.",
        ),
        Cause(
            "skipped_stock_check",
            0.14,
            -1.8,
            ("recommendation",),
            "ungrounded_claim",
            {"type": "missing", "tool": "check_stock"},
            "Check stock before saying that products are available.",
        ),
    ),
    decoy=Decoy("get_product", 0.3),
    greedy=((0, 0), (1, 0), (2, 0), (0, 1)),
)

_TRAVEL = Agent(
    name="travel-desk",
    base=2.1,
    share=0.30,
    explicit_task=True,
    prompts=(
        Prompt(
            "v1",
            0.0,
            "You are the travel desk of Wayfare. Find offers for the trip, put a free 24-hour hold on the best one, "
            "and show the traveller the alternatives. Check availability before every hold and stay within the limit.",
        ),
        Prompt(
            "v2",
            0.2,
            "You are the travel desk of Wayfare. Steps: search with ISO dates; check availability of the offer; place "
            "a free 24-hour hold; show the alternatives briefly. If a step fails, say so.",
            brevity=0.3,
            cause_factors={"book_without_availability": 0.5, "date_as_text": 0.6},
        ),
    ),
    causes=(
        Cause(
            "book_without_availability",
            0.17,
            -2.0,
            ("trip",),
            "policy_violation",
            {"type": "missing_before", "tool": "check_availability", "before": "book_trip"},
            "Check availability of the very offer before booking it.",
        ),
        Cause(
            "date_as_text",
            0.10,
            -1.5,
            ("trip",),
            "wrong_argument",
            {"type": "argument_shape", "tool": "search_trips", "argument": "date", "shape": "text"},
            "Pass dates to search_trips as YYYY-MM-DD: words are read as today.",
        ),
        Cause(
            "ignored_tool_error",
            0.08,
            -2.2,
            ("trip",),
            "ungrounded_claim",
            {"type": "error_then_no_retry", "tool": "book_trip"},
            "When book_trip fails, try again or tell the traveller; never report the hold as placed.",
        ),
    ),
    decoy=Decoy("convert_currency", 0.25),
    greedy=((0, 0), (0, 1), (0, 0), (1, 1)),
)

_SUPPORT = Agent(
    name="support-desk",
    base=1.9,
    share=0.25,
    explicit_task=False,
    prompts=(
        Prompt(
            "v7",
            0.0,
            "You are the support desk of Greenbasket. Answer questions about orders, refunds and policies. "
            "Use the tools.",
        ),
        Prompt(
            "v8",
            0.3,
            "You are the support desk of Greenbasket. Look up the order for questions about an order, look up the help "
            "centre for questions about policy, and verify the customer's identity before any refund.",
            cause_factors={"refund_without_identity": 0.5, "answer_without_article": 0.6},
        ),
    ),
    causes=(
        Cause(
            "refund_without_identity",
            0.26,
            -1.9,
            ("refund",),
            "policy_violation",
            {"type": "missing_before", "tool": "verify_identity", "before": "issue_refund"},
            "Verify the customer's identity before issuing a refund.",
        ),
        Cause(
            "repeated_lookup",
            0.12,
            -1.3,
            ("policy",),
            "loop",
            {"type": "repeated", "tool": "search_articles", "arguments": "identical"},
            "Do not search the help centre again with the same words: rephrase the query or say what is missing.",
        ),
        Cause(
            "answer_without_article",
            0.18,
            -1.8,
            ("policy",),
            "ungrounded_claim",
            {"type": "missing", "tool": "search_articles"},
            "Look up the help centre before answering a question about policy.",
        ),
        Cause(
            "articles_for_order",
            0.20,
            -1.7,
            ("order",),
            "wrong_tool",
            {"type": "used_instead", "tool": "search_articles", "instead_of": "get_order"},
            "For a question about one order, look up the order with get_order, not the help centre.",
        ),
    ),
    decoy=Decoy("add_note", 0.3),
    greedy=None,
)

AGENTS = (_SHOP, _TRAVEL, _SUPPORT)
