"""Settings: what wins, what is refused, and that every field is documented."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import SettingsError
from store.settings import SETTINGS, Settings, is_loopback


def test_defaults_without_environment_and_file(tmp_path: Path) -> None:
    settings = Settings.load({}, tmp_path)
    assert settings == Settings()
    assert (settings.host, settings.port, settings.db) == ("127.0.0.1", 8501, Path("data/trimtab.duckdb"))


def test_environment_wins_over_file_and_overrides_win_over_both(tmp_path: Path) -> None:
    (tmp_path / "trimtab.toml").write_text('port = 9000\nmemory_limit = "512MB"\ndb = "a.duckdb"\n')
    settings = Settings.load(
        {"TRIMTAB_PORT": "9001", "TRIMTAB_DB": "b.duckdb", "PATH": "/bin"}, tmp_path, {"db": Path("c.duckdb")}
    )
    assert (settings.port, settings.memory_limit, settings.db) == (9001, "512MB", Path("c.duckdb"))


def test_an_override_of_none_leaves_the_setting(tmp_path: Path) -> None:
    assert Settings.load({"TRIMTAB_DB": "b.duckdb"}, tmp_path, {"db": None}).db == Path("b.duckdb")


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("TRIMTAB_PORT", " 80 ", 80),
        ("TRIMTAB_ALLOW_KEYLESS_LOOPBACK", "Yes", True),
        ("TRIMTAB_ALLOW_KEYLESS_LOOPBACK", "0", False),
        ("TRIMTAB_QUERY_TIMEOUT_SECONDS", "0.5", 0.5),
        ("TRIMTAB_MEMORY_LIMIT", "1.5 GiB", "1.5 GiB"),
        ("TRIMTAB_INBOX", "/srv/in box", Path("/srv/in box")),
        ("TRIMTAB_MODEL", "org/model:8b", "org/model:8b"),
        ("TRIMTAB_MODEL_BASE_URL", "http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1"),
        ("TRIMTAB_MODEL_PRICES", "org/model:8b=0/0,other=0.25/2", "org/model:8b=0/0,other=0.25/2"),
        ("TRIMTAB_MODEL_RUN_USD", "0", 0.0),
    ],
)
def test_texts_are_read_as_the_type_of_the_setting(variable: str, text: str, value: object, tmp_path: Path) -> None:
    settings = Settings.load({variable: text}, tmp_path)
    assert getattr(settings, variable.removeprefix("TRIMTAB_").lower()) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("TRIMTAB_PORT", "eighty"),
        ("TRIMTAB_PORT", "0"),
        ("TRIMTAB_PORT", "65536"),
        ("TRIMTAB_PORT", "80.5"),
        ("TRIMTAB_ALLOW_KEYLESS_LOOPBACK", "maybe"),
        ("TRIMTAB_QUERY_TIMEOUT_SECONDS", "nan"),
        ("TRIMTAB_QUERY_TIMEOUT_SECONDS", "inf"),
        ("TRIMTAB_MEMORY_LIMIT", "2"),
        ("TRIMTAB_MEMORY_LIMIT", "2GB; SET x = 1"),
        ("TRIMTAB_DB", ""),
        ("TRIMTAB_HOST", " "),
        ("TRIMTAB_MODEL", "a model"),
        ("TRIMTAB_MODEL_API", "completions"),
        ("TRIMTAB_MODEL_PRICES", "my-model"),
        ("TRIMTAB_MODEL_PRICES", "my-model=0.25"),
        ("TRIMTAB_MODEL_PRICES", "my-model=-1/2"),
        ("TRIMTAB_MODEL_DAILY_USD", "-1"),
        ("TRIMTAB_MODEL_RUN_TOKENS", "1e6"),
    ],
)
def test_a_bad_value_is_refused_naming_setting_value_and_expectation(variable: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load({variable: text}, tmp_path)
    expected = next(setting.expected for setting in SETTINGS if setting.variable == variable)
    assert variable in str(caught.value)
    assert repr(text) in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "line", ["port = true", 'port = "80"', "port = 70000", "host = 1", 'memory_limit = "lots"', "db = ''", "port = 1.0"]
)
def test_a_bad_value_in_the_file_names_key_and_file(line: str, tmp_path: Path) -> None:
    (tmp_path / "trimtab.toml").write_text(line)
    with pytest.raises(SettingsError, match=rf"{line.split()[0]} in trimtab\.toml"):
        Settings.load({}, tmp_path)


def test_an_unknown_variable_is_refused_with_the_likely_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"TRIMTAB_PROT.*did you mean TRIMTAB_PORT"):
        Settings.load({"TRIMTAB_PROT": "1"}, tmp_path)


def test_an_unknown_key_of_the_file_is_refused_with_the_likely_name(tmp_path: Path) -> None:
    (tmp_path / "trimtab.toml").write_text("prot = 1")
    with pytest.raises(SettingsError, match=r"prot in .*did you mean port"):
        Settings.load({}, tmp_path)


@pytest.mark.parametrize("content", [b"port = ", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "trimtab.toml").write_bytes(content)
    with pytest.raises(SettingsError, match="readable TOML file"):
        Settings.load({}, tmp_path)


def test_every_setting_is_documented() -> None:
    defaults = Settings()
    for setting in SETTINGS:
        assert setting.help.endswith(".")
        assert setting.expected
        assert isinstance(setting.default, setting.kind)
        assert getattr(defaults, setting.name) == setting.default
        assert setting.variable == f"TRIMTAB_{setting.name.upper()}"


@given(port=st.integers(-10_000, 100_000))
def test_whole_numbers_are_taken_exactly_in_their_range(port: int) -> None:
    try:
        taken = Settings.load({"TRIMTAB_PORT": str(port)}, Path("/nonexistent")).port
    except SettingsError:
        assert not 1 <= port <= 65535
    else:
        assert taken == port
        assert 1 <= port <= 65535


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("", False),
    ],
)
def test_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize("key", ["sk-proj-4f5e6d", "TRIMTAB_DB", "KEY NAME", "k" * 40])
def test_a_key_in_place_of_its_variables_name_is_refused_without_being_shown(key: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="never the key itself") as caught:
        Settings.load({"TRIMTAB_MODEL_KEY_ENV": key}, tmp_path)
    assert key not in str(caught.value)
    (tmp_path / "trimtab.toml").write_text(f'model_key_env = "{key}"')
    with pytest.raises(SettingsError) as caught:
        Settings.load({}, tmp_path)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["ftp://models.test/v1", "https://ann:secret@models.test/v1", "https://models.test/v1?key=secret", "x"]
)
def test_an_address_that_may_hold_a_secret_is_refused_without_being_shown(address: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"TRIMTAB_MODEL_BASE_URL.*without user, password") as caught:
        Settings.load({"TRIMTAB_MODEL_BASE_URL": address}, tmp_path)
    assert repr(address) not in str(caught.value)
