"""Celery on RabbitMQ: what queues there are and how messages are kept. Imported only with a broker.

A message carries the id of an analysis and nothing else; the row is the truth. So a message may be
lost (the sweeper sends it again) or come twice (the second finds nothing to claim), and every
setting here is for losing few and finding out soon.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.worker.consumer import Consumer
from kombu.entity import Exchange
from kombu.entity import Queue as BrokerQueue

from service.domain.analysis import Queue

TASK = "graddx.analyse"
"""What workers register and messages name."""
DELIVERIES = 20
"""Times a message is delivered before it is put aside (queue `….dead`). Well above what the row
allows workers to be lost: the row gives up first and says why; this ends only a message that no
consumer lives to acknowledge."""
HEARTBEAT_SECONDS = 10
"""Between signs of life on a connection; after two silent ones the broker takes back what was
delivered."""
CONNECT_SECONDS = 4
"""How long a broker may take to accept a connection."""
ANSWER_SECONDS = 10
"""How long it may take to confirm a message."""


class LeanConsumer(Consumer):  # type: ignore[misc] # Celery has no types
    """Without the 28 queues that Celery declares for delayed messages: nothing here is delayed."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        """The steps of a consumer."""

        default_steps = [  # noqa: RUF012 - as Celery has it
            step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in step
        ]


def make_app(broker_url: str, prefix: str, *, publishing: bool = False) -> Celery:
    """The application of whoever sends (`publishing`) or works. Connects to nothing. `prefix`: what
    names on the broker begin with."""
    app = Celery("graddx", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_queues=[_queue(prefix, queue) for queue in Queue],
        task_default_queue=name_of(prefix, Queue.CPU),
        task_default_exchange=prefix,
        task_default_routing_key=Queue.CPU.value,
        # Delivered until acknowledged, and acknowledged when the row says that it is over.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # What waits stays with the broker, where a free worker gets it.
        worker_prefetch_multiplier=1,
        worker_detect_quorum_queues=True,
        worker_consumer=f"{__name__}:{LeanConsumer.__name__}",
        # Warming a zygote takes seconds, on a loaded machine many.
        worker_proc_alive_timeout=90,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_heartbeat=HEARTBEAT_SECONDS,
        broker_connection_timeout=CONNECT_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_transport(publishing),
        # The row has the result, /metrics the figures, the log the events.
        task_ignore_result=True,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        task_serializer="json",
        accept_content=["json"],
    )
    return app


def name_of(prefix: str, queue: Queue) -> str:
    """A queue's name on the broker."""
    return f"{prefix}.{queue.value}"


def dead_letters(prefix: str) -> BrokerQueue:
    """Where messages are put aside, for people: the newest ten thousand."""
    return BrokerQueue(
        f"{prefix}.dead",
        Exchange(f"{prefix}.dead", type="fanout", durable=True),
        durable=True,
        queue_arguments={"x-queue-type": "quorum", "x-max-length": 10_000},
    )


def declare(app: Celery, connection: Any, prefix: str) -> None:
    """Make sure that all queues are there. Raises the connection's errors."""
    with connection.channel() as channel:
        for queue in (dead_letters(prefix), *app.conf.task_queues):
            queue.bind(channel).declare()


def _queue(prefix: str, queue: Queue) -> BrokerQueue:
    return BrokerQueue(
        name_of(prefix, queue),
        Exchange(prefix, type="direct", durable=True),
        routing_key=queue.value,
        durable=True,
        queue_arguments={
            # Kept by a majority of the brokers, on disk.
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERIES,
            "x-dead-letter-exchange": f"{prefix}.dead",
        },
    )


def _transport(publishing: bool) -> dict[str, Any]:
    if not publishing:
        return {}
    # A broker that vanished must not hold up whoever publishes.
    patience = {"read_timeout": ANSWER_SECONDS, "write_timeout": ANSWER_SECONDS}
    return {"confirm_publish": True, "connect_timeout": CONNECT_SECONDS, **patience}
