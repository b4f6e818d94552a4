"""The schema registry's client and frames: what is asked, and what each answer means."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from oddslog.deploy.configuration import read_configuration
from oddslog.deploy.doctor.finding import Level
from oddslog.deploy.doctor.schemas import check_schemas, judge_registry
from oddslog.schemas import ConfigurationError, KafkaConnection, UnreachableError
from oddslog.schemas.errors import DecodeError
from oddslog.schemas.framing import (
    CURRENT_SCHEMA,
    fingerprint_of,
    frame,
    registry_framed,
    registry_id,
    schema_fingerprint,
    schema_text,
    single_object_framed,
)
from oddslog.schemas.registry import RegisteredSchema, SchemaRegistry, masked_registry_url
from oddslog.sink.items import LogRecord, decode_record
from tests.support.certificates import make_certificates
from tests.unit.test_schemas_golden import BINARIES, GOLDEN

OURS = schema_fingerprint(CURRENT_SCHEMA)


def test_a_value_changes_its_frame_and_back() -> None:
    """Its body is untouched; what has no id stays as it is."""
    value = frame() + b"body"
    framed = registry_framed(value, {OURS: 258})
    assert framed == b"\x00\x00\x00\x01\x02body"
    assert registry_id(framed) == 258
    assert single_object_framed(framed, OURS) == value
    assert registry_framed(value, {}) == value
    assert registry_framed(framed, {OURS: 1}) == framed
    assert registry_id(value) is None
    assert registry_id(b"\x00\x00\x00\x01\x02") is None  # no body


def test_a_schema_has_the_fingerprint_of_its_meaning() -> None:
    """However a registry writes it down."""
    document = json.loads(schema_text(CURRENT_SCHEMA))
    assert fingerprint_of(json.dumps({**document, "doc": "another"}, indent=3)) == OURS
    assert fingerprint_of('"string"') != OURS
    for text in ("{", '{"type":"record"}', '{"type":"protobuf"}'):
        with pytest.raises(DecodeError, match="is no Avro schema"):
            fingerprint_of(text)


def test_a_record_in_either_frame_is_decoded() -> None:
    """And one that cannot be says why."""
    value = BINARIES[0].read_bytes()
    said = {}
    for schema_id, known in ((7, OURS), (8, "has schema id 8, which is gone")):
        framed = registry_framed(value, {OURS: schema_id})
        record = LogRecord(0, 0, None, framed, (), None)
        decode_record(record, {schema_id: known})
        said[schema_id] = record
    assert said[7].fragment is not None
    assert said[7].value[:1] == b"\x00"  # type: ignore[index]  # as it was read
    assert (said[8].fragment, said[8].error) == (None, "has schema id 8, which is gone")


class Answers(BaseHTTPRequestHandler):
    """Says the same to every request, and notes it."""

    status = 200
    body = b"{}"
    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def answering(
    status: int, body: bytes, certificate: str | None = None
) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A server that gives this answer; its address, and what it was asked."""
    asked: list[tuple[str, str | None]] = []
    handler = type("Handler", (Answers,), {"status": status, "body": body, "asked": asked})
    server = HTTPServer(("127.0.0.1", 0), handler)
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"{scheme}://me:s3cr%40t@127.0.0.1:{server.server_port}/base/", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, b"", ConfigurationError, "refuses this user or password"),
        (403, b"{}", ConfigurationError, "refuses this user or password"),
        (500, b'{"message":"x\\ny"}', UnreachableError, "does not answer as one .HTTP 500 x y"),
        (404, b"<html>", UnreachableError, "HTTP 404.*mend ODDSLOG_SCHEMA_REGISTRY_URL"),
        (404, b'{"error_code":404}', UnreachableError, "HTTP 404"),
        (200, b"<html>", UnreachableError, "HTTP 200"),
        (200, b"{}", UnreachableError, "no schema in its answer"),
    ],
)
def test_what_an_answer_means(status: int, body: bytes, kind: type[Exception], words: str) -> None:
    """Only the registry's own word makes an id unknown: a wrong path is no such word."""
    with answering(status, body) as (url, _), pytest.raises(kind, match=words) as caught:
        SchemaRegistry(url).schema(5)
    assert "s3cr" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_id_that_the_registry_does_not_know_is_none() -> None:
    """Asked with user and password, below the base path."""
    with answering(404, b'{"error_code":40403,"message":"Schema not found"}') as (url, asked):
        assert SchemaRegistry(url).schema(5) is None
    assert asked == [("/base/schemas/ids/5", "Basic bWU6czNjckB0")]  # me:s3cr@t


