"""The small parts of the contract: back-off, kill points, connection, errors, wire names."""

import inspect
import json
import pickle
import signal
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddslog.schemas import errors, kill_points, version, wire
from oddslog.schemas.backoff import backoff_seconds
from oddslog.schemas.connection import KafkaConnection
from oddslog.schemas.content_hash import from_micros, to_micros
from oddslog.schemas.errors import ConfigurationError, InvalidRecordError, OddslogError
from oddslog.schemas.wire import Kind, record_key

from .test_schemas_strategies import CHECKED, INT64, MOMENTS

# Made for these tests: a certificate for nobody, and its key under "hunter2".
PASSWORD = "hunter2"
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBhjCCASugAwIBAgIUTN4tQ6mbVZUw7WuHy2J43ZoOOCkwCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMb2Rkc2xvZy10ZXN0MCAXDTI2MTEyMzIyMjA1OVoYDzIxMjYx
MDMwMjIyMDU5WjAXMRUwEwYDVQQDDAxvZGRzbG9nLXRlc3QwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAAQa0YTyIHJP2GDMKRBJH8AzFK3DqeBEXMqTU4maIcks8+eZ
zFy+w1gfNkwjwlgadC4/3nAAGtO17rZcyqUVKth3o1MwUTAdBgNVHQ4EFgQU34Gh
Y7ZQA2+/5zMl1NusOETT7KwwHwYDVR0jBBgwFoAU34GhY7ZQA2+/5zMl1NusOETT
7KwwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEA+MYWt7mUSFxs
57gTT76DvmBqdav0tX96wp1HRTPdRKgCIQCbdToK+Fkr9Uu7uTGd9V8gE5tjWW2R
ezAS+2eTlmcoUg==
-----END CERTIFICATE-----
"""
ENCRYPTED_KEY = """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAh8YzzwIZslkgICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEAQIEEBoTiF09Hf+zQf+vJij0EGwEgZB/
qAxamsyZCUX8QV89uubgZwwqgHHuxvXvwzO2UQngj8G6pcW4HAa2OAF9mhSrfn27
FXP8kntkGJsl236t6C3CT8piRXZr31EQZ5i0oQrENRnHGQlTwCWhEkYBr99dwkaw
ENYF27Mr7EKA+W8cTjs1EH1tpAmK4pHiBJ+YJUyi37nY4tRT8TuH+LZvpDZ142M=
-----END ENCRYPTED PRIVATE KEY-----
"""


def test_backoff_doubles_to_its_cap() -> None:
    """1, 2, 4 seconds: the three attempts of DESIGN 5."""
    waits = [backoff_seconds(n, base=1.0, cap=30.0, jitter=0.0) for n in range(1, 8)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


@CHECKED
@given(
    st.integers(1, 10**9),
    st.floats(0.001, 60.0),
    st.floats(0.001, 3600.0),
    st.floats(0.0, 1.0),
)
def test_jitter_takes_off_a_quarter_at_most(
    attempt: int, base: float, cap: float, jitter: float
) -> None:
    """And nothing overflows after a million attempts."""
    most = backoff_seconds(attempt, base=base, cap=cap, jitter=0.0)
    seconds = backoff_seconds(attempt, base=base, cap=cap, jitter=jitter)
    assert 0.75 * most <= seconds * (1 + 1e-12)
    assert seconds <= most <= cap
    assert seconds > 0


CHILD = """
from oddslog.schemas.kill_points import arm_from_environment, reached
reached("before")
arm_from_environment()
for name in ("other", "commit", "commit", "commit"):
    print(name, flush=True)
    reached(name)
