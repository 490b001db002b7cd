"""gunicorn's configuration file, read by `pipelit server`; it has to have its values when it is imported.

gevent, because a thread for each WebSocket's whole life would let idle sockets starve the API.
"""

import signal
from pathlib import Path
from types import FrameType

from gunicorn.workers.base import Worker

from pipelit.launcher.environment import load_settings
from pipelit.launcher.lean import leave_out_decoration

leave_out_decoration()

_settings = load_settings()

bind = f"{f'[{_settings.host}]' if ':' in _settings.host else _settings.host}:{_settings.port}"
workers = _settings.web_workers
worker_class = "gevent"
worker_connections = 4000
wsgi_app = "wsgi:app"
proc_name = "pipelit-web"
timeout = 60
graceful_timeout = 8
keepalive = 75
errorlog = "-"
loglevel = "warning"
control_socket_disable = True
# A worker says that it lives by touching a file; on a disk that stalls it would be killed for nothing.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - gunicorn makes a private file in it


def post_worker_init(worker: Worker) -> None:
    """Close every WebSocket as soon as the worker is told to stop: it would wait for them until it is killed."""
    # Imported here: this module is also read by gunicorn's first process, which does without all of this.
    from gevent import spawn  # noqa: PLC0415

    from pipelit.api import live  # noqa: PLC0415

    stop = signal.getsignal(signal.SIGTERM)

    def close_and_stop(number: int, frame: FrameType | None) -> None:
        spawn(live.close_all)
        if callable(stop):
            stop(number, frame)

    signal.signal(signal.SIGTERM, close_and_stop)
