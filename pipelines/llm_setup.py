"""How the language model is set up: read from the settings, without importing what asks it.

A key is named by its environment variable and read where the model is asked; it is never part of a setup.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast

from store.errors import SettingsError
from store.llm_calls import Budget, Charge
from store.settings import SETTINGS, Settings

Api = Literal["responses", "chat"]

_MILLION: Final = 1_000_000
_OVERHEAD_TOKENS: Final = 256
"""What a server may add to a question: roles, separators, the words in which it states the schema."""

_BYTES_PER_TOKEN: Final = 3.5
"""Of ordinary text in common tokenisers, on the low side; only for the estimate before anything was asked."""


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens read and written."""

    input_usd: float
    output_usd: float

    def charge(self, input_tokens: int, output_tokens: int) -> Charge:
        """What these tokens cost."""
        usd = (input_tokens * self.input_usd + output_tokens * self.output_usd) / _MILLION
        return Charge(input_tokens + output_tokens, usd)


@dataclass(frozen=True)
class ModelSetup:
    """Which model is asked, where, and within which limits."""

    model: str
    base_url: str
    api: Api
    key_variable: str
    price: Price
    budget: Budget
    output_tokens: int
    timeout_seconds: float
    attempts: int

    def most(self, question: str) -> Charge:
        """The most that a question of this text may cost.

        A token of a byte-level tokeniser stands for at least one byte, so no text has more tokens than UTF-8 bytes.
        """
        return self.price.charge(len(question.encode()) + _OVERHEAD_TOKENS, self.output_tokens)

    def likely(self, question: str, output_tokens: float) -> Charge:
        """What a question of this text is likely to cost with an answer of so many tokens."""
        read = round(len(question.encode()) / _BYTES_PER_TOKEN) + _OVERHEAD_TOKENS // 2
        return self.price.charge(read, min(round(output_tokens), self.output_tokens))


def setup(settings: Settings) -> ModelSetup | None:
    """The model of the settings; None when there is none.

    Raises: `SettingsError` when it has no price: a budget of money needs one.
    """
    if not settings.model:
        return None
    price = prices(settings.model_prices).get(settings.model)
    if price is None:
        declared = next(setting for setting in SETTINGS if setting.name == "model_prices")
        raise SettingsError(
            declared.variable, settings.model_prices, f"the price of {settings.model} among them: {declared.expected}"
        )
    return ModelSetup(
        model=settings.model,
        base_url=settings.model_base_url.rstrip("/"),
        api=cast(Api, settings.model_api),
        key_variable=settings.model_key_env,
        price=price,
        budget=Budget(
            day=Charge(settings.model_daily_tokens, settings.model_daily_usd),
            run=Charge(settings.model_run_tokens, settings.model_run_usd),
        ),
        output_tokens=settings.model_output_tokens,
        timeout_seconds=settings.model_timeout_seconds,
        attempts=settings.model_attempts,
    )


def prices(text: str) -> dict[str, Price]:
    """The prices of a checked setting, by model: "a=0.25/2,b=0/0"."""
    found = {}
    for part in filter(None, text.split(",")):
        model, _, both = part.rpartition("=")
        read, written = both.split("/")
        found[model] = Price(float(read), float(written))
    return found


def key(setup: ModelSetup, environ: Mapping[str, str]) -> str | None:
    """The model's key; None when its variable is not set, which a server of one's own may not need.

    Raises: `SettingsError` naming the variable when OpenAI itself would be asked without a key, or the value is none.
    """
    value = environ.get(setup.key_variable, "").strip()
    usable = value.isprintable() and value.isascii()
    if usable and (value or "api.openai.com" not in setup.base_url):
        return value or None
    raise SettingsError(
        "TRIMTAB_MODEL_KEY_ENV",
        setup.key_variable,
        "a variable of this server's environment that holds the model's key",
    )