print("end", flush=True)
"""


def run_child(kill_point: str | None) -> subprocess.CompletedProcess[str]:
    """A process that comes to `other` once and to `commit` three times."""
    environment = {"PYTHONPATH": ":".join(sys.path)}
    if kill_point is not None:
        environment[kill_points.ENVIRONMENT_NAME] = kill_point
    return subprocess.run(
        [sys.executable, "-c", CHILD],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("kill_point", "said"),
    [("other", "other"), ("commit", "other commit"), ("commit:3", "other commit commit commit")],
)
def test_a_kill_point_kills_the_nth_time(kill_point: str, said: str) -> None:
    """By SIGKILL: no handler, no clean-up."""
    child = run_child(kill_point)
    assert child.returncode == -signal.SIGKILL
    assert child.stdout.split() == said.split()


@pytest.mark.parametrize("kill_point", [None, "", "before", "commit:4", "commi"])
def test_a_kill_point_that_is_not_reached_does_nothing(kill_point: str | None) -> None:
    """Also one that was passed before it was armed."""
    child = run_child(kill_point)
    assert (child.returncode, child.stderr) == (0, "")
    assert child.stdout.split()[-1] == "end"


def test_kill_points_can_be_watched_in_the_process() -> None:
    """A test follows the order of steps by them; armed with None, they are silent."""
    seen: list[str] = []
    kill_points.reached("unarmed")
    kill_points.arm(seen.append)
    try:
        kill_points.reached("one")
        kill_points.reached("two")
    finally:
        kill_points.arm(None)
    kill_points.reached("three")
    assert seen == ["one", "two"]


def test_secrets_are_in_no_repr() -> None:
    """Neither that of the connection nor the message of its errors."""
    connection = KafkaConnection(
        "kafka:9093",
        "SASL_SSL",
        sasl_username="scraper",
        sasl_password="s3cret-a",
        ssl_certfile="cert.pem",
        ssl_keyfile_password="s3cret-b",
    )
    assert "s3cret" not in repr(connection)
    assert "s3cret" not in f"{connection} {[connection]}"
    assert "scraper" in repr(connection)
    with pytest.raises(ConfigurationError) as caught:
        connection.client_options()
    assert "s3cret" not in str(caught.value)


def test_a_plain_connection_needs_nothing_else() -> None:
    """The options are those of any aiokafka client."""
    assert KafkaConnection("a:1,b:2").client_options() == {
        "bootstrap_servers": "a:1,b:2",
        "security_protocol": "PLAINTEXT",
    }


def test_sasl_and_tls_options_go_to_the_client() -> None:
    """User, password and mechanism; a context that checks the server."""
    options = KafkaConnection(
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_username="u",
        sasl_password="p",
    ).client_options()
    context = options.pop("ssl_context")
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert options == {
        "bootstrap_servers": "localhost:9092",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "u",
        "sasl_plain_password": "p",
    }
    assert (
        "ssl_context"
        not in KafkaConnection(
            security_protocol="SASL_PLAINTEXT", sasl_username="u", sasl_password="p"
        ).client_options()
    )


@pytest.mark.parametrize("protocol", ["", "plaintext", "TLS", "SASL"])
def test_an_unknown_protocol_is_refused(protocol: str) -> None:
    """With the ones that there are."""
    with pytest.raises(ConfigurationError, match="PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"):
        KafkaConnection(security_protocol=protocol)


@pytest.mark.parametrize(("user", "password"), [(None, None), ("u", None), (None, "p"), ("u", "")])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_sasl_without_user_and_password_is_refused(
    protocol: str, user: str | None, password: str | None
) -> None:
    """When it is built, not when the broker hangs up."""
    with pytest.raises(ConfigurationError, match="needs a SASL user name and password"):
        KafkaConnection(security_protocol=protocol, sasl_username=user, sasl_password=password)


@pytest.mark.parametrize(
    ("protocol", "servers", "hosts"),
    [
        (
            "SASL_PLAINTEXT",
            "a:9092, localhost:9092,[::1]:9092,127.0.0.2:1,b.example:1",
            ["a", "b.example"],
        ),
        ("SASL_PLAINTEXT", "localhost:9092", []),
        ("SASL_SSL", "a:9092", []),
        ("PLAINTEXT", "a:9092", []),  # no password
    ],
)
def test_a_password_to_another_machine_without_tls_is_seen(
    protocol: str, servers: str, hosts: list[str]
) -> None:
    """What a warning is made of."""
    connection = KafkaConnection(
        servers, security_protocol=protocol, sasl_username="u", sasl_password="p"
    )
    assert connection.plain_text_hosts() == hosts


def test_a_key_without_its_certificate_is_refused() -> None:
    """It would go nowhere."""
    with pytest.raises(ConfigurationError, match="needs its certificate file"):
        KafkaConnection(security_protocol="SSL", ssl_keyfile="key.pem")


@pytest.fixture(name="files")
def tls_files(tmp_path: Path) -> tuple[str, str]:
    """A certificate and its encrypted key."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_text(CERTIFICATE, encoding="ascii")
    key.write_text(ENCRYPTED_KEY, encoding="ascii")
    return str(certificate), str(key)


def test_an_encrypted_key_is_read_with_its_password(files: tuple[str, str]) -> None:
    """And another authority is read from its file."""
    certificate, key = files
    options = KafkaConnection(
        security_protocol="SSL",
        ssl_cafile=certificate,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        ssl_keyfile_password=PASSWORD,
    ).client_options()
    assert len(options["ssl_context"].get_ca_certs()) == 1


@pytest.mark.parametrize("password", [None, "", "wrong"])
def test_an_encrypted_key_without_its_password_is_an_error_at_once(
    files: tuple[str, str], password: str | None
) -> None:
    """OpenSSL must not ask the terminal: a service would wait there for ever."""
    certificate, key = files
    connection = KafkaConnection(
        security_protocol="SSL",
        ssl_certfile=certificate,
        ssl_keyfile=key,
        ssl_keyfile_password=password,
    )
    with pytest.raises(ConfigurationError, match="TLS files for Kafka cannot be read"):
        connection.client_options()


