"""How operators sign in: all of it set up or nothing, secrets from the environment only, and no open server."""

from datetime import timedelta

import pytest

from dashboard import server
from dashboard.access.configuration import require_sign_in, sign_in
from store.errors import SettingsError
from store.settings import Settings

SECRET, COOKIE = "the secret of the client", "c" * 32
ENVIRON = {"OIDC_CLIENT_SECRET": SECRET, "OIDC_COOKIE_SECRET": COOKIE}
COMPLETE = {
    "sign_in_metadata_url": "https://accounts.example.com/.well-known/openid-configuration",
    "sign_in_client_id": "trimtab",
    "sign_in_redirect": "https://Trimtab.example.com/oauth2callback",
    "sign_in_addresses": "Ana@Example.com,ben@example.org",
    "sign_in_domains": "Team.example,other.example",
    "sign_in_admins": "ada@example.com",
    "sign_in_hours": 2.0,
}


def settings(**changed):
    return Settings(**{**COMPLETE, **changed})


def test_nothing_set_up_is_no_sign_in():
    assert sign_in(Settings(), {}) is None
    assert sign_in(Settings(), ENVIRON) is None


def test_all_of_it_is_read():
    found = sign_in(settings(), ENVIRON)
    assert found.origin == "https://trimtab.example.com"
    assert found.host == "trimtab.example.com"
    assert found.lasts == timedelta(hours=2)
    assert found.admins == ("ada@example.com",)
    assert found.secrets()["auth"] == {
        "redirect_uri": COMPLETE["sign_in_redirect"], "client_id": "trimtab", "client_secret": SECRET,
        "cookie_secret": COOKIE, "server_metadata_url": COMPLETE["sign_in_metadata_url"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("email", "listed"),
    [
        ("ana@example.com", True), ("ben@example.org", True), ("eve@team.example", True), ("eve@other.example", True),
        ("eve@example.com", False), ("eve@sub.team.example", False), ("eve@nteam.example", False),
        ("eve@team.example.com", False), ("team.example", False), ("ana@example.com.evil.example", False),
    ],
)  # fmt: skip
def test_addresses_and_domains_are_listed_exactly(email, listed):
    assert sign_in(settings(), ENVIRON).lists(email) is listed


@pytest.mark.parametrize(
    ("changed", "environ", "names"),
    [
        ({"sign_in_metadata_url": ""}, ENVIRON, "TRIMTAB_SIGN_IN_METADATA_URL"),
        ({"sign_in_client_id": ""}, ENVIRON, "TRIMTAB_SIGN_IN_CLIENT_ID"),
        ({"sign_in_redirect": ""}, ENVIRON, "TRIMTAB_SIGN_IN_REDIRECT"),
        ({"sign_in_redirect": "http://trimtab.example.com/oauth2callback"}, ENVIRON, "https://"),
        ({"sign_in_metadata_url": "http://accounts.example.com/x"}, ENVIRON, "https://"),
        ({}, {}, "TRIMTAB_SIGN_IN_SECRET_ENV"),
        ({}, {**ENVIRON, "OIDC_COOKIE_SECRET": "short"}, "TRIMTAB_SIGN_IN_COOKIE_SECRET_ENV"),
        ({"sign_in_admins": "a@b..c"}, ENVIRON, "TRIMTAB_SIGN_IN_ADMINS"),
        ({"allow_keyless_loopback": True}, ENVIRON, "TRIMTAB_ALLOW_KEYLESS_LOOPBACK"),
    ],
)
def test_what_is_half_set_up_is_refused(changed, environ, names):
    with pytest.raises(SettingsError, match=names) as refused:
        sign_in(settings(**changed), environ)
    assert SECRET not in str(refused.value)
    assert "'short'" not in str(refused.value)


def test_one_setting_of_it_alone_is_refused():
    for name, value in COMPLETE.items():
        if name != "sign_in_metadata_url":
            with pytest.raises(SettingsError, match="METADATA_URL"):
                sign_in(Settings(**{name: value}), ENVIRON)


def test_http_is_enough_on_this_machine():
    local = settings(
        sign_in_redirect="http://localhost:8501/oauth2callback", sign_in_metadata_url="http://127.0.0.1:9000/x",
        allow_keyless_loopback=True,
    )  # fmt: skip
    assert sign_in(local, ENVIRON).origin == "http://localhost:8501"


def test_without_a_secret_for_cookies_each_process_has_its_own():
    environ = {"OIDC_CLIENT_SECRET": SECRET}
    first, second = sign_in(settings(), environ), sign_in(settings(), environ)
    assert first.cookie_secret == second.cookie_secret
    assert len(first.cookie_secret) >= 32


def test_secrets_are_not_in_what_is_printed():
    assert SECRET not in repr(sign_in(settings(), ENVIRON))
    assert COOKIE not in repr(sign_in(settings(), ENVIRON))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "trimtab.example.com"])
def test_other_machines_reach_nothing_without_sign_in(host):
    with pytest.raises(SettingsError, match=r"TRIMTAB_SIGN_IN_METADATA_URL.*docs/sign-in\.md") as refused:
        require_sign_in(Settings(host=host), None)
    assert host in str(refused.value)
    require_sign_in(settings(host=host), sign_in(settings(), ENVIRON))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_needs_no_sign_in(host):
    require_sign_in(Settings(host=host), None)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TRIMTAB_SIGN_IN_METADATA_URL", "accounts.example.com"),
        ("TRIMTAB_SIGN_IN_METADATA_URL", "https://me:secret@example.com/x"),
        ("TRIMTAB_SIGN_IN_REDIRECT", "https://trimtab.example.com/"),
        ("TRIMTAB_SIGN_IN_REDIRECT", "https://trimtab.example.com/oauth2callback?x=1"),
        ("TRIMTAB_SIGN_IN_SECRET_ENV", "my own password"),
        ("TRIMTAB_SIGN_IN_COOKIE_SECRET_ENV", "TRIMTAB_COOKIE"),
        ("TRIMTAB_SIGN_IN_ADDRESSES", "ana@example.com, ben"),
        ("TRIMTAB_SIGN_IN_DOMAINS", "*.example.com"),
        ("TRIMTAB_SIGN_IN_DOMAINS", "@example.com"),
        ("TRIMTAB_SIGN_IN_HOURS", "0"),
        ("TRIMTAB_SIGN_IN_CONTACT", "a\tb"),
    ],
)
def test_settings_out_of_form_are_refused(tmp_path, variable, value):
    with pytest.raises(SettingsError, match=variable) as refused:
        Settings.load({variable: value}, tmp_path)
    assert "secret@" not in str(refused.value)
    assert "my own password" not in str(refused.value)


def test_streamlit_serves_the_one_address_and_trusts_no_header():
    found = server.config(settings(), sign_in(settings(), ENVIRON))
    assert found["server.corsAllowedOrigins"] == ["https://trimtab.example.com"]
    assert "trimtab.example.com" in found["server.allowedHosts"]
    assert found["server.enableXsrfProtection"] is True
    assert found["server.enableAgentApi"] is False
    assert found["server.trustedUserHeaders"] == {}
