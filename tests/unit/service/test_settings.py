"""Settings: where values come from, which one wins, and that a wrong one is told without telling a key."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from service.settings import OTHER_VARIABLES, Settings, load_settings
from vision.errors import ConfigError


@pytest.fixture(autouse=True)
def _empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be in a folder without ``.env``, in an environment without our variables."""
    import os

    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith("STRIDE32_")]:
        monkeypatch.delenv(name)


def test_defaults_are_those_of_one_person_on_one_machine() -> None:
    settings = load_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.cors_origins == settings.fetch_hosts == settings.api_keys == ()


def test_flags_win_over_the_environment_and_this_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("STRIDE32_PORT=1001\nSTRIDE32_HOST=10.0.0.1\nSTRIDE32_DEVICE=cpu\nOTHER=1\n")
    monkeypatch.setenv("STRIDE32_PORT", "1002")
    monkeypatch.setenv("STRIDE32_HOST", "10.0.0.2")
    settings = load_settings(port=1003, host=None)
    assert (settings.port, settings.host, settings.device) == (1003, "10.0.0.2", "cpu")


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIDE32_CORS_ORIGINS", " https://a.example , https://b.example,")
    monkeypatch.setenv("STRIDE32_API_KEYS", f"{'a' * 16},{'b' * 16}")
    settings = load_settings(preload="person-window")
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert [key.get_secret_value() for key in settings.api_keys] == ["a" * 16, "b" * 16]
    assert settings.preload == ("person-window",)


def test_empty_values_of_compose_files_mean_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEYS", "CORS_ORIGINS", "UDS"):
        monkeypatch.setenv(f"STRIDE32_{name}", "")
    settings = load_settings()
    assert (settings.api_keys, settings.cors_origins, settings.uds) == ((), (), None)


@pytest.mark.parametrize("place", ["environment", "file"])
def test_misspelt_variable_is_refused_with_the_nearest_name(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if place == "environment":
        monkeypatch.setenv("STRIDE32_API_KEY", "0123456789abcdef0123")
    else:
        Path(".env").write_text("STRIDE32_API_KEY=0123456789abcdef0123\n")
    with pytest.raises(ConfigError, match="STRIDE32_API_KEYS") as refused:
        load_settings()
    assert "0123456789abcdef" not in str(refused.value)


# What a pod gets for Services "stride32" and "stride32-web".
LINKS = {
    "STRIDE32_SERVICE_HOST": "10.0.0.1",
    "STRIDE32_SERVICE_PORT": "8000",
    "STRIDE32_SERVICE_PORT_HTTP": "8000",
    "STRIDE32_PORT": "tcp://10.0.0.1:8000",
    "STRIDE32_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "STRIDE32_PORT_8000_TCP_PROTO": "tcp",
    "STRIDE32_PORT_8000_TCP_PORT": "8000",
    "STRIDE32_PORT_8000_TCP_ADDR": "10.0.0.1",
    "STRIDE32_WEB_SERVICE_HOST": "10.0.0.2",
    "STRIDE32_WEB_SERVICE_PORT": "80",
    "STRIDE32_WEB_PORT": "tcp://10.0.0.2:80",
    "STRIDE32_WEB_PORT_80_TCP": "tcp://10.0.0.2:80",
    "STRIDE32_WEB_PORT_80_TCP_ADDR": "10.0.0.2",
}


def test_it_starts_beside_kubernetes_services_of_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LINKS.items():
        monkeypatch.setenv(name, value)
    assert load_settings().port == 8000
    assert load_settings(port=9000).port == 9000


@pytest.mark.parametrize("name", ["STRIDE32_WEB_PORT", "STRIDE32_PORTS", "STRIDE32_SERVICE", "STRIDE32_PORT_TCP"])
def test_what_only_looks_like_kubernetes_is_a_misspelt_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "8000")
    with pytest.raises(ConfigError, match=name):
        load_settings()


@pytest.mark.parametrize("name", sorted(OTHER_VARIABLES))
def test_variables_of_the_library_are_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "somewhere")
    load_settings()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PORT", "web", "STRIDE32_PORT: .*integer"),
        ("PORT", "70000", "STRIDE32_PORT: .*65535"),
        ("QUEUE_ITEMS", "0", "STRIDE32_QUEUE_ITEMS"),
        ("REQUEST_TIMEOUT_S", "inf", "STRIDE32_REQUEST_TIMEOUT_S: .*finite"),
        ("REQUEST_TIMEOUT_S", "nan", "STRIDE32_REQUEST_TIMEOUT_S"),
        ("LOG_FORMAT", "xml", "STRIDE32_LOG_FORMAT: .*json"),
        ("ENGINE", "tensorrt", "STRIDE32_ENGINE"),
        ("SESSION_TTL_S", "4000", "session_ttl_s must be at most session_max_ttl_s"),
    ],
)
def test_wrong_value_is_told_by_its_variable(name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"STRIDE32_{name}", value)
    with pytest.raises(ConfigError, match=says):
        load_settings()


@pytest.mark.parametrize(
    "key", ["secret-but-short"[:15], "secret with spaces in it", "secret-ä-0123456789", "secret" * 100]
)
def test_key_that_cannot_be_one_is_refused_and_not_told(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIDE32_API_KEYS", f"{'a' * 20},{key}")
    with pytest.raises(ConfigError, match="STRIDE32_API_KEYS: keys must") as refused:
        load_settings()
    told = "".join(traceback.format_exception(refused.value))
    assert "secret" not in told
    assert "a" * 20 not in told


def test_other_wrong_values_do_not_tell_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIDE32_API_KEYS", "secret-0123456789abcdef")
    monkeypatch.setenv("STRIDE32_SESSION_TTL_S", "999999")
    with pytest.raises(ConfigError) as refused:
        load_settings()
    assert "secret" not in "".join(traceback.format_exception(refused.value))


def test_settings_do_not_change() -> None:
    settings = Settings(_env_file=None)
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())