def test_openssl_is_never_left_to_ask(files: tuple[str, str]) -> None:
    """Without a terminal it fails anyhow; this is what keeps it from one that is there."""
    given_passwords = []

    def load(_: ssl.SSLContext, certificate: str, key: str, password: str | None) -> None:
        given_passwords.append((certificate, key, password))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl.SSLContext, "load_cert_chain", load)
        KafkaConnection(
            security_protocol="SSL", ssl_certfile=files[0], ssl_keyfile=files[1]
        ).client_options()
    assert given_passwords == [(*files, "")]


def test_tls_files_that_are_away_or_no_certificates_are_an_error(tmp_path: Path) -> None:
    """One class for both; the cause is kept."""
    empty = tmp_path / "empty.pem"
    empty.touch()
    for path in (tmp_path / "away.pem", empty):
        for field in ("ssl_cafile", "ssl_certfile"):
            connection = KafkaConnection(security_protocol="SSL", **{field: str(path)})
            with pytest.raises(ConfigurationError) as caught:
                connection.client_options()
            assert isinstance(caught.value.__cause__, OSError)


def test_every_error_has_its_place_in_the_drawn_tree() -> None:
    """Exported, drawn, under one root, with an exit code and a docstring."""
    classes: dict[str, Any] = {
        name: member
        for name, member in vars(errors).items()
        if inspect.isclass(member) and member.__module__ == errors.__name__
    }
    assert set(classes) == set(errors.__all__)
    for name, error in classes.items():
        assert name in (errors.__doc__ or "")
        assert issubclass(error, OddslogError)
        assert error.__doc__
    assert {name: error.exit_code for name, error in classes.items()} == {
        "OddslogError": 1,
        "InvalidRecordError": 2,
        "DecodeError": 1,
        "UnknownSchemaError": 1,
        "DeliveryError": 1,
        "RejectedError": 1,
        "ConfigurationError": 2,
        "UnreachableError": 3,
        "ProtectionError": 4,
    }
    for name, error in classes.items():
        made = error("a", "b") if error is InvalidRecordError else error("said")
        again = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own bytes
        assert (type(again).__name__, str(again)) == (name, str(made))


@pytest.mark.parametrize(
    ("kind", "event_id", "key"),
    [
        (Kind.BETPAWA, 31415926, b"betpawa:31415926"),
        (Kind.COMPETITOR, 0, b"competitor:0"),
        (Kind.BETPAWA, None, b"ids:betpawa"),
        (Kind.COMPETITOR, None, b"ids:competitor"),
    ],
)
def test_keys_name_the_event(kind: Kind, event_id: int | None, key: bytes) -> None:
    """Partitions follow from them: they change only with a major version."""
    assert record_key(kind, event_id) == key


def test_names_on_the_wire_are_pinned() -> None:
    """Other programs and the other side of an upgrade read them."""
    names = {name: getattr(wire, name) for name in wire.__all__ if name.isupper()}
    assert names == {
        "DEFAULT_GROUP": "oddslog-sink",
        "DEFAULT_TOPIC": "odds.writes",
        "DLQ_HEADERS": "oddslog-dlq-",
        "HEADER_BATCH": "oddslog-batch",
        "HEADER_CRC32": "oddslog-crc32",
        "HEADER_FRAGMENT": "oddslog-fragment",
        "HEADER_MORE": "oddslog-more",
        "HEADER_PRODUCER": "oddslog-producer",
        "HEADER_REDRIVE_NOTE": "oddslog-redrive-note",
        "HEADER_REDRIVE_OF": "oddslog-redrive-of",
        "HEADER_RUN": "oddslog-run",
        "HEADER_SCHEMA": "oddslog-schema",
        "RECORD_OVERHEAD_BYTES": 65536,
        "TRACE_HEADERS": ("traceparent", "tracestate"),
    }
    assert [(kind.name, kind.value) for kind in Kind] == [
        ("BETPAWA", "betpawa"),
        ("COMPETITOR", "competitor"),
    ]


@CHECKED
@given(MOMENTS)
def test_microseconds_and_moments_are_the_same(moment: datetime) -> None:
    """Exact in both directions, before 1970 too."""
    assert from_micros(to_micros(moment)) == moment
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert epoch + timedelta(microseconds=to_micros(moment)) == moment


@CHECKED
@given(INT64)
def test_microseconds_beyond_the_years_overflow(micros: int) -> None:
    """And all others come back."""
    try:
        moment = from_micros(micros)
    except OverflowError:
        assert not -62135596800000000 <= micros <= 253402300799999999
    else:
        assert to_micros(moment) == micros


def test_a_source_tree_has_a_version_that_says_so() -> None:
    """Or the installed one's; in a header and a log line it must be short ASCII."""
    assert version.VERSION.isascii()
    assert json.dumps(version.VERSION) == f'"{version.VERSION}"'
