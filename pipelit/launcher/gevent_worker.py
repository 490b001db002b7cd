"""gunicorn's gevent worker, which leaves as soon as nobody is being served.

The original waits, until its patience ends, for everybody who is connected: for WebSockets, which last for hours, and
for clients that keep a connection open in case they have another request. And it looks once a second whether it was
told to stop, and then once a second whether it may.
"""

import socket
import time
from contextlib import suppress
from functools import partial
from types import FrameType

from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.http.message import Request
from gunicorn.workers.ggevent import GeventWorker

from pipelit.launcher.lean import importing

SIGN_OF_LIFE_SECONDS = 1.0
"""How often gunicorn's first process is told that this one lives."""

LOOK_ROUND_SECONDS = 0.05
"""How often a worker that leaves looks for connections that have become idle."""


class LeavingWorker(GeventWorker):
    """Closes WebSockets with 1012 and idle connections when told to stop; requests in progress may end."""

    def init_process(self) -> None:
        self._idle: set[socket.socket] = set()
        self._told_to_leave = Event()
        super().init_process()

    def load_wsgi(self) -> None:
        with importing():
            super().load_wsgi()

    def run(self) -> None:
        """Serve until told to stop, and then until the last request has its answer or patience ends."""
        served = Pool(self.worker_connections)
        servers = []
        for listener in self.sockets:
            listener.setblocking(True)
            server = StreamServer(listener, handle=partial(self.handle, listener), spawn=served)
            if self.cfg.workers > 1:
                # One at a time, so that a burst of connections is shared among the processes.
                server.max_accept = 1
            server.start()
            servers.append(server)
        while self.alive:
            self.notify()
            self._told_to_leave.wait(SIGN_OF_LIFE_SECONDS)
        for server in servers:
            server.close()
        self._leave(served)

    def handle(self, listener: socket.socket, client: socket.socket, addr: object) -> None:
        self._idle.add(client)
        try:
            super().handle(listener, client, addr)
        finally:
            self._idle.discard(client)

    def handle_request(self, listener_name: object, req: Request, sock: socket.socket, addr: object) -> object:
        self._idle.discard(sock)
        try:
            return super().handle_request(listener_name, req, sock, addr)
        finally:
            self._idle.add(sock)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._told_to_leave.set()

    def _leave(self, served: Pool) -> None:
        # Imported here: this module is loaded before gevent has replaced the parts of the standard library that block.
        from pipelit.api import live  # noqa: PLC0415

        live.close_all()
        until = time.monotonic() + self.cfg.graceful_timeout
        while served and time.monotonic() < until:
            self.notify()
            for client in list(self._idle):
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            served.join(LOOK_ROUND_SECONDS)
        if served:
            self.log.warning("Requests were still in progress when patience ended (pid:%s)", self.pid)
            served.kill(timeout=1)
