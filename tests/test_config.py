"""What an operator writes into the environment, and what Pipelit makes of it."""

import dataclasses
from pathlib import Path

import pytest

from pipelit.config import LONGEST_SOCKET_PATH, Settings, declared, embedded_socket
from pipelit.errors import SettingsError

DOCUMENTATION = Path(__file__).parents[1] / "docs" / "configuration.md"


def load(**environ: str) -> Settings:
    return Settings.load({"PIPELIT_HOME": "/srv/pipelit", **environ})


def test_without_any_setting_everything_lives_in_the_home_folder():
    settings = load()

    assert settings.database_url == "sqlite:////srv/pipelit/pipelit.db"
    assert settings.redis_url == "unix:///srv/pipelit/redis.sock"
    assert settings.embedded_redis
    assert (settings.host, settings.port, settings.base_url) == ("127.0.0.1", 8000, "http://127.0.0.1:8000")


def test_an_empty_variable_counts_as_not_given():
    assert load(PIPELIT_PORT=" ", REDIS_URL="") == load()


def test_a_redis_url_means_that_no_server_is_ours_to_start():
    assert not load(REDIS_URL="redis://cache:6379/2").embedded_redis


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_ends_up_with_the_same_driver(scheme):
    settings = load(DATABASE_URL=f"{scheme}://user:pw@db/pipelit")

    assert settings.database_url == "postgresql+psycopg://user:pw@db/pipelit"


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"PIPELIT_PORT": "http"}, "PIPELIT_PORT ('http') must be a whole number from 1 to 65535."),
        ({"PIPELIT_PORT": "70000"}, "PIPELIT_PORT ('70000') must be a whole number from 1 to 65535."),
        ({"PIPELIT_WORKERS": "0"}, "PIPELIT_WORKERS ('0') must be a whole number from 1 to 256."),
        ({"PIPELIT_LOG_FORMAT": "xml"}, "PIPELIT_LOG_FORMAT ('xml') must be one of text, json."),
        ({"PIPELIT_LEASE_SECONDS": "soon"}, "PIPELIT_LEASE_SECONDS ('soon') must be a number of seconds above zero"),
        ({"PIPELIT_LEASE_SECONDS": "5", "PIPELIT_VISIBILITY_TIMEOUT": "10"}, "PIPELIT_LEASE_SECONDS (5) must be below"),
        ({"PIPELIT_HTTP_ALLOW": "10.0.0.0/8, http://x"}, "'http://x' is none of them."),
        ({"PIPELIT_PUBLIC_URL": "pipelit.example"}, "PIPELIT_PUBLIC_URL ('pipelit.example') must be the address"),
        (
            {"DATABASE_URL": "mysql://db/pipelit"},
            "DATABASE_URL must look like sqlite:////whole/path.db or postgresql://",
        ),
        ({"DATABASE_URL": "postgresql://db"}, "DATABASE_URL must look like"),
        ({"DATABASE_URL": "sqlite:///pipelit.db"}, "DATABASE_URL must name a file by its whole path"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL must look like redis://host:6379/0"),
        ({"REDIS_URL": "redis://host:notaport/0"}, "REDIS_URL must look like redis://host:6379/0"),
        ({"REDIS_URL": "redis://[::1/0"}, "REDIS_URL"),
        ({"FIELD_ENCRYPTION_KEY": "short"}, "FIELD_ENCRYPTION_KEY must hold Fernet keys"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY must have at least 16 characters."),
        ({"PIPELIT_HOME": "/srv/what?"}, "PIPELIT_HOME must be a path without '?'"),
    ],
)
def test_a_wrong_setting_is_refused_with_one_sentence_that_names_it(environ, sentence):
    with pytest.raises(SettingsError) as refusal:
        load(**environ)

    assert sentence in refusal.value.detail
    assert "\n" not in refusal.value.detail


def test_a_refusal_never_repeats_a_secret():
    with pytest.raises(SettingsError) as refusal:
        load(FIELD_ENCRYPTION_KEY="my-secret-key")

    assert "my-secret-key" not in refusal.value.detail


def test_settings_can_be_printed_without_giving_a_secret_away():
    settings = load(
        SECRET_KEY="s3cret-s3cret-s3cret", DATABASE_URL="postgres://u:s3cret@db/x", REDIS_URL="redis://:s3cret@cache/0"
    )

    assert "s3cret" not in repr(settings)


def test_a_database_number_of_a_unix_socket_reaches_the_broker_too():
    assert load(REDIS_URL="unix:///run/redis.sock?db=3").broker_url == "redis+socket:///run/redis.sock?virtual_host=3"


def test_several_fernet_keys_keep_their_order():
    first, second = "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=", "YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI="

    assert load(FIELD_ENCRYPTION_KEY=f"{first}, {second}").field_encryption_keys == (first, second)


def test_a_deep_home_still_gets_a_socket_that_fits():
    home = Path("/srv") / ("deep/" * 40)

    socket = embedded_socket(home)

    assert len(str(socket)) <= LONGEST_SOCKET_PATH
    assert socket == embedded_socket(home) != embedded_socket(home / "other")


def test_every_setting_is_documented():
    text = DOCUMENTATION.read_text(encoding="utf-8")

    for setting in declared():
        assert f"| `{setting.name}` |" in text


def test_every_setting_is_declared_with_a_name_a_default_and_a_meaning():
    names = [setting.name for setting in declared()]

    assert len(names) == len(set(names)) == len(dataclasses.fields(Settings))
    assert all(setting.help.endswith(".") for setting in declared())
