import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.errors import SettingsError
from service.retrieval.errors import RetrievalError
from service.settings.settings import Settings, injected_by_kubernetes, load_settings, variable

UNITS = {"bytes", "connections", "entries", "ms", "seconds", "share", "tokens", "documents"}


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("CLEAR_"):
            monkeypatch.delenv(name)


def test_a_variable_sets_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEAR_PORT", "8123")

    assert load_settings().port == 8123


def test_the_command_line_takes_precedence_over_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLEAR_PORT", "8123")

    assert load_settings(port=9000).port == 9000


@pytest.mark.parametrize("host", ["", " ", "[]"])
def test_an_empty_host_is_refused_because_it_would_listen_everywhere(host: str) -> None:
    with pytest.raises(SettingsError, match="CLEAR_HOST: is empty: name an address"):
        load_settings(host=host)


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_address_may_have_the_brackets_of_a_url(host: str) -> None:
    settings = load_settings(host=host)

    assert settings.host == "::1"
    assert settings.is_local


@pytest.mark.parametrize(
    ("given", "path"), [("/clear", "/clear"), ("clear/", "/clear"), ("/a/b/", "/a/b"), ("/", "")]
)
def test_a_root_path_begins_with_a_slash_and_ends_without(given: str, path: str) -> None:
    assert load_settings(root_path=given).root_path == path


@pytest.mark.parametrize("path", ["/a b", "/a?b", "//a//b", "/..", '/a"', "https://host/a"])
def test_a_root_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(SettingsError, match="CLEAR_ROOT_PATH: is not a path"):
        load_settings(root_path=path)


@pytest.mark.parametrize("proxies", ["*", "10.0.0.1/8", "proxy", "10.0.0.1, nobody"])
def test_trusted_proxies_are_addresses_or_networks(proxies: str) -> None:
    with pytest.raises(SettingsError, match="CLEAR_TRUSTED_PROXIES: .* write addresses"):
        load_settings(trusted_proxies=proxies)


def test_an_override_of_none_leaves_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEAR_INDEX", "/indexes/one")

    assert load_settings(index=None).index == Path("/indexes/one")


@pytest.mark.parametrize(
    ("name", "close"), [("CLEAR_PROT", "CLEAR_PORT"), ("CLEAR_MAX_TOKEN", "CLEAR_MAX_TOKENS")]
)
def test_an_unknown_variable_is_refused_with_the_closest_name(
    monkeypatch: pytest.MonkeyPatch, name: str, close: str
) -> None:
    monkeypatch.setenv(name, "1")

    with pytest.raises(SettingsError, match=f"{name} is unknown: did you mean {close}\\?"):
        load_settings()


@pytest.mark.parametrize("name", ["CLEAR_QQQQQQQQQQQQQ", "CLEAR_FOO"])
def test_an_unknown_variable_like_no_other_is_refused_with_all_names(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")

    with pytest.raises(SettingsError) as refusal:
        load_settings()

    for field in Settings.model_fields:
        assert variable(field) in str(refusal.value)


@pytest.mark.parametrize("name", ["CLEAR_JSON", "CLEAR_SKIP_INVALID", "CLEAR_TOP_K", "PORT"])
def test_a_variable_of_a_single_command_or_of_another_program_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")

    assert load_settings() == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLEAR_PORT", "eighty"),
        ("CLEAR_PORT", "65536"),
        ("CLEAR_MAX_BODY_BYTES", "10"),
        ("CLEAR_MAX_TOKENS", "7"),
        ("CLEAR_DRAIN_SECONDS", "-1"),
        ("CLEAR_LOG_LEVEL", "loud"),
        ("CLEAR_TIMEOUT_MS", "1.5"),
    ],
)
def test_a_wrong_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=f"^{name}: "):
        load_settings()


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ("CLEAR_TIMEOUT_MS", "CLEAR_MAX_TIMEOUT_MS"),
        ("CLEAR_MAX_BATCH_TOKENS", "CLEAR_MAX_WAITING_TOKENS"),
    ],
)
def test_a_contradiction_names_both_variables(
    monkeypatch: pytest.MonkeyPatch, smaller: str, larger: str
) -> None:
    monkeypatch.setenv(smaller, "2000")
    monkeypatch.setenv(larger, "1000")

    with pytest.raises(SettingsError, match=f"^{smaller}=2000 is above {larger}=1000: "):
        load_settings()


def test_settings_are_frozen() -> None:
    settings = Settings()

    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_described(field: str) -> None:
    assert Settings.model_fields[field].description


def test_every_number_has_its_unit_in_its_name() -> None:
    numbers = [
        name
        for name, field in Settings.model_fields.items()
        if field.annotation in (int, float, int | None)
    ]

    without_unit = {name for name in numbers if name.rpartition("_")[2] not in UNITS}

    assert without_unit == {"port", "operations_port", "nprobe", "ef_search"}  # FAISS's words


