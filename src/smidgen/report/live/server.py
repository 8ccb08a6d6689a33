"""A web server that only this machine can reach, on top of `http.server`.

It listens on 127.0.0.1 and answers GET and HEAD for a table of paths that the program fills, so
that no request names a file. A request's Host must be this server, so that a web page elsewhere
cannot read it under another name (DNS rebinding); so must its Origin, if it has one. `http.server`
limits the lines of a request's head in length and number, and a connection that stays silent is
closed.
"""

import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from smidgen.errors import SmidgenError

HOST = "127.0.0.1"
_HEADERS = {
    "Allow": "GET, HEAD",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_NO_CONTENT = "default-src 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is served under a path."""

    media_type: str
    make: Callable[[], bytes]
    """Makes the content."""
    policy: str = _NO_CONTENT
    """Its Content-Security-Policy."""


class LoopbackServer(ThreadingHTTPServer):
    """Serves a table of answers by path, from daemon threads."""

    def __init__(self, answers: Mapping[str, Answer], port: int = 0) -> None:
        """Listen on `port`, or on one that the system chooses; serve from `start` on.

        Raises:
            SmidgenError: the port is taken, or not a port.
        """
        self.answers = dict(answers)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SmidgenError(
                f"port {port} of {HOST} is not available: {reason}. Choose another one, or 0 for "
                "any that is free."
            ) from None
        self.names = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )

    def start(self) -> str:
        """Serve from a thread; return the address of the path `/`."""
        self._thread.start()
        return f"http://{HOST}:{self.server_port}/"

    def stop(self) -> None:
        """Stop listening, without waiting for answers in progress."""
        if self._thread.is_alive():
            self.shutdown()
        self.socket.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that has gone; show the traceback of anything else."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: LoopbackServer
    server_version = "smidgen"
    sys_version = ""
    timeout = 5.0  # seconds that a connection may be silent
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def do_GET(self) -> None:
        """Send the answer for the path, or why there is none."""
        if (refusal := self._refusal()) is not None:
            self.send_error(refusal)
            return
        answer = self.server.answers[self.path]
        try:
            content = answer.make()
        except FileNotFoundError:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", answer.media_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815

    def _refusal(self) -> HTTPStatus | None:
        names = self.server.names
        if self.headers.get_all("Host") not in [[name] for name in names]:
            return HTTPStatus.FORBIDDEN
        if not set(self.headers.get_all("Origin", [])) <= {f"http://{name}" for name in names}:
            return HTTPStatus.FORBIDDEN
        return None if self.path in self.server.answers else HTTPStatus.NOT_FOUND

    def end_headers(self) -> None:
        """Add what a browser may do with the answer; errors pass here, too."""
        answer = self.server.answers.get(self.path) if hasattr(self, "path") else None
        policy = answer.policy if answer else _NO_CONTENT
        for name, value in {**_HEADERS, "Content-Security-Policy": policy}.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: the terminal shows the run."""
