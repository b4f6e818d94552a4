"""The settings: where they come from, what is wrong with them, what they keep to themselves."""

from pathlib import Path

import pytest

from oddslog.deploy.configuration import SECRETS, read_configuration
from oddslog.deploy.plain_text import plain_text_database_hosts
from oddslog.deploy.settings import Settings, variable
from oddslog.schemas import ConfigurationError

URL = "postgresql://me:s3cret@host:5432/odds"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)
        monkeypatch.delenv(variable(name) + "_FILE", raising=False)


def test_defaults_are_those_of_the_design() -> None:
    """With nothing set, a local Kafka and no database."""
    settings = read_configuration().settings
    assert settings.bootstrap_servers == "localhost:9092"
    assert (settings.topic, settings.group) == ("odds.writes", "oddslog-sink")
    assert settings.database_url is None
    assert (settings.queue_maxsize, settings.queue_bytes) == (50, 512 * 1024 * 1024)
    assert (settings.raw_response, settings.stack) == ("database", "auto")


def test_every_setting_says_what_it_is() -> None:
    """In a sentence, for README and people."""
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_the_first_source_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Option, environment, default; and each is named."""
    monkeypatch.setenv("ODDSLOG_TOPIC", "of.environment")
    monkeypatch.setenv("ODDSLOG_GROUP", "of-environment")
    read = read_configuration({"topic": "of.option", "database_schema": "odds", "stack": None})
    assert (read.settings.topic, read.settings.group) == ("of.option", "of-environment")
    assert read.origins["topic"] == "--topic"
    assert read.origins["database_schema"] == "--schema"
    assert read.origins["group"] == "ODDSLOG_GROUP"
    assert read.origins["stack"] == "default"


@pytest.mark.parametrize("field", SECRETS)
def test_secrets_can_be_files(field: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As orchestrators mount them, with a newline at the end."""
    path = tmp_path / "secret"
    secret = "https://me:s3cret@host:8081" if field == "schema_registry_url" else URL
    path.write_text(f"{secret}\n")
    monkeypatch.setenv(f"{variable(field)}_FILE", str(path))
    read = read_configuration()
    assert getattr(read.settings, field).get_secret_value() == secret
    assert read.origins[field] == f"{variable(field)}_FILE ({path})"


def test_a_secret_from_two_places_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them would be ignored, and nobody would know which."""
    monkeypatch.setenv("ODDSLOG_DATABASE_URL", URL)
    monkeypatch.setenv("ODDSLOG_DATABASE_URL_FILE", "/run/secrets/url")
    with pytest.raises(ConfigurationError, match="are both set; keep one of them"):
        read_configuration()


@pytest.mark.parametrize(("content", "says"), [(b"", "is empty"), (b"\xff", "is not UTF-8 text")])
def test_a_secret_file_of_nonsense_is_named(
    content: bytes, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An empty one is a mount that went wrong."""
    path = tmp_path / "secret"
    path.write_bytes(content)
    monkeypatch.setenv("ODDSLOG_SASL_PASSWORD_FILE", str(path))
    with pytest.raises(ConfigurationError, match=f"ODDSLOG_SASL_PASSWORD_FILE: .* {says}"):
        read_configuration()


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files set what they leave empty."""
    monkeypatch.setenv("ODDSLOG_DATABASE_URL", "")
    monkeypatch.setenv("ODDSLOG_POLL_RECORDS", "")
    read = read_configuration()
    assert read.settings.database_url is None
    assert read.settings.poll_records == 500
    assert read.origins["poll_records"] == "default"


@pytest.mark.parametrize(
    ("value", "endpoint"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),  # noqa: S104 - read, not listened on
        ("[::1]:80", ("::1", 80)),
        ("localhost:65535", ("localhost", 65535)),
        ("off", None),
    ],
)
def test_the_http_address_is_a_place_or_off(
    value: str, endpoint: tuple[str, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not set: the loopback."""
    assert read_configuration().settings.http_endpoint() == ("127.0.0.1", 9464)
    monkeypatch.setenv("ODDSLOG_HTTP_ADDRESS", value)
    assert read_configuration().settings.http_endpoint() == endpoint