@pytest.mark.parametrize(
    ("variable", "value"),
    [("CLEAR_REQUIRE_KEYS", "true"), ("CLEAR_METRICS", "key"), ("CLEAR_DOCS", "key")],
)
def test_a_setting_that_needs_a_key_is_refused_without_one(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError, match=f"^{variable}={value} .*CLEAR_KEYS_FILE"):
        load_settings()

    for given in ("CLEAR_KEYS_FILE", "CLEAR_KEYS", "CLEAR_API_KEY"):
        with monkeypatch.context() as patch:
            patch.setenv(given, "x" * 16)
            load_settings()


def test_the_operations_port_must_differ_from_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEAR_OPERATIONS_PORT", "8000")

    with pytest.raises(SettingsError, match="CLEAR_OPERATIONS_PORT and CLEAR_PORT are both 8000"):
        load_settings()


@pytest.mark.parametrize(
    ("origins", "is_taken"),
    [
        ("", True),
        ("*", True),
        ("https://a.example", True),
        ("https://a.example,http://localhost:3000", True),
        ("app://obsidian.md,capacitor://localhost", True),  # pages in desktop and phone apps
        ("a.example", False),
        ("https://a.example, https://b.example", False),
        ("https://*.example", False),
        ("https://a.example/", False),
        ("null", False),
    ],
)
def test_cors_origins_are_checked(origins: str, is_taken: bool) -> None:
    if is_taken:
        assert Settings(cors_origins=origins).cors_origins == origins
    else:
        with pytest.raises(ValidationError, match="pattern"):
            Settings(cors_origins=origins)


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("localhost", True), ("::1", True)]
    + [("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example.org", False)],
)
def test_loopback_addresses_are_local(host: str, is_local: bool) -> None:
    assert Settings(host=host).is_local == is_local


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "Infinity", "1e400"])
@pytest.mark.parametrize(
    "name",
    [
        variable(name)
        for name, field in Settings.model_fields.items()
        if field.annotation in (float, float | None)
    ],
)
def test_a_setting_is_a_finite_number(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=f"^{name}: "):
        load_settings()


INJECTED = {
    "CLEAR_SEARCH_SERVICE_HOST": "10.0.0.1",
    "CLEAR_SEARCH_SERVICE_PORT": "80",
    "CLEAR_SEARCH_SERVICE_PORT_HTTP": "80",
    "CLEAR_SEARCH_PORT": "tcp://10.0.0.1:80",
    "CLEAR_SEARCH_PORT_80_TCP": "tcp://10.0.0.1:80",
    "CLEAR_SEARCH_PORT_80_TCP_PROTO": "tcp",
    "CLEAR_SEARCH_PORT_80_TCP_PORT": "80",
    "CLEAR_SEARCH_PORT_80_TCP_ADDR": "10.0.0.1",
    "CLEAR_SERVICE_HOST": "10.0.0.2",
    "CLEAR_PORT": "tcp://10.0.0.2:80",
    "CLEAR_PORT_80_TCP": "tcp://10.0.0.2:80",
    "CLEAR_OPERATIONS_PORT": "tcp://10.0.0.3:9000",
}


def test_variables_that_kubernetes_sets_for_a_service_are_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in INJECTED.items():
        monkeypatch.setenv(name, value)

    assert load_settings() == Settings(port=8000)
    assert injected_by_kubernetes(os.environ) == sorted(INJECTED)


def test_a_port_that_is_no_url_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEAR_PORT", "8123")

    assert load_settings().port == 8123
    assert injected_by_kubernetes(os.environ) == []


def test_a_user_without_a_home_is_told_to_set_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)

    with pytest.raises(RetrievalError, match="no home folder for the cache: set CLEAR_CACHE"):
        load_settings()
    assert load_settings(cache=Path("/cache")).cache == Path("/cache")


@pytest.mark.parametrize("field", ["index", "encoder", "cache"])
def test_a_folder_whose_name_is_not_utf_8_is_refused_by_its_setting(
    monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    name = os.fsdecode(b"/tmp/\xff")

    with pytest.raises(SettingsError, match=f"^{variable(field)}=.* is not UTF-8: rename"):
        load_settings(**{field: name})
    monkeypatch.setenv(variable(field), name)
    with pytest.raises(SettingsError, match=f"^{variable(field)}=.* is not UTF-8: rename"):
        load_settings()


def test_a_relative_home_does_not_put_the_cache_into_the_current_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CLEAR_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    monkeypatch.setenv("HOME", "home/me")

    with pytest.raises(RetrievalError, match="HOME is a relative path .*: set CLEAR_CACHE"):
        load_settings()

    monkeypatch.setenv("CLEAR_CACHE", "/caches/one")
    assert load_settings().cache == Path("/caches/one")
