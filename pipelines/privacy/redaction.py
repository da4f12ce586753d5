"""Redaction at ingest: e-mail addresses, phone numbers, accounts, cards, addresses of machines, keys, own patterns.

It runs before anything is stored, on texts, on the texts inside JSON, and on the raw text of rejects; what was taken
out is kept nowhere. Ids (user_id, session_id, trace_id) are not touched: they are how the data hangs together.

Regular expressions run in Rust's engine (by way of Polars), whose time is linear in the text whatever the pattern:
patterns of an operator cannot make ingest stand still. Look-around and back references do not exist there. Candidates
for accounts and cards are checked by their check digits (ISO 13616; Luhn, ISO 7812), phone numbers by the library
phonenumbers: "phone" finds those written with + and country code, "phone:DE" also national ones of that region.
"""

import ipaddress
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl
import pyarrow as pa

from pipelines.ingest.chunks import Reject
from store.errors import ActionRefused
from store.redaction import Rules

__all__ = ["BUILTINS", "COLUMNS", "MOST_PATTERNS", "Redactor", "checked"]

BUILTINS: Final = {
    "email": "e-mail addresses",
    "phone": "phone numbers with + and country code (phone:DE: also national numbers of Germany)",
    "iban": "account numbers (IBAN, by their check digits)",
    "card": "payment cards (by their check digit)",
    "ip": "IP addresses",
    "secret": "keys, tokens and private keys of known forms, bearer tokens, passwords in key=value",
}
MOST_PATTERNS: Final = 20
_MOST_CHARACTERS: Final = 500

