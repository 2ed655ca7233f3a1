"""A server's settings, and where they come from."""

from dataclasses import fields

import pytest

from registry.errors import InvalidSetting
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
        ("localhost", "off"),
        ("0.0.0.0", "required"),
        ("::", "required"),
        ("10.0.0.7", "required"),
        ("::ffff:10.0.0.7", "required"),
        ("", "required"),
    ],
)
def test_tokens_are_required_where_others_can_ask(host: str, auth: str) -> None:
    assert ServeSettings(host=host).decided().auth == auth
    assert ServeSettings(host=host, auth="off").decided().auth == "off"
    assert ServeSettings(host=host, auth="required").decided().auth == "required"


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
    ],
)
def test_what_cannot_be_used_is_refused(name: str, text: str) -> None:
    with pytest.raises(InvalidSetting):
        ServeSettings.read({PREFIX + name: text})


def test_every_setting_is_described() -> None:
    described = ServeSettings.__doc__ or ""
    assert all(f"        {field.name}: " in described for field in fields(ServeSettings))
