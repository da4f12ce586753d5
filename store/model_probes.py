"""Probes: whether and how often a model is asked the same prompts again, which prompts, and what that may cost."""

import hashlib
import math
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, get_args

import duckdb
import polars as pl

from store import audit, meta
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

__all__ = [
    "PROBES", "PURPOSE", "ProbeKind", "ProbeSettings", "active", "probe_key", "put_prompt", "put_settings",
    "retire_prompt", "settings", "spend", "spent_today",
]  # fmt: skip

ProbeKind = Literal["text", "logprob"]

PURPOSE: Final = "model probe"
MAX_PROMPT: Final = 4_000

PROBES = declare(
    {
        "probe_id": pl.String, "kind": pl.String, "prompt": pl.String, "output_tokens": pl.Int32, "put_by": pl.String,
        "put_at": UTC_TIME, "retired_at": UTC_TIME,
    }
)  # fmt: skip
_SETTINGS = declare(
    {
        "switched_on": pl.Boolean, "every_hours": pl.Int32, "samples": pl.Int32, "baseline_samples": pl.Int32,
        "daily_usd": pl.Float64, "put_by": pl.String, "put_at": UTC_TIME,
    }
)  # fmt: skip
_CHANGE: Final = "Change the probes"


@dataclass(frozen=True)
class ProbeSettings:
    """Whether probes are sent, how often, how many samples of each prompt, and the most they cost in a UTC day."""

    switched_on: bool = False
    every_hours: int = 168
    samples: int = 10
    baseline_samples: int = 20
    daily_usd: float = 0.5
    put_by: str = ""
    put_at: datetime | None = None


_RANGES: Final[dict[str, tuple[float, float, str]]] = {
    "every_hours": (1, 8_760, "a whole number of hours from 1 to 8760"),
    "samples": (2, 200, "a whole number from 2 to 200"),
    "baseline_samples": (2, 1_000, "a whole number from 2 to 1000"),
    "daily_usd": (0.0, 10_000.0, "a number of US dollars from 0 to 10000"),
}


def settings(store: Store) -> ProbeSettings:
    """The settings in force; off until an operator switches probes on."""
    with store.read() as reader:
        frame = reader.frame(
            f"SELECT {', '.join(_SETTINGS)} FROM model_probe_settings ORDER BY settings_no DESC LIMIT 1", _SETTINGS
        )
    return ProbeSettings(**frame.row(0, named=True)) if len(frame) else ProbeSettings()


def put_settings(store: Store, *, operator: str, **changed: object) -> ProbeSettings:
    """Change some settings (fields of `ProbeSettings`); returns those in force from now on.

    Raises: `ActionRefused` naming the value that cannot be used, or when `operator` is no person.
    """
    audit.person(_CHANGE, operator)
    for name, value in changed.items():
        if name == "switched_on":
            if not isinstance(value, bool):
                raise ActionRefused(_CHANGE, f"{name} is {value!r}.", "Expected true or false.")
            continue
        if name not in _RANGES:
            raise ActionRefused(_CHANGE, f"there is no setting {name!r}.", f"Expected one of {', '.join(_RANGES)}.")
        low, high, expected = _RANGES[name]
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        whole = name == "daily_usd" or isinstance(value, int)
        if not number or not whole or not low <= float(str(value)) <= high:
            raise ActionRefused(_CHANGE, f"{name} is {value!r}.", f"Expected {expected}.")
    values: dict[str, Any] = {**changed, "put_by": operator, "put_at": store.clock.now()}
    held = settings(store)
    wanted = replace(held, **values)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(
            """INSERT INTO model_probe_settings BY NAME
            SELECT (SELECT coalesce(max(settings_no), 0) + 1 FROM model_probe_settings) AS settings_no,
                $switched_on AS switched_on, $every_hours AS every_hours, $samples AS samples,
                $baseline_samples AS baseline_samples, $daily_usd AS daily_usd, $put_by AS put_by, $put_at AS put_at""",
            asdict(wanted),
        )
        detail = {"before": {name: getattr(held, name) for name in changed}, "after": dict(changed)}
        audit.append(connection, store.clock.now(), operator, "model probes set", "model probes", detail)
        meta.bump(connection)

    store.write(work)
    return wanted


