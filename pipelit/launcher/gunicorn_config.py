"""gunicorn's configuration file, read by `pipelit server`; it has to have its values when it is imported.

gevent, because a thread for each WebSocket's whole life would let idle sockets starve the API.
"""

import resource
from pathlib import Path

from pipelit.launcher.environment import load_settings
from pipelit.launcher.lean import be_lean


def _raise_file_limit() -> None:
    """Every connection is an open file, and the usual 1024 are few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


be_lean()
_raise_file_limit()
_settings = load_settings()

bind = f"{f'[{_settings.host}]' if ':' in _settings.host else _settings.host}:{_settings.port}"
workers = _settings.web_workers
worker_class = "pipelit.launcher.gevent_worker.LeavingWorker"
worker_connections = 4000
wsgi_app = "wsgi:app"
proc_name = "pipelit-web"
timeout = 60
graceful_timeout = 8
keepalive = 75
errorlog = "-"
loglevel = "warning"
control_socket_disable = True
# By default gunicorn believes every process of this machine; whom to believe is `PIPELIT_TRUSTED_PROXIES`' to say.
forwarded_allow_ips = ""
# A worker says that it lives by touching a file; on a disk that stalls it would be killed for nothing.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - gunicorn makes a private file in it
