"""A server's settings, and where they come from."""

import socket
from dataclasses import fields

import pytest

from registry.errors import InvalidSetting
from services.httpd.address import url_of
from services.settings import PREFIX, ServeSettings


def test_defaults_need_no_environment() -> None:
    settings = ServeSettings.read({})
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 3000, 1)
    assert settings.served_stages == ("production",)
    assert settings.max_body_bytes == 32 << 20
    assert settings.max_pixels == 64_000_000
    assert settings.max_characters == 1_000_000
    assert settings.max_rows == 256


def test_arguments_win_over_the_environment_and_none_is_no_argument() -> None:
    environment = {f"{PREFIX}PORT": "4000", f"{PREFIX}WORKERS": "2", f"{PREFIX}STRICT_READY": "yes"}
    settings = ServeSettings.read(environment, port=5000, workers=None)
    assert (settings.port, settings.workers, settings.strict_ready) == (5000, 2, True)


def test_settings_travel_through_the_environment() -> None:
    settings = ServeSettings(port=4001, stages=("staging", "canary"), targets=("a", "b"), strict_ready=True)
    assert ServeSettings.read(settings.to_environment()) == settings
    assert settings.served_stages == ("production", "staging", "canary")


@pytest.mark.parametrize(
    ("host", "auth"),
    [
        ("127.0.0.1", "off"),
        ("127.1.2.3", "off"),
        ("::1", "off"),
        ("0.0.0.0", "required"),
        ("::", "required"),
        ("10.0.0.7", "required"),
        ("::ffff:10.0.0.7", "required"),
        ("localhost", "off"),
        ("LOCALHOST.", "off"),
        ("api.localhost", "off"),
        ("[::1]", "off"),
        ("127.1", "off"),
        ("::ffff:127.0.0.1", "required"),
    ],
)
def test_tokens_are_required_where_others_can_ask(host: str, auth: str) -> None:
    assert ServeSettings(host=host).decided().auth == auth
    assert ServeSettings(host=host, auth="off").decided().auth == "off"
    assert ServeSettings(host=host, auth="required").decided().auth == "required"


def test_one_address_has_half_of_the_connections_unless_told_otherwise() -> None:
    assert ServeSettings(max_connections=7).limits.per_address == 3
    assert ServeSettings(max_connections=1).limits.per_address == 1
    assert ServeSettings(max_connections=7, max_connections_per_address=7).limits.per_address == 7


@pytest.mark.parametrize(
    ("addresses", "auth"),
    [
        (["192.0.2.7"], "required"),
        (["::1", "127.0.0.1"], "off"),
        (["::1", "192.0.2.7"], "required"),
        (["2001:db8::1"], "required"),
    ],
)
def test_a_name_is_judged_by_the_address_that_is_listened_on(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str], auth: str
) -> None:
    def getaddrinfo(host: str, port: object, **options: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    for name in ("models", "localhost.example.org", "mylocalhost"):
        assert not ServeSettings(host=name).loopback
        settings = ServeSettings(host=name).decided()
        assert settings.auth == auth
        assert settings.host in addresses
        assert settings.loopback == (auth == "off")
        assert settings.decided() == settings


@pytest.mark.parametrize(
    "host", ["", "no.such.name.invalid", "a" * 100, "a..b", "a b", "x\0y", "[::1", "::1]"]
)
def test_a_host_without_an_address_is_refused_in_one_line(host: str) -> None:
    with pytest.raises(InvalidSetting, match="--host") as caught:
        ServeSettings(host=host).decided()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("2001:db8::1", "http://[2001:db8::1]:80"),
    ],
)
def test_an_address_of_ipv6_stands_in_brackets(host: str, url: str) -> None:
    assert url_of(host, 80) == url


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORT", "x"),
        ("PORT", "0"),
        ("WORKERS", "0"),
        ("STAGES", "No Stage"),
        ("TARGETS", "a,B"),
        ("STRICT_READY", "perhaps"),
        ("DEADLINE_S", "0"),
        ("FRONT", "back"),
        ("AUTH", "perhaps"),
        ("MAX_HELD_BYTES", "1"),
        ("MAX_CHARACTERS", "0"),
        ("TENSOR_BYTES", "-1"),
        ("MAX_CONNECTIONS", "0"),
        ("MAX_CONNECTIONS_PER_ADDRESS", "5000"),
        ("HEAD_S", "0"),
        ("TRUSTED_PROXIES", "proxy.example"),
    ],
)
def test_what_cannot_be_used_is_refused(name: str, text: str) -> None:
    with pytest.raises(InvalidSetting):
        ServeSettings.read({PREFIX + name: text})


def test_every_setting_is_described() -> None:
    described = ServeSettings.__doc__ or ""
    assert all(f"        {field.name}: " in described for field in fields(ServeSettings))
