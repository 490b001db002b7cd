"""How Celery works for Pipelit: what holds everywhere, what depends on the settings, and which workers there are.

The module holds the constants (`celery.config_from_object("celeryconfig")`); `from_settings` gives the rest
(`celery.conf.update(celeryconfig.from_settings(settings))`). Nothing is read from the environment here.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from pipelit.config import Settings

# JSON only: a message is data, whoever wrote it.
accept_content = ["json"]
task_serializer = "json"
result_serializer = "json"

# A task is acknowledged when it has ended, and handed to another worker when its process died. A second delivery
# is harmless: every step is claimed before it runs, and only the current attempt may report.
task_acks_late = True
task_reject_on_worker_lost = True
# One message in each process and none waiting behind it, so that a long step never hides a short one.
worker_prefetch_multiplier = 1
# When the broker goes away, running steps go on, and commit when it is back: their lease has waited for them. (Ending
# them would repeat work that may not be safe to repeat, and kills a worker with threads, which cannot end tasks.)
worker_cancel_long_running_tasks_on_connection_loss = False

# What a step answers goes through the engine's own transition; a stored result would only cost time and memory.
task_ignore_result = True
task_store_errors_even_if_ignored = False
result_backend = None

# An outage of the broker is waited out for ever, by workers as by the web server.
broker_connection_retry = True
broker_connection_retry_on_startup = True
broker_connection_max_retries = None

# On SIGTERM (see `pipelit worker`) running steps get these seconds, then they are put back on their queue.
worker_soft_shutdown_timeout = 5.0
worker_enable_soft_shutdown_on_idle = False
# A busy machine may need more than the usual 4 s until a new process of the pool answers.
worker_proc_alive_timeout = 30.0
# Countdown tasks wait in the memory of a worker; beyond this number they wait in the broker.
worker_eta_task_limit = 1000
worker_hijack_root_logger = False
# Each event costs a good part of a hop. Flower switches them on by remote control while it is attached.
worker_send_task_events = False
task_send_sent_event = False

enable_utc = True
timezone = "UTC"

task_default_queue = "default"
task_create_missing_queues = True
task_routes = {
    "pipelit.executions.*": {"queue": "maintenance"},
    "pipelit.journal.*": {"queue": "maintenance"},
    "pipelit.maintenance.*": {"queue": "maintenance"},
}


@dataclass(frozen=True, slots=True)
class Lane:
    """A kind of worker: the queues it serves, how it runs their tasks, and how many at once."""

    name: str
    queues: tuple[str, ...]
    pool: str
    concurrency: int | None
    help: str

    def size(self, settings: Settings) -> int:
        """Tasks at once: fixed for a lane that waits, `PIPELIT_WORKERS` for the one that computes."""
        return self.concurrency or settings.workers


# Steps have processes of their own: they use the CPU, a crash or a kill must take down one step only, and nothing
# else is ever in front of them. Everything else waits much and computes little, so threads in one process do; kombu
# asks its queues in turn (round robin), which means that a flood in one of them costs another at most one task. Of
# the five, only `llm` holds tasks long enough to occupy all threads: nothing sends to it before there are AI nodes,
# and then it becomes one more lane here (threads, many at once).
LANES = (
    Lane("steps", ("default",), "prefork", None, "Runs the steps of workflows."),
    Lane("system", ("triggers", "schedules", "maintenance", "llm"), "threads", 8, "Everything else."),
)

ALL = Lane(
    "all", tuple(queue for lane in LANES for queue in lane.queues), "prefork", None, "Every queue in one worker."
)


def lane(name: str) -> Lane:
    """The lane of that name; `KeyError` when there is none."""
    return {lane.name: lane for lane in (*LANES, ALL)}[name]


def from_settings(settings: Settings) -> dict[str, object]:
    """The part of the configuration that depends on where and how this process runs."""
    return {
        "broker_url": settings.broker_url,
        "broker_transport_options": _transport_options(settings),
    }


def _transport_options(settings: Settings) -> dict[str, object]:
    options: dict[str, object] = {
        "visibility_timeout": settings.visibility_timeout,
        # By default kombu looks for abandoned messages about every 100 s, whatever the visibility timeout is.
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        # Who looks for them holds a lock, and may be killed with it: by default nobody would look for five minutes.
        "unacked_mutex_expire": 5,
        "queue_order_strategy": "round_robin",
        "health_check_interval": 25,
    }
    if urlsplit(settings.redis_url).scheme != "unix":
        options["socket_keepalive"] = True
    return options
