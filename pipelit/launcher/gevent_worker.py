"""gunicorn's gevent worker, which leaves as soon as nobody is being served.

The original waits, until its patience ends, for everybody who is connected: for WebSockets, which last for hours, and
for clients that keep a connection open in case they have another request.
"""

import socket
from contextlib import suppress
from types import FrameType

import gevent
from gunicorn.http.message import Request
from gunicorn.workers.ggevent import GeventWorker

from pipelit.launcher.lean import importing


class LeavingWorker(GeventWorker):
    """Closes WebSockets with 1012 and idle connections when told to stop; requests in progress may end."""

    def init_process(self) -> None:
        self._idle: set[socket.socket] = set()
        super().init_process()

    def load_wsgi(self) -> None:
        with importing():
            super().load_wsgi()

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
        gevent.spawn(self._send_home)

    def _send_home(self) -> None:
        # Imported here: this module is loaded before gevent has replaced the parts of the standard library that block.
        from pipelit.api import live  # noqa: PLC0415

        live.close_all()
        while True:
            for client in list(self._idle):
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            gevent.sleep(0.1)
