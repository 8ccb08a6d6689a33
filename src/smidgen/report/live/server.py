"""A small web server for this machine only.

It listens on 127.0.0.1 and answers GET and HEAD for the paths of a fixed table, so that no path of
a request reaches the disk. A request must name this server as its Host, so that a page elsewhere
cannot reach it through a name of its own (DNS rebinding), and an Origin, where there is one, must
be this server too. A request's head is bounded in size and in time, and so is the number of
connections.
"""

import io
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from smidgen.errors import SmidgenError

HOST = "127.0.0.1"
_MOST_BYTES = 16_384  # of a request's head
_MOST_CONNECTIONS = 16  # at once; more are closed unanswered
_PATIENCE = 5.0  # seconds for a request to arrive, and for its answer to leave
_HEADERS = {
    "Allow": "GET, HEAD",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_NOTHING_ELSE = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one path gives."""

    kind: str
    """The media type."""
    content: Callable[[], bytes]
    policy: str = ""
    """What the page may use beyond nothing, as Content-Security-Policy directives."""


class LoopbackServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves a table from path to answer, from threads that end with the process."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = _MOST_CONNECTIONS
    allow_reuse_address = True  # a port that was given can be taken again at once

    def __init__(self, answers: Mapping[str, Answer], port: int = 0) -> None:
        """Listen on `port`, or on one that the system chooses; serve from `start` on.

        Raises:
            SmidgenError: the port cannot be had; says why.
        """
        self.answers = dict(answers)
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SmidgenError(
                f"port {port} of {HOST} cannot be had: {reason}. Another one, or 0 for any, may."
            ) from None
        self.names = {f"{name}:{self.port}" for name in (HOST, "localhost")}
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    def start(self) -> str:
        """Serve from a thread of its own; the address of the path `/`."""
        self._thread.start()
        return f"http://{HOST}:{self.port}/"

    def stop(self) -> None:
        """Stop listening; answers under way are not waited for."""
        if self._thread.is_alive():
            self.shutdown()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, where one is free; otherwise close the connection."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, then free the place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a visitor that has left; a bug keeps its traceback."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One request, one answer, one connection."""

    server: LoopbackServer
    server_version = "smidgen"
    sys_version = ""
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def handle(self) -> None:
        """Read the request's head within its bounds, then answer."""
        head = self._read_head()
        if head is None:
            return
        self.rfile = io.BufferedReader(io.BytesIO(head))
        self.raw_requestline = self.rfile.readline()
        if not self.parse_request():
            return
        if (refusal := self._refusal()) is not None:
            self.send_error(refusal)
            return
        answer = self.server.answers[self.path]
        content = answer.content()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(content)))
        self._policy = answer.policy
        self.end_headers()
        if self.command == "GET":
            self.connection.settimeout(_PATIENCE)
            self.wfile.write(content)

    def _read_head(self) -> bytes | None:
        """The request up to its empty line; None where it is too long, too slow or cut off."""
        head = b""
        deadline = time.monotonic() + _PATIENCE
        while b"\r\n\r\n" not in head and b"\n\n" not in head:
            left = deadline - time.monotonic()
            if left <= 0 or len(head) > _MOST_BYTES:
                return None
            self.connection.settimeout(left)
            try:
                received = self.connection.recv(4096)
            except (TimeoutError, OSError):
                return None
            if not received:
                return None
            head += received
        return head

    def _refusal(self) -> HTTPStatus | None:
        """Why the request is not answered."""
        if self.headers.get_all("Host") not in [[name] for name in self.server.names]:
            return HTTPStatus.FORBIDDEN
        origins = self.headers.get_all("Origin", [])
        if any(
            origin not in {f"http://{name}" for name in self.server.names} for origin in origins
        ):
            return HTTPStatus.FORBIDDEN
        if self.command not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED
        return None if self.path in self.server.answers else HTTPStatus.NOT_FOUND

    _policy = ""

    def end_headers(self) -> None:
        """Every answer, an error too, says what a browser may do with it."""
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        policy = f"{_NOTHING_ELSE}; {self._policy}" if self._policy else _NOTHING_ELSE
        self.send_header("Content-Security-Policy", policy)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal belongs to the run."""