def active(store: Store) -> pl.DataFrame:
    """The prompts that operators put and did not retire, oldest first (columns `PROBES`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(PROBES)} FROM model_probes WHERE retired_at IS NULL ORDER BY put_at, probe_id", PROBES
        )


def put_prompt(store: Store, prompt: str, *, kind: ProbeKind, output_tokens: int, operator: str) -> str:
    """Add a prompt of one's own; returns its id. One that was retired comes back.

    Raises: `ActionRefused` for a prompt that is empty, too long or there already, or a number that cannot be used.
    """
    action = "Add the probe"
    audit.person(action, operator)
    text = prompt.strip()
    if not 1 <= len(text) <= MAX_PROMPT:
        raise ActionRefused(action, f"the prompt has {len(text):,} characters.", f"Write 1 to {MAX_PROMPT:,}.")
    if kind not in get_args(ProbeKind):
        raise ActionRefused(action, f"its kind is {kind!r}.", f"Expected one of {', '.join(get_args(ProbeKind))}.")
    if not 1 <= output_tokens <= 1_000:
        raise ActionRefused(action, f"it asks for {output_tokens} tokens.", "Expected a whole number from 1 to 1000.")
    probe_id = probe_key(kind, text, output_tokens)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        held = connection.execute(
            "SELECT retired_at FROM model_probes WHERE probe_id = $probe", {"probe": probe_id}
        ).fetchall()
        if held and held[0][0] is None:
            raise ActionRefused(action, "the same prompt is there already.", "Change it, or leave it as it is.")
        change = "UPDATE model_probes SET retired_at = NULL, put_by = $by, put_at = $now WHERE probe_id = $probe"
        added = "INSERT INTO model_probes VALUES ($probe, $kind, $prompt, $tokens, $by, $now, NULL)"
        values: dict[str, Any] = {"probe": probe_id, "by": operator, "now": now}
        if not held:
            values |= {"kind": kind, "prompt": text, "tokens": output_tokens}
        connection.execute(change if held else added, values)
        detail = {"kind": kind, "prompt": text[:500], "output_tokens": output_tokens}
        audit.append(connection, now, operator, "model probe add", f"model probe {probe_id}", detail)
        meta.bump(connection)

    store.write(work)
    return probe_id


def retire_prompt(store: Store, probe_id: str, *, operator: str) -> None:
    """Ask a prompt no more; what it brought stays. Raises: `NotFound`; `ActionRefused` when it is retired already."""
    audit.person("Retire the probe", operator)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        held = connection.execute(
            "SELECT retired_at FROM model_probes WHERE probe_id = $probe", {"probe": probe_id}
        ).fetchall()
        if not held:
            raise NotFound("model probe", probe_id)
        if held[0][0] is not None:
            raise ActionRefused("Retire the probe", "it is retired already.", "Nothing is to be done.")
        connection.execute(
            "UPDATE model_probes SET retired_at = $now WHERE probe_id = $probe", {"now": now, "probe": probe_id}
        )
        audit.append(connection, now, operator, "model probe retire", f"model probe {probe_id}", {})
        meta.bump(connection)

    store.write(work)


def probe_key(kind: str, prompt: str, output_tokens: int) -> str:
    """The id of a prompt: the same prompt asked in the same way is the same probe."""
    return hashlib.sha256(f"{kind}\x1f{output_tokens}\x1f{prompt}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def spent_today(store: Store) -> float:
    """US dollars that probes are charged with in this UTC day."""
    with store.read() as reader:
        value = reader.value(
            """SELECT coalesce(sum(cost_usd), 0.0) FROM llm_calls WHERE purpose = $purpose
                AND (asked_at AT TIME ZONE 'UTC')::DATE = ($now::TIMESTAMPTZ AT TIME ZONE 'UTC')::DATE""",
            {"purpose": PURPOSE, "now": store.clock.now()},
        )
    return float(str(value))


def spend(store: Store, *, days: int = 30) -> pl.DataFrame:
    """What probes cost, by UTC day, oldest first (columns day, calls, usd)."""
    with store.read() as reader:
        return reader.frame(
            """SELECT (asked_at AT TIME ZONE 'UTC')::DATE AS day, count(*) AS calls, sum(cost_usd) AS usd
            FROM llm_calls WHERE purpose = $purpose AND outcome <> 'over budget'
                AND asked_at >= $now::TIMESTAMPTZ - to_days($days::INTEGER) GROUP BY day ORDER BY day""",
            pl.Schema({"day": pl.Date(), "calls": pl.Int64(), "usd": pl.Float64()}),
            {"purpose": PURPOSE, "now": store.clock.now(), "days": days},
        )