@pytest.mark.parametrize(
    "value", ["9464", ":9464", "localhost", "localhost:", "localhost:65536", "localhost:x", "no"]
)
def test_a_wrong_http_address_is_one_line(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which says what it may be."""
    monkeypatch.setenv("ODDSLOG_HTTP_ADDRESS", value)
    with pytest.raises(ConfigurationError) as caught:
        read_configuration()
    assert str(caught.value) == (
        "ODDSLOG_HTTP_ADDRESS must be host:port ([::1]:9464 for IPv6; port 0 for any that is"
        f" free), or off, not {value!r}"
    )


def test_all_wrong_values_are_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with what it may be; options by the option's name."""
    monkeypatch.setenv("ODDSLOG_QUEUE_MAXSIZE", "-1")
    monkeypatch.setenv("ODDSLOG_SECURITY_PROTOCOL", "TLS")
    with pytest.raises(ConfigurationError) as caught:
        read_configuration({"topic": "a b"})
    assert str(caught.value) == (
        "--topic must be 1 to 249 letters, digits, dots, dashes or underscores, not 'a b';"
        " ODDSLOG_SECURITY_PROTOCOL must be one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL,"
        " not 'TLS'; ODDSLOG_QUEUE_MAXSIZE must be a whole number from 1 to 100000, not '-1'"
    )
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "name", [name for name, field in Settings.model_fields.items() if field.annotation is int]
)
def test_every_number_has_bounds_that_are_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the words of a library."""
    monkeypatch.setenv(variable(name), "-1")
    with pytest.raises(ConfigurationError, match=rf"{variable(name)} must be a whole number from"):
        read_configuration()


def test_secrets_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in errors nor in what is printed by accident."""
    monkeypatch.setenv("ODDSLOG_DATABASE_URL", "mysql://me:s3cret@host/odds")
    with pytest.raises(ConfigurationError) as caught:
        read_configuration()
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    monkeypatch.setenv("ODDSLOG_DATABASE_URL", URL)
    settings = read_configuration().settings
    assert "s3cret" not in repr(settings) + str(settings) + settings.model_dump_json()
    assert settings.require_database_url() == URL


def test_the_older_scheme_of_libpq_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many platforms still hand it out."""
    monkeypatch.setenv("ODDSLOG_DATABASE_URL", URL.replace("postgresql", "postgres"))
    assert read_configuration().settings.require_database_url() == URL


def test_sasl_needs_its_user_and_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that are missing are named; the connection gets what is there."""
    monkeypatch.setenv("ODDSLOG_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("ODDSLOG_SASL_USERNAME", "me")
    with pytest.raises(ConfigurationError, match=r"=SASL_SSL needs ODDSLOG_SASL_PASSWORD$"):
        read_configuration()
    monkeypatch.setenv("ODDSLOG_SASL_PASSWORD", "hush")
    kafka = read_configuration().settings.kafka()
    assert (kafka.sasl_username, kafka.sasl_password) == ("me", "hush")
    assert "hush" not in repr(kafka)


def test_dead_letters_do_not_go_into_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would come again as a record, and be a dead letter again."""
    monkeypatch.setenv("ODDSLOG_DEAD_LETTER_TOPIC", "odds.writes")
    with pytest.raises(ConfigurationError, match=r"DEAD_LETTER_TOPIC is the log's own topic.*"):
        read_configuration()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ODDSLOG_TOPICS", "did you mean ODDSLOG_TOPIC?"),
        ("ODDSLOG_POLL_RECORD", "did you mean ODDSLOG_POLL_RECORDS?"),
        ("ODDSLOG_DATABASE_URL_FILES", "did you mean ODDSLOG_DATABASE_URL_FILE?"),
        ("ODDSLOG_ZZZ", "see: oddslog config"),
    ],
)
def test_unknown_variables_are_warned_of(
    name: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the nearest name that there is."""
    monkeypatch.setenv(name, "x")
    warnings = [line for line in read_configuration().warnings if line.startswith(f"{name} ")]
    assert warnings == [f"{name} is no setting and has no effect; {hint}"]


def test_known_variables_that_are_no_settings_are_not_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The entry point reads them."""
    monkeypatch.setenv("ODDSLOG_DEBUG", "1")
    assert not [line for line in read_configuration().warnings if "DEBUG" in line]


@pytest.mark.parametrize("value", ["a:1", "a:1,b:2", "[::1]:9092", "kafka.example.org:9092"])
def test_addresses_that_are_fine(value: str) -> None:
    """One or several."""
    assert read_configuration({"bootstrap_servers": value}).settings.bootstrap_servers == value


@pytest.mark.parametrize("value", ["a", "a:", ":1", "a:b", "a:0", "a:99999", "a:1,", "a:1,b"])
def test_addresses_that_are_not(value: str) -> None:
    """Said at once, and not by a library later."""
    with pytest.raises(ConfigurationError, match="--bootstrap-servers must be host:port"):
        read_configuration({"bootstrap_servers": value})


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u:p@db.example:5432/x", ["db.example"]),
        ("postgresql://u:p@db.example/x?sslmode=prefer", ["db.example"]),
        ("postgresql://u:p@a:1,127.0.0.1:2,b/x", ["a", "b"]),
        ("postgresql://u@/x?password=p&host=10.0.0.7:5432", ["10.0.0.7"]),
        ("postgresql://u:p@[2001:db8::7]:5432/x", ["[2001:db8::7]"]),
        ("postgresql://u:p@db.example/x?sslmode=verify-full", []),
        ("postgresql://u:p@db.example/x?sslmode=require", []),
        ("postgresql://u@db.example/x", []),  # no password of ours
        ("postgresql://u:p@localhost/x", []),
        ("postgresql://u:p@127.0.0.1:5432/x", []),
        ("postgresql://u:p@[::1]:5432/x", []),
        ("postgresql://u:p@/x?host=/run/postgresql", []),
        ("postgresql://u:p@[broken/x", []),
    ],
)
def test_a_password_to_another_machine_without_tls_is_seen(url: str, hosts: list[str]) -> None:
    """`prefer` may end in plain text, whoever is in between may see to that."""
    assert plain_text_database_hosts(url) == hosts
