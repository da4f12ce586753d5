"""Settings: `TRIMTAB_*` variables over `trimtab.toml` over documented defaults, checked once at start.

Each field of `Settings` carries its own documentation; `SETTINGS` is that documentation as a list, from which the
README's table is checked. A variable or key that is not known is refused: a misspelt setting must not go unnoticed.
"""

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from store.errors import SettingsError

PREFIX = "TRIMTAB_"
FILE_NAME = "trimtab.toml"

_SIZE = r"\d+(\.\d+)?\s?[KMGT](i?B)"
_KEY_VARIABLE = r"(?!TRIMTAB_)[A-Z_][A-Z0-9_]{0,127}"
_ADDRESS = r"https?://[^\s/?#@\\]+(/[^\s?#@\\]*)?"
_REDIRECT = r"https?://[^\s/?#@\\]+/oauth2callback"
_EMAIL = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+"
_DOMAIN = r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*"
_PRICE = r"[^,=\s]+=\d+(\.\d+)?/\d+(\.\d+)?"
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


@dataclass(frozen=True)
class Setting:
    """The documentation of one setting: `kind` is its Python type, `expected` what it accepts, in words."""

    name: str
    kind: type
    default: object
    expected: str
    help: str
    minimum: float | None
    maximum: float | None
    pattern: str | None

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.name.upper()


def _doc(
    expected: str,
    text: str,
    minimum: float | None = None,
    maximum: float | None = None,
    pattern: str | None = None,
) -> dict[str, Any]:
    return {"expected": expected, "help": text, "minimum": minimum, "maximum": maximum, "pattern": pattern}


