"""Asking the sink's HTTP port, without stopping the event loop."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Reply", "ask", "ask_at_once", "scrape"]

_SECONDS = 30.0


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    text: str
    headers: Mapping[str, str]


def ask_at_once(
    address: str, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Reply:
    """One request; blocks."""
    connection = HTTPConnection(address, timeout=_SECONDS)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        reply = connection.getresponse()
        named = {name.lower(): value for name, value in reply.getheaders()}
        return Reply(reply.status, reply.read().decode(), named)
    finally:
        connection.close()


async def ask(
    address: str, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Reply:
    """One request, in a thread."""
    return await asyncio.to_thread(ask_at_once, address, path, method, headers)


async def scrape(address: str) -> dict[str, float]:
    """What Prometheus would read: each sample's value by name and labels."""
    reply = await ask(address, "/metrics")
    assert reply.status == 200
    families: list[Metric] = list(text_string_to_metric_families(reply.text))
    samples: dict[str, float] = {}
    for family in families:
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples
