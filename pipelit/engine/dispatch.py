"""Commands as Celery messages: made by Celery itself, recorded instead of sent, pushed by the committing script.

A producer's kombu channel normally ends in `_put`, which pushes the finished message onto its queue's list. Here that
last step records `(key, payload)`, so that the very bytes Celery would have sent can travel with the transition that
decided on them (docs/decisions/0002).
"""

import base64
import json
import os
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery import Celery
from celery.utils.saferepr import saferepr
from kombu.connection import Connection
from kombu.messaging import Producer
from kombu.transport import redis as transport
from kombu.utils.json import dumps

from pipelit.engine.keys import TaskId
from pipelit.engine.store import Meta

RUN_STEP = "pipelit.run_step"
WAKE_STEP = "pipelit.executions.wake"
ATTEND_CHILD = "pipelit.executions.attend_child"
FOLLOW_UP = "pipelit.executions.follow_up"
START_NEXT = "pipelit.executions.start_next"
BEGIN_RETRY = "pipelit.executions.begin_retry"
DRAIN_JOURNAL = "pipelit.journal.drain"
MAINTENANCE = "maintenance"
TRIGGERS = "triggers"

CALL_AGAIN_MS = 100
"""How soon a process has the journal's writer called again, who lingers for longer than that."""

ARGSREPR_LENGTH = 1024
EMBED = json.dumps({"callbacks": None, "errbacks": None, "chain": None, "chord": None})
"""What Celery's protocol 2 puts behind the arguments: none of the canvas is used here."""

SLOTS = ("id", "root_id", "parent_id", "argsrepr", "correlation_id", "delivery_tag", "body")
"""What differs between two messages of one task on one queue; all of it is text, `parent_id` may be null."""


@dataclass(frozen=True, slots=True)
class Message:
    """A Celery message ready for its queue: `LPUSH key payload` sends it."""

    key: str
    payload: str


class Template:
    """A recorded message of one task and queue, to be filled in for every other: much cheaper than recording each.

    The JSON is written once, with a mark in the place of each value that differs.
    """

    def __init__(self, recorded: Message) -> None:
        self.key = recorded.key
        message = json.loads(recorded.payload)
        marks = {name: f"<{name}>" for name in SLOTS}
        headers = {**message["headers"], **{name: marks[name] for name in SLOTS[:4]}}
        properties = {**message["properties"], **{name: marks[name] for name in SLOTS[4:6]}}
        text = json.dumps({**message, "body": marks["body"], "headers": headers, "properties": properties})
        self._text = text.replace("%", "%%")
        for name, mark in marks.items():
            self._text = self._text.replace(json.dumps(mark), f"%({name})s")

    def filled(self, args: list[Any], task_id: str, parent: Any) -> Message:
        """The message for these arguments, sent by the task `parent` if there is one."""
        request = parent.request if parent else None
        shown = repr(args)
        body = base64.b64encode(f"[{json.dumps(args)}, {{}}, {EMBED}]".encode())
        name = json.dumps(task_id)
        payload = self._text % {
            "id": name,
            "root_id": json.dumps(request.root_id or request.id) if request else name,
            "parent_id": json.dumps(request.id) if request else "null",
            "argsrepr": json.dumps(shown if len(shown) < ARGSREPR_LENGTH else saferepr(args, ARGSREPR_LENGTH)),
            "correlation_id": name,
            "delivery_tag": f'"{uuid.uuid4()}"',
            "body": f'"{body.decode()}"',
        }
        return Message(self.key, payload)


def due_ms(payload: str) -> int | None:
    """When the step that a message runs could have begun; None for a message of any other kind."""
    message = json.loads(payload)
    if message["headers"]["task"] != RUN_STEP:
        return None
    args, _, _ = json.loads(base64.b64decode(message["body"]))
    return int(args[3])