COLUMNS: Final = {
    "trace_records": ("input", "output", "metadata"),
    "spans": ("status_message", "input", "output", "attributes"),
    "signals": ("item", "text", "metadata"),
}
"""The columns of facts that are redacted."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9 _-]{0,39}")
_EMAIL: Final = r"[\w.%+\-]+@(?:[\w\-]+\.)+\pL{2,}"
_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_IPV4: Final = rf"\b(?:{_OCTET}\.){{3}}{_OCTET}\b"
_SECRETS: Final = (
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\z)",
    r"\b(?:sk|pk|rk)[-_][A-Za-z0-9_\-]{16,}",
    r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_\-]{16,})",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\bAIza[A-Za-z0-9_\-]{30,}",
    r"\bxox[abprs]-[A-Za-z0-9\-]{10,}",
    r"\btt_[A-Za-z0-9]{4,}_[A-Za-z0-9_\-]{16,}",
    r"\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{4,}",
    r"(?i)\bbearer\s+[A-Za-z0-9._~+/\-]{12,}=*",
    r"(?i)\b(?:password|passwd|pwd|secret|api[_\-]?key|access[_\-]?token)\s{0,3}[=:]\s{0,3}[^\s\x22',;&{}\[\]\\]{4,}",
)
# Candidates that Python looks at, and by which the engine finds the few rows that have any.
_CARD: Final = r"\b[0-9](?:[ \-]?[0-9]){12,18}\b"
_IBAN: Final = r"\b[A-Z]{2}[0-9]{2}(?:[ ]?[A-Z0-9]){10,30}\b"
_PHONE: Final = r"[+＋]\s?\(?[0-9]"
_NATIONAL: Final = r"[0-9](?:[0-9 ().\-/]{5,})[0-9]"
_IPV6: Final = r"(?i)(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}"
# Characters of an account number by country (SWIFT's IBAN registry).
_IBAN_LENGTHS: Final = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL SD FK", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV", 29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
_COMPILED: Final = {pattern: re.compile(pattern, re.ASCII) for pattern in (_CARD, _IBAN, _IPV6)}


@dataclass(frozen=True)
class _Step:
    """One rule: rows that `finds` matches get `replaces` as the engine does it, or as the function `then` says."""

    finds: str
    replaces: str | None = None
    then: Callable[[str], str] | None = None


class Redactor:
    """Takes out of texts what its rules say. Make one for each load; it keeps nothing of what it saw."""

    def __init__(self, rules: Rules) -> None:
        self._steps = [step for name in rules.builtins for step in _builtin(name)]
        self._steps += [_Step(pattern, f"[{name}]") for name, pattern in rules.patterns]

    def text(self, text: str) -> str:
        """One text."""
        return str(self.column(pl.Series([text], dtype=pl.String))[0])

    def column(self, texts: pl.Series) -> pl.Series:
        """A column of texts, nulls among them. A text that was JSON is JSON afterwards."""
        done = self._applied(texts)
        changed = (done.ne_missing(texts)) & texts.str.contains(r"^\s*[\[{]").fill_null(value=False)
        # In JSON an @ can be written \u0040, and a card may be a number: such texts are read, not searched.
        spelt = texts.str.contains(r"^\s*[\[{]") & texts.str.contains(r"\\u00[0-7]", literal=False)
        looked = (changed | spelt.fill_null(value=False)).arg_true()
        if looked.is_empty():
            return done
        whole = done.to_list()
        for place in looked:
            whole[place] = self._of_json(texts[place], whole[place])
        return pl.Series(texts.name, whole, dtype=pl.String)

    def table(self, kind: str, table: pa.Table) -> pa.Table:
        """Rows of a fact table, with its texts redacted."""
        for name in COLUMNS[kind]:
            if name in table.column_names:
                place = table.column_names.index(name)
                texts = pl.Series(name, pl.from_arrow(table.column(name)), dtype=pl.String)
                table = table.set_column(place, name, self.column(texts).to_arrow().cast(pa.string()))
        return table

    def reject(self, reject: Reject) -> Reject:
        """A record that was not taken, with its raw text and the reason redacted."""
        # What is cut may end in half of something that only the whole of it shows.
        raw = reject.raw.rpartition(" ")[0] if reject.raw_truncated else reject.raw
        return replace(reject, raw=self.text(raw), reason=self.text(reject.reason))

    def _applied(self, texts: pl.Series) -> pl.Series:
        for step in self._steps:
            hit = texts.str.contains(step.finds)
            if not hit.any():
                continue
            if step.replaces is not None:
                texts = texts.str.replace_all(step.finds, step.replaces)
            elif step.then is not None:
                whole = texts.to_list()
                for place in hit.arg_true():
                    whole[place] = step.then(whole[place])
                texts = pl.Series(texts.name, whole, dtype=pl.String)
        return texts

    def _of_json(self, before: str, after: str) -> str:
        value = _read(before)
        if value is None:
            return after
        if "\\u" not in before and _read(after) is not None:
            return after
        return json.dumps(self._leaves(value), ensure_ascii=False, separators=(",", ":"))

    def _leaves(self, value: Any) -> Any:
        if isinstance(value, str):
            return str(self._applied(pl.Series([value], dtype=pl.String))[0])
        if isinstance(value, list):
            return [self._leaves(each) for each in value]
        if isinstance(value, dict):
            return {self._leaves(name): self._leaves(each) for name, each in value.items()}
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            plain = self._leaves(str(value))
            return value if plain == str(value) else plain
        return value


def checked(builtins: Sequence[str], patterns: Sequence[tuple[str, str]]) -> Rules:
    """Rules that can be used. Raises: `ActionRefused` saying which cannot, and why."""
    from phonenumbers import SUPPORTED_REGIONS

    action = "Set redaction"
    for name in builtins:
        base, _, region = name.partition(":")
        if base not in BUILTINS or (region and (base != "phone" or region not in SUPPORTED_REGIONS)):
            raise ActionRefused(action, f"there is no rule {name!r}.", f"Use {', '.join(BUILTINS)}, or phone:DE.")
    if len(patterns) > MOST_PATTERNS:
        raise ActionRefused(action, f"there are {len(patterns)} patterns.", f"Use at most {MOST_PATTERNS}.")
    for name, pattern in patterns:
        if not _NAME.fullmatch(name):
            raise ActionRefused(
                action, f"{name!r} is no name for a pattern.", "Use up to 40 small letters, digits, blanks and dashes."
            )
        if not pattern or len(pattern) > _MOST_CHARACTERS:
            raise ActionRefused(
                action, f"pattern {name} is empty or too long.", f"Use 1 to {_MOST_CHARACTERS} characters."
            )
        try:
            matches = pl.Series(["", f"[{name}]"]).str.contains(pattern, strict=True).to_list()
        except pl.exceptions.ComputeError as error:
            why = str(error).splitlines()[-1].strip()
            raise ActionRefused(
                action, f"pattern {name} cannot be used ({why}).", "Look-around and back references are not available."
            ) from None
        if matches[0]:
            raise ActionRefused(action, f"pattern {name} matches the empty text.", "Make it ask for something.")
        if matches[1]:
            raise ActionRefused(action, f"pattern {name} matches its own placeholder [{name}].", "Narrow it.")
    return Rules(tuple(dict.fromkeys(builtins)), tuple(patterns))


def _builtin(name: str) -> list[_Step]:
    base, _, region = name.partition(":")
    if base == "email":
        return [_Step(_EMAIL, "[email]")]
    if base == "ip":
        return [_Step(_IPV4, "[ip]"), _Step(_IPV6, then=lambda text: _COMPILED[_IPV6].sub(_ipv6, text))]
    if base == "secret":
        return [_Step(pattern, "[secret]") for pattern in _SECRETS]
    if base == "card":
        return [_Step(_CARD, then=lambda text: _COMPILED[_CARD].sub(_card, text))]
    if base == "iban":
        return [_Step(_IBAN, then=lambda text: _COMPILED[_IBAN].sub(_iban, text))]
    return [_Step(_NATIONAL if region else _PHONE, then=lambda text: _phones(text, region or None))]


def _card(found: re.Match[str]) -> str:
    """Luhn: from the right every second digit doubled, the digits' sum a multiple of 10."""
    digits = [int(each) for each in found.group() if each.isdigit()][::-1]
    total = sum(each if place % 2 == 0 else sum(divmod(2 * each, 10)) for place, each in enumerate(digits))
    return "[card]" if total % 10 == 0 and len(set(digits)) > 1 else found.group()


def _iban(found: re.Match[str]) -> str:
    """The candidate's beginning of its country's length, when the remainder by 97 is 1; capitals may follow it."""
    text = found.group()
    wanted, seen = _IBAN_LENGTHS.get(text[:2], 0), 0
    for end, character in enumerate(text, start=1):
        seen += character != " "
        if seen == wanted:
            plain = text[:end].replace(" ", "")
            number = int("".join(str(int(each, 36)) for each in plain[4:] + plain[:4]))
            return "[iban]" + text[end:] if number % 97 == 1 else text
    return text


def _ipv6(found: re.Match[str]) -> str:
    text = found.group()
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return text
    # "::" alone is more often punctuation than an address.
    return "[ip]" if len(text) > 4 and int(address) > 1 else text


def _phones(text: str, region: str | None) -> str:
    # Imported here: it is large, and few processes need it.
    from phonenumbers import PhoneNumberMatcher

    parts, done = [], 0
    for found in PhoneNumberMatcher(text, region):
        parts += [text[done : found.start], "[phone]"]
        done = found.end
    return "".join([*parts, text[done:]])


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
