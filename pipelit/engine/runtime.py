"""The engine of one process, put together from its parts."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from celery import Celery
from flask import current_app
from redis import Redis

from pipelit.config import Settings
from pipelit.engine.cache import Plans
from pipelit.engine.coordinator import Coordinator
from pipelit.engine.dispatch import Dispatcher
from pipelit.engine.journal import Journal
from pipelit.engine.losses import Losses
from pipelit.engine.rebuild import Rebuilder
from pipelit.engine.recovery import Recovery
from pipelit.engine.store import Store
from pipelit.engine.tick import Tick
from pipelit.engine.transition import Tools
from pipelit.engine.turns import Turns
from pipelit.engine.worker import Limits, Worker
from pipelit.integrations.http import HttpClient
from pipelit.nodes import registry

EXTENSION = "pipelit.engine"


@dataclass(frozen=True)
class Engine:
    """Everything that runs executions. Making one connects to nothing."""

    settings: Settings
    redis: Redis
    celery: Celery

    @cached_property
    def store(self) -> Store:
        return Store(self.redis, events_kept=self.settings.events_kept)

    @cached_property
    def plans(self) -> Plans:
        return Plans(self.redis)

    @cached_property
    def dispatcher(self) -> Dispatcher:
        return Dispatcher(self.celery)

    @cached_property
    def coordinator(self) -> Coordinator:
        return Coordinator(Tools(self.store, self.dispatcher, self.settings.blob_bytes), self.plans)

    @cached_property
    def worker(self) -> Worker:
        settings = self.settings
        limits = Limits(
            lease=settings.lease_seconds,
            timeout=settings.node_timeout_seconds,
            blob_bytes=settings.blob_bytes,
            output_bytes=settings.output_bytes,
        )
        return Worker(self.coordinator, HttpClient(settings.http_allow), limits, registry.load())

    @cached_property
    def recovery(self) -> Recovery:
        return Recovery(self.coordinator, self.worker, self.redis, self.losses)

    @cached_property
    def rebuilder(self) -> Rebuilder:
        return Rebuilder(self.coordinator, self.redis, self.settings.lease_seconds)

    @cached_property
    def losses(self) -> Losses:
        return Losses(self.redis, self.store, self.rebuilder, announced_after=2 * self.worker.heart.every)

    @cached_property
    def turns(self) -> Turns:
        return Turns(self.coordinator.groups, self.recovery.start_or_fail, self.call_next)

    @cached_property
    def tick(self) -> Tick:
        return Tick(self.redis, self.dispatcher)

    @cached_property
    def journal(self) -> Journal:
        return Journal(self.redis, self.store, self.follow_up)

    def call_next(self, group: str) -> None:
        """Have somebody begin what waits in a concurrency group."""
        message = self.dispatcher.start_next(group)
        self.redis.lpush(message.key, message.payload)

    def drain_journal(self) -> int:
        """Write what the journal holds to SQL."""
        return self.journal.drain()

    def follow_up(self, execution_ids: Collection[str]) -> None:
        """Have somebody do what is still to be done about executions that ended."""
        for execution_id in execution_ids:
            message = self.dispatcher.follow_up(execution_id)
            self.redis.lpush(message.key, message.payload)


def engine() -> Engine:
    """The engine of the application in whose context this is called."""
    found: Engine = current_app.extensions[EXTENSION]
    return found
