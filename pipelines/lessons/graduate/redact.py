"""Redaction: what names one person or one case is replaced by a placeholder that says what stood there.

Three rules. Literals by form (`pipelines.lessons.lint.literals`): addresses, links, keys, numbers of cards, phones and
accounts, identifiers, amounts, dates. Values by the name of their field in the JSON of tools (e-mail, phone, birthday,
names of people). Known words: what those fields hold and the user's own id, wherever else they stand.

The same words have the same placeholder within one conversation, so that what an assistant copies it still copies:
"[e-mail address A]". Placeholders have no digits, so that none of them is a literal. Names of tools stay. What the
rules cannot settle is not exported: `Unsettled`.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pipelines.lessons.graduate.chat import Chat, Message, tools_of
from pipelines.lessons.lint.literals import located

__all__ = ["OWN_WORDS", "Redactor", "Unsettled"]

OWN_WORDS: Final = frozenset(("amount", "date", "time", "link", "number", "identifier", "postal address"))
"""Forms that stay in a system message that several users were served: it is the operator's own."""

_PRIVATE: Final[Mapping[str, str]] = {
    "email": "e-mail address", "e_mail": "e-mail address", "mail": "e-mail address", "phone": "phone number",
    "phone_number": "phone number", "mobile": "phone number", "address": "postal address",
    "address_line": "postal address", "street": "postal address", "zip": "postal address",
    "zip_code": "postal address", "postal_code": "postal address", "postcode": "postal address", "dob": "date",
    "birthday": "date", "birth_date": "date", "date_of_birth": "date", "ssn": "number", "passport": "identifier",
    "passport_number": "identifier", "password": "secret", "passwd": "secret", "secret": "secret", "token": "secret",
    "api_key": "key", "apikey": "key", "access_token": "secret", "card_number": "card number", "iban": "account number",
    "account_number": "account number", "pin": "secret", "cvv": "secret", "cvc": "secret", "user_id": "user",
    "customer_id": "user", "username": "user", "user_name": "user",
}  # fmt: skip
_PERSON: Final = frozenset((
    "first_name", "last_name", "full_name", "middle_name", "given_name", "family_name", "surname", "customer_name",
    "passenger_name",
))  # fmt: skip
_BESIDE: Final = frozenset((*_PERSON, "email", "phone", "phone_number", "dob", "address", "birthday"))
_TRAILING: Final = re.compile(r"[_\d]+$")
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NAMED: Final = re.compile(r"([A-Za-z][^\d\n]*[^\w\n]+)(\d+[a-z]?)")
_ROUNDS: Final = 6
_SHORTEST: Final = 3


class Unsettled(Exception):
    """A text in which something is left that redaction would replace for ever."""


class Redactor:
    """Redacts one conversation; `counts` says how many placeholders of each form it has written.

    Args: `known` words and what they are, such as the user's id; `exempt` words that stay, such as names of tools.
    """

    def __init__(self, known: Mapping[str, str], exempt: Iterable[str] = ()) -> None:
        self.counts: Counter[str] = Counter()
        self._known = {word: form for word, form in known.items() if len(word) >= _SHORTEST}
        self._exempt = {word.casefold() for word in exempt}
        self._given: dict[tuple[str, str], str] = {}
        self._pattern: re.Pattern[str] | None = None
        self._compile()

    def chat(self, chat: Chat, shared: frozenset[str] = frozenset()) -> Chat:
        """The conversation without what it may not say; `shared` are the system texts of several users.

        Raises: `Unsettled`.
        """
        self._exempt |= {tool["function"]["name"].casefold() for tool in chat.tools}
        for message in chat.messages:
            self._learn(_parsed(message["content"]))
            for call in message.get("tool_calls", ()):
                self._learn(_parsed(call["function"]["arguments"]))
        self._compile()
        messages = tuple(self._message(message, shared) for message in chat.messages)
        return Chat(messages, tools_of(messages))

    def text(self, text: str, keep: frozenset[str] = frozenset()) -> str:
        """A text without literals and known words; forms of `keep` stay. Raises: `Unsettled`."""
        if self._pattern is not None:
            text = self._pattern.sub(lambda match: self._placeholder(self._known[match.group()], match.group()), text)
        for _ in range(_ROUNDS):
            found = [each for each in located(text) if self._taken(each[2].form, each[2].text, keep)]
            if not found:
                return text
            parts, done = [], 0
            for start, end, literal in found:
                parts += [text[done:start], self._put(literal.form, literal.text)]
                done = end
            text = "".join([*parts, text[done:]])
        raise Unsettled

    def value(self, value: Any, key: str | None = None, beside: frozenset[str] = frozenset()) -> Any:
        """A value of JSON, redacted leaf by leaf. Raises: `Unsettled`."""
        form = _form(key, beside)
        if form is not None and isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != "":
            return self._placeholder(form, str(value))
        if isinstance(value, dict):
            names = frozenset(_plain(name) for name in value)
            return {self.text(name): self.value(each, name, names) for name, each in value.items()}
        if isinstance(value, list):
            return [self.value(each, key, beside) for each in value]
        if isinstance(value, str):
            inner = _parsed(value)
            return _dumped(self.value(inner)) if inner is not None else self.text(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            written = str(value)
            redacted = self.text(written)
            return value if redacted == written else redacted
        return value

    def _message(self, message: Message, shared: frozenset[str]) -> Message:
        content = message["content"]
        new = dict(message)
        if content is not None:
            keep = OWN_WORDS if message["role"] == "system" and content in shared else frozenset()
            new["content"] = self._written(content, keep)
        if "tool_calls" in message:
            new["tool_calls"] = [
                {
                    **call,
                    "function": {
                        "name": call["function"]["name"], "arguments": self._written(call["function"]["arguments"]),
                    },
                }
                for call in message["tool_calls"]
            ]  # fmt: skip
        return new

    def _written(self, text: str, keep: frozenset[str] = frozenset()) -> str:
        parsed = _parsed(text)
        if parsed is None:
            return self.text(text, keep)
        written = _dumped(self.value(parsed))
        if any(self._taken(literal.form, literal.text, keep) for _, _, literal in located(written)):
            raise Unsettled
        return written

    def _learn(self, value: Any, key: str | None = None, beside: frozenset[str] = frozenset()) -> None:
        """Remember what fields of people hold."""
        if isinstance(value, dict):
            names = frozenset(_plain(name) for name in value)
            for name, each in value.items():
                self._learn(each, name, names)
        elif isinstance(value, list):
            for each in value:
                self._learn(each, key, beside)
        elif isinstance(value, str) and len(value.strip()) >= _SHORTEST:
            form = _form(key, beside)
            if form is not None:
                self._known.setdefault(value.strip(), form)
            elif (inner := _parsed(value)) is not None:
                self._learn(inner)

    def _compile(self) -> None:
        words = sorted((word for word in self._known if word.casefold() not in self._exempt), key=len, reverse=True)
        joined = "|".join(map(re.escape, words))
        self._pattern = re.compile(rf"(?<!\w)(?:{joined})(?!\w)") if words else None

    def _taken(self, form: str, text: str, keep: frozenset[str]) -> bool:
        return form not in keep and text.casefold() not in self._exempt

    def _put(self, form: str, text: str) -> str:
        """What stands for a literal: of "order 8841" the word stays, so that the number is that of a tool's field."""
        named = _NAMED.fullmatch(text) if form == "identifier" else None
        if named is None:
            return self._placeholder(form, text)
        return named[1] + self._placeholder("number", named[2])

    def _placeholder(self, form: str, text: str) -> str:
        self.counts[form] += 1
        key = (form, " ".join(text.split()))
        if key not in self._given:
            number, letters = sum(given == form for given, _ in self._given), ""
            while True:
                letters = _LETTERS[number % 26] + letters
                number = number // 26 - 1
                if number < 0:
                    break
            self._given[key] = f"[{form} {letters}]"
        return self._given[key]


def _form(key: str | None, beside: frozenset[str]) -> str | None:
    """What a field of this name holds of a person; None for nothing."""
    if key is None:
        return None
    name = _plain(key)
    if name in _PERSON or (name == "name" and beside & _BESIDE):
        return "name"
    return _PRIVATE.get(name)


def _plain(key: str) -> str:
    return _TRAILING.sub("", _CAMEL.sub("_", key).lower().replace("-", "_").replace(" ", "_"))


def _parsed(text: str | None) -> Any:
    """A JSON object or list; None for other texts."""
    if text is None or text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