@dataclass(frozen=True)
class Settings:
    """How this process is set up. Use `Settings.load`."""

    host: str = field(
        default="127.0.0.1",
        metadata=_doc(
            "a loopback address such as 127.0.0.1 or localhost, or any other when sign-in is set up",
            "The address the dashboard listens on; other than loopback only with sign-in (docs/sign-in.md).",
        ),
    )
    port: int = field(
        default=8501,
        metadata=_doc("a whole number from 1 to 65535", "The port the dashboard listens on.", 1, 65535),
    )
    db: Path = field(
        default=Path("data/trimtab.duckdb"),
        metadata=_doc("the path of a file", "The database file; made when missing."),
    )
    inbox: Path = field(
        default=Path("data/inbox"),
        metadata=_doc("the path of a folder", "The folder whose files are loaded as they arrive; made when missing."),
    )
    allow_keyless_loopback: bool = field(
        default=False,
        metadata=_doc(
            "true or false",
            "Whether programs on this machine may send data without an API key; never web pages.",
        ),
    )
    memory_limit: str = field(
        default="2GB",
        metadata=_doc(
            "a size such as 2GB or 512MB",
            "Memory the database engine may use before it spills to disk.",
            pattern=_SIZE,
        ),
    )
    query_timeout_seconds: float = field(
        default=10.0,
        metadata=_doc(
            "a number of seconds from 0.1 to 3600",
            "How long a query of a page may run before it is stopped.",
            0.1,
            3600,
        ),
    )
    page_age_seconds: float = field(
        default=60.0,
        metadata=_doc(
            "a number of seconds from 0 to 3600",
            "How old what a page shows may be while data streams in, where reading it anew takes long; where very much "
            "streams in, all of it but a single trace may be up to 10 s old. The page says how old. What operators did "
            "is always in it. 0: always read anew.",
            0,
            3600,
        ),
    )
    max_upload_mb: int = field(
        default=2048,
        metadata=_doc(
            "a whole number of megabytes from 1 to 65536", "The largest file the browser may upload.", 1, 65536
        ),
    )
    keep_job_runs_days: int = field(
        default=30,
        metadata=_doc("a whole number of days from 1 to 3650", "How long the history of job runs is kept.", 1, 3650),
    )
    shutdown_grace_seconds: float = field(
        default=10.0,
        metadata=_doc(
            "a number of seconds from 0 to 600", "How long a stopping server lets running jobs finish.", 0, 600
        ),
    )
    model: str = field(
        default="",
        metadata=_doc(
            "the name of a model; leave it out for none",
            "The language model that judges traces and drafts lessons; without one everything else works.",
            pattern=r"[^,=\s]+",
        ),
    )
    model_base_url: str = field(
        default="https://api.openai.com/v1",
        metadata=_doc(
            "an address such as http://127.0.0.1:11434/v1, without user, password, query or fragment",
            "Where the model is asked: any server that speaks OpenAI's API.",
            pattern=_ADDRESS,
        ),
    )
    model_api: str = field(
        default="responses",
        metadata=_doc(
            "responses or chat",
            "Which of OpenAI's APIs the server speaks; many compatible servers know only chat.",
            pattern="responses|chat",
        ),
    )
    model_key_env: str = field(
        default="OPENAI_API_KEY",
        metadata=_doc(
            "the name of an environment variable outside TRIMTAB_, never the key itself",
            "The environment variable that holds the model's key.",
            pattern=_KEY_VARIABLE,
        ),
    )
    model_prices: str = field(
        default="",
        metadata=_doc(
            "MODEL=INPUT/OUTPUT in US dollars per million tokens, such as my-model=0.25/2 (0/0 for one of your own), "
            "separated by commas",
            "What models cost, as MODEL=INPUT/OUTPUT in US dollars per million tokens; a model needs its price.",
            pattern=f"{_PRICE}(,{_PRICE})*",
        ),
    )
    model_daily_usd: float = field(
        default=5.0,
        metadata=_doc("a number of US dollars from 0 to 100000", "What the model may cost in one UTC day.", 0, 100_000),
    )
    model_daily_tokens: int = field(
        default=5_000_000,
        metadata=_doc(
            "a whole number of tokens from 0 to 100000000000",
            "How many tokens, read and written, the model may take in one UTC day.",
            0,
            100_000_000_000,
        ),
    )
    model_run_usd: float = field(
        default=1.0,
        metadata=_doc("a number of US dollars from 0 to 100000", "What one run of a job may cost.", 0, 100_000),
    )
    model_run_tokens: int = field(
        default=1_000_000,
        metadata=_doc(
            "a whole number of tokens from 0 to 100000000000",
            "How many tokens, read and written, one run of a job may take.",
            0,
            100_000_000_000,
        ),
    )
    model_output_tokens: int = field(
        default=2_000,
        metadata=_doc(
            "a whole number of tokens from 16 to 1000000",
            "The longest answer of the model, its reasoning included.",
            16,
            1_000_000,
        ),
    )
    model_timeout_seconds: float = field(
        default=60.0,
        metadata=_doc("a number of seconds from 0.05 to 3600", "How long one answer may take.", 0.05, 3600),
    )
    model_attempts: int = field(
        default=4,
        metadata=_doc(
            "a whole number from 1 to 10", "How often a question is asked before it counts as failed.", 1, 10
        ),
    )
    embedding_model: str = field(
        default="",
        metadata=_doc(
            "the name of a model; leave it out for none",
            "The model at the same address whose embeddings compare lessons; without one their words are compared.",
            pattern=r"[^,=\s]+",
        ),
    )
    judged_per_run: int = field(
        default=100,
        metadata=_doc(
            "a whole number from 1 to 100000", "How many traces and comments one run of the judges takes.", 1, 100_000
        ),
    )
    drafted_per_run: int = field(
        default=5,
        metadata=_doc(
            "a whole number from 1 to 1000",
            "About how many tasks one run of draft-lessons asks the model for lessons.",
            1,
            1000,
        ),
    )
    model_batches: bool = field(
        default=False,
        metadata=_doc(
            "true or false",
            "Whether lessons are drafted by one batch a night (files and /v1/batches of the model's server), answered "
            "within a day at a lower price.",
        ),
    )
    model_batch_price: float = field(
        default=0.5,
        metadata=_doc(
            "a number from 0 to 1", "What a question costs in a batch, as a share of the model's price.", 0, 1
        ),
    )
    sign_in_metadata_url: str = field(
        default="",
        metadata=_doc(
            "an address such as https://accounts.example.com/.well-known/openid-configuration; http only on loopback",
            "Where the OpenID provider describes itself; with it operators sign in, without it there is one local "
            "admin, on loopback only.",
            pattern=_ADDRESS,
        ),
    )
    sign_in_client_id: str = field(
        default="",
        metadata=_doc(
            "the id that the provider gave", "The id under which the provider knows Trimtab.", pattern=r"\S+"
        ),
    )
    sign_in_secret_env: str = field(
        default="OIDC_CLIENT_SECRET",
        metadata=_doc(
            "the name of an environment variable outside TRIMTAB_, never the secret itself",
            "The environment variable that holds the secret that the provider gave.",
            pattern=_KEY_VARIABLE,
        ),
    )
    sign_in_cookie_secret_env: str = field(
        default="OIDC_COOKIE_SECRET",
        metadata=_doc(
            "the name of an environment variable outside TRIMTAB_, never the secret itself",
            "The environment variable that holds the secret that cookies are signed with; when it is not there, "
            "everybody signs in again after a restart.",
            pattern=_KEY_VARIABLE,
        ),
    )
    sign_in_redirect: str = field(
        default="",
        metadata=_doc(
            "the address of the dashboard and /oauth2callback, such as https://trimtab.example.com/oauth2callback; "
            "http only on loopback",
            "Where the provider sends operators back; the pages are used at this address and no other.",
            pattern=_REDIRECT,
        ),
    )
    sign_in_addresses: str = field(
        default="",
        metadata=_doc(
            "addresses separated by commas",
            "Who may sign in without an invitation, as a viewer.",
            pattern=f"{_EMAIL}(,{_EMAIL})*",
        ),
    )
    sign_in_domains: str = field(
        default="",
        metadata=_doc(
            "domains such as example.com, separated by commas; subdomains are others",
            "Of which domains everybody may sign in without an invitation, as a viewer.",
            pattern=f"{_DOMAIN}(,{_DOMAIN})*",
        ),
    )
    sign_in_admins: str = field(
        default="",
        metadata=_doc(
            "addresses separated by commas",
            "The first admins; afterwards roles are changed on the Settings page.",
            pattern=f"{_EMAIL}(,{_EMAIL})*",
        ),
    )
    sign_in_hours: float = field(
        default=12.0,
        metadata=_doc("a number of hours from 0.1 to 720", "After how long operators have to sign in again.", 0.1, 720),
    )
    sign_in_contact: str = field(
        default="",
        metadata=_doc(
            "a name or an address of at most 200 printable characters",
            "Whom the page of those who may not come in says to ask.",
            pattern=r"[^\x00-\x1f\x7f]{1,200}",
        ),
    )

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str] | None = None,
        folder: Path | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> "Settings":
        """Read and check all settings.

        Args: `environ` (default: this process's); `folder` that may hold a trimtab.toml (default: the working
        directory); `overrides` by field name, such as the command line's `--db`.
        Raises: `SettingsError` naming the setting, what came and what was expected.
        """
        values = _from_file((folder or Path.cwd()) / FILE_NAME)
        values |= _from_environment(os.environ if environ is None else environ)
        values |= {name: value for name, value in (overrides or {}).items() if value is not None}
        return cls(**values)


