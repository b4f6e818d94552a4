"""Fragments in the schema registry's frame, made when they are sent.

What waits (in the queue, in the spool) is framed without a registry, so that it
outlives one: a registry that is away is an outage like Kafka's, and one that was
made anew gives new ids.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from ..schemas.codec import crc32_text
from ..schemas.framing import (
    CURRENT_SCHEMA,
    SCHEMA_FILES,
    registry_framed,
    schema_fingerprint,
    schema_text,
)
from ..schemas.registry import SchemaRegistry, subject_of
from ..schemas.wire import HEADER_CRC32
from .fragments import Fragment

__all__ = ["RegistryFrames", "plain_frame"]


class RegistryFrames:
    """Looks up the ids of the schemas under a topic's subject, once each.

    A process that knows its ids needs the registry no more.
    """

    def __init__(self, registry: SchemaRegistry, topic: str) -> None:
        self._registry = registry
        self._subject = subject_of(topic)
        self._files = {schema_fingerprint(name): name for name in SCHEMA_FILES}
        self._ids: dict[bytes, int] = {}

    async def prepare(self, fragments: Sequence[Fragment] = ()) -> None:
        """Know the ids of the current schema and of those of the fragments; some seconds.

        Raises:
            UnreachableError: the registry does not answer.
            ConfigurationError: it refuses us, or a schema.
        """
        wanted = {schema_fingerprint(CURRENT_SCHEMA), *(part.value[2:10] for part in fragments)}
        for fingerprint in wanted - self._ids.keys():
            name = self._files.get(fingerprint)
            if name is not None:  # of a newer version: sent as it is
                self._ids[fingerprint] = await asyncio.to_thread(
                    self._registry.register, self._subject, schema_text(name)
                )

    def framed(self, fragment: Fragment) -> Fragment:
        """The fragment as it is sent; its schema's id must be known."""
        value = registry_framed(fragment.value, self._ids)
        crc = crc32_text(value)
        headers = [(name, crc if name == HEADER_CRC32 else said) for name, said in fragment.headers]
        return replace(fragment, value=value, headers=headers)


def plain_frame(fragment: Fragment) -> Fragment:
    """The fragment as it is sent without a registry: itself."""
    return fragment
