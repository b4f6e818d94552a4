"""The library inside the scraper: hand over batches and never wait for a server.

async with AsyncWriteQueue(KafkaDestination("localhost:9092")) as queue:
    receipt = await queue.enqueue(batch)   # waits only for room in the queue
    await receipt              # where it matters: held by the brokers, or the spool
"""

from .destination import Delivery, Destination, RejectedPart, RejectedPartsError
from .kafka_destination import KafkaDestination
from .memory import MemoryDestination
from .quiet import limit_aiokafka_log
from .receipt import Receipt
from .spool_errors import SpoolError, SpoolFullError
from .write_queue import AsyncWriteQueue

__all__ = [
    "AsyncWriteQueue",
    "Delivery",
    "Destination",
    "KafkaDestination",
    "MemoryDestination",
    "Receipt",
    "RejectedPart",
    "RejectedPartsError",
    "SpoolError",
    "SpoolFullError",
    "limit_aiokafka_log",
]