class RecordingChannel(transport.Channel):
    """A channel of kombu's Redis transport that keeps what it is given."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recorded: list[Message] = []

    def _put(self, queue: str, message: Mapping[str, Any], **_kwargs: Any) -> None:
        priority = self._get_message_priority(message, reverse=False)
        self.recorded.append(Message(self._q_for_pri(queue, priority), dumps(message)))


class RecordingTransport(transport.Transport):
    """The Redis transport with recording channels."""

    Channel = RecordingChannel


class Dispatcher:
    """Makes messages; shared by the threads of a process, connected in each process at the first use."""

    def __init__(self, celery: Celery) -> None:
        self.celery = celery
        self._lock = threading.Lock()
        self._producer: Producer | None = None
        self._pid = 0
        self._templates: dict[tuple[str, str], Template] = {}
        self._writer_called_ms = 0.0

    def message(self, name: str, args: list[Any], *, task_id: str, queue: str, countdown: float = 0.0) -> Message:
        """The message that `send_task` with these arguments would put on the queue; `countdown` in seconds."""
        if countdown:
            return self._record(name, args, task_id, queue, countdown)
        template = self._templates.get((name, queue))
        if template is None:
            template = self._templates[name, queue] = Template(self._record(name, args, task_id, queue))
        return template.filled(args, task_id, self.celery.current_worker_task)

    def step(self, task: TaskId, *, meta: Meta, due_ms: float, lane: str, delay: float = 0.0) -> Message:
        """The message that runs one attempt of a step; `due_ms` is when it may start, for the time accounting."""
        args = [task.execution_id, str(task.step), task.attempt, due_ms, list(meta)]
        return self.message(RUN_STEP, args, task_id=str(task), queue=lane, countdown=delay)

    def wake(self, task: TaskId, *, delay: float) -> Message:
        """The message that resumes a step which waits for a time."""
        return self.message(WAKE_STEP, [str(task)], task_id=f"wake:{task}", queue=MAINTENANCE, countdown=delay)

    def attend(self, task: TaskId) -> Message:
        """The message that looks after the execution which a step waits for: begins it, or takes its end there."""
        return self.message(ATTEND_CHILD, [str(task)], task_id=f"child:{task}", queue=TRIGGERS)

    def follow_up(self, execution_id: str) -> Message:
        """The message that does what is still to be done when an execution has ended."""
        return self.message(FOLLOW_UP, [execution_id], task_id=f"after:{execution_id}", queue=TRIGGERS)

    def start_next(self, group: str) -> Message:
        """The message that begins what waits in a concurrency group, as far as there is room."""
        return self.message(START_NEXT, [group], task_id=f"next:{group}", queue=TRIGGERS)

    def begin_retry(self, execution_id: str) -> Message:
        """The message that copies what a large retry reuses, and begins it."""
        return self.message(BEGIN_RETRY, [execution_id], task_id=f"retry:{execution_id}", queue=TRIGGERS)

    def drain(self, *, is_urgent: bool) -> Message:
        """The message that has the journal written to SQL, now or after lingering for more to come."""
        return self.message(DRAIN_JOURNAL, [is_urgent], task_id="journal-drain", queue=MAINTENANCE)

    def calls_writer(self, at_ms: float) -> bool:
        """Whether a transition at this time should call the journal's writer: not when another one has just done so.

        If that one was too early, or was never applied, the next tick writes what is there.
        """
        if at_ms - self._writer_called_ms < CALL_AGAIN_MS:
            return False
        self._writer_called_ms = at_ms
        return True

    def _record(self, name: str, args: list[Any], task_id: str, queue: str, countdown: float = 0.0) -> Message:
        with self._lock:
            producer = self._connected()
            self.celery.send_task(
                name,
                args,
                task_id=task_id,
                queue=queue,
                countdown=countdown or None,
                producer=producer,
                ignore_result=True,
            )
            message: Message = producer.channel.recorded.pop()
            return message

    def _connected(self) -> Producer:
        """The producer of this process: one that was inherited through a fork would share its connection."""
        if self._producer is None or self._pid != os.getpid():
            options = self.celery.conf.broker_transport_options
            connection = Connection(self.celery.conf.broker_url, transport_options=options)
            # Set afterwards, because a URL such as redis+socket:// names a transport of its own.
            connection.transport_cls = RecordingTransport
            self._producer = self.celery.amqp.Producer(connection.channel(), auto_declare=False)
            self._pid = os.getpid()
        return self._producer