def test_an_id_that_no_registry_can_have_is_not_asked_for() -> None:
    """Some answer to it as if they were another program: the sink would wait for ever."""
    with answering(404, b'{"error_code":404,"message":"HTTP 404 Not Found"}') as (url, asked):
        assert SchemaRegistry(url).schema(2**32 - 1) is None
    assert asked == []


def test_a_registry_over_tls_is_checked(tmp_path: Path) -> None:
    """Authority and name, as Kafka and PostgreSQL are."""
    files = make_certificates(tmp_path, "nobody")
    with answering(200, b'{"schema":"x"}', files.server) as (url, _):
        assert SchemaRegistry(url, cafile=files.ca).schema(1) == "x"
        with pytest.raises(ConfigurationError, match=r"not trusted here.*SCHEMA_REGISTRY_CAFILE"):
            SchemaRegistry(url, cafile=files.other_ca).schema(1)


def test_a_registry_that_is_away_or_no_url() -> None:
    """One line, without the password."""
    registry = SchemaRegistry("http://me:s3cret@127.0.0.1:1")
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1 does not answer") as caught:
        registry.compatibility("x")
    assert "s3cret" not in str(caught.value)
    for url in ("registry:8081", "ftp://registry", "http://"):
        with pytest.raises(ConfigurationError, match="must look like"):
            SchemaRegistry(url)
    connection = KafkaConnection(schema_registry_url="http://me:s3cret@registry:8081")
    assert "s3cret" not in repr(connection)
    assert masked_registry_url("http://me:s3cret@registry:8081/x") == "http://registry:8081/x"
    assert SchemaRegistry("http://me:s3cret@registry").plain_text_hosts == ["registry"]
    for safe in ("https://me:s3cret@registry", "http://registry", "http://me:x@localhost"):
        assert SchemaRegistry(safe).plain_text_hosts == []


# `oddslog schema check`.


def levels(rule: str | None, *texts: str) -> list[str]:
    """Of the findings about a subject with these versions."""
    versions = [RegisteredSchema(n, 10 + n, text) for n, text in enumerate(texts, 1)]
    return [f"{one.check}:{one.level}" for one in judge_registry("x-value", rule, versions)]


def test_a_subject_is_compared_with_what_is_shipped() -> None:
    """Its rule, each of its versions, and ours that it does not have."""
    ours = schema_text(CURRENT_SCHEMA)
    assert levels(None) == ["registry:warn"]
    assert levels("FULL", ours) == ["compatibility:ok", "registry:ok"]
    assert levels("FULL_TRANSITIVE", ours) == ["compatibility:ok", "registry:ok"]
    assert levels("BACKWARD", ours) == ["compatibility:fail", "registry:ok"]
    assert levels(None, ours) == ["compatibility:fail", "registry:ok"]
    other = ["compatibility:ok", "registry:fail", "registry:warn"]
    assert levels("FULL", '"string"') == other
    assert levels("FULL", "{") == other


async def test_golden_files_are_decoded(tmp_path: Path) -> None:
    """Those that are not as they were are named."""
    settings = read_configuration().settings
    good = await check_schemas(settings, GOLDEN)
    assert {one.level for one in good} == {Level.OK}
    missing = await check_schemas(settings, tmp_path)
    assert [one.check for one in missing if one.level is Level.FAIL] == ["golden"]
    folder = tmp_path / CURRENT_SCHEMA.removesuffix(".avsc")
    folder.mkdir()
    value = BINARIES[0].read_bytes()
    for bad in (value[:-1], value + b"x", b"\x00\x00\x00\x00\x01" + value[10:]):
        (folder / "bad.bin").write_bytes(bad)
        found = await check_schemas(settings, tmp_path)
        assert [one.check for one in found if one.level is Level.FAIL] == ["golden"]