def _documented(declared: "Field[Any]") -> Setting:
    kind: Any = declared.type
    return Setting(declared.name, kind, declared.default, **declared.metadata)


SETTINGS: tuple[Setting, ...] = tuple(_documented(declared) for declared in fields(Settings))
_BY_NAME = {setting.name: setting for setting in SETTINGS}


def is_loopback(host: str) -> bool:
    """Whether an address can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    by_variable = {setting.variable: setting for setting in SETTINGS}
    values = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX):
            continue
        setting = by_variable.get(variable)
        if setting is None:
            raise SettingsError(variable, text, _one_of(variable, list(by_variable)))
        values[setting.name] = _checked(variable, setting, text, _parse(variable, setting, text))
    return values


def _from_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(FILE_NAME, str(error), f"a readable TOML file at {path}") from error
    values = {}
    for key, value in content.items():
        setting = _BY_NAME.get(key)
        place = f"{key} in {path.name}"
        if setting is None:
            raise SettingsError(place, value, _one_of(key, list(_BY_NAME)))
        values[key] = _checked(place, setting, value, _convert(place, setting, value))
    return values


def _one_of(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"one of {', '.join(known)}{hint}"


def _parse(place: str, setting: Setting, text: str) -> Any:
    """The value of a text from the environment, of the setting's type."""
    stripped = text.strip()
    try:
        if setting.kind is bool:
            if stripped.lower() not in _TRUE | _FALSE:
                raise ValueError
            return stripped.lower() in _TRUE
        if setting.kind is int:
            return int(stripped)
        if setting.kind is float:
            return float(stripped)
        return _convert(place, setting, stripped)
    except (ValueError, SettingsError) as error:
        raise SettingsError(place, text, setting.expected) from error


def _convert(place: str, setting: Setting, value: object) -> Any:
    """A TOML value as the setting's type; only whole numbers widen to fractions."""
    if setting.kind is Path:
        if isinstance(value, str) and value and "\0" not in value:
            return Path(value).expanduser()
    elif setting.kind is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif type(value) is setting.kind and value != "":
        return value
    raise SettingsError(place, value, setting.expected)


def _checked(place: str, setting: Setting, given: object, value: Any) -> Any:
    """The value when it is in range. Not-a-number is in no range."""
    in_range = setting.minimum is None or setting.maximum is None or setting.minimum <= value <= setting.maximum
    if not in_range or (setting.pattern is not None and not re.fullmatch(setting.pattern, value)):
        # Where an address or the name of a variable belongs, a password or a key may stand by mistake.
        secret = setting.pattern in (_KEY_VARIABLE, _ADDRESS, _REDIRECT)
        shown = "[not shown: it may hold a secret]" if secret else given
        raise SettingsError(place, shown, setting.expected)
    return value
