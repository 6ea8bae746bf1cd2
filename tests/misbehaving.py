"""An HTTP server on this machine that misbehaves in every way that was thought of."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LONG = 300  # seconds; longer than any test
BODY = bytes(i * i % 251 for i in range(300_000))
SHA = hashlib.sha256(BODY).hexdigest()
HALF = len(BODY) // 2


class Handler(BaseHTTPRequestHandler):
    """Serves BODY; the first part of the address says how it misbehaves."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        how = self.path.split("/")[1]
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.server.asked.append((how, start))
        first = [asked for asked, _ in self.server.asked].count(how) == 1
        if how == "missing":
            return self.send_error(404)
        if start and how == "range416":
            return self.send_error(416)
        body = BODY[::-1] if how == "corrupt" else BODY
        if how == "norange" and start:
            start = 0
        elif start:
            self.send_response(206)
            shown = start + 1 if how == "wrongrange" else start
            self.send_header("Content-Range", f"bytes {shown}-{len(BODY) - 1}/{len(BODY)}")
        if not start:
            self.send_response(200)
        self._send(how, body[start:], first)

    def _send(self, how, body, first):
        announced = len(body)
        if how == "short":
            announced = 5
        if how == "long":
            announced += 1000
        if how == "endless":
            body, announced = body + bytes(500_000), announced + 500_000
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        drop = how in ("drop", "range416", "norange", "wrongrange") and first
        if how == "slow":
            for i in range(0, len(body), 30_000):
                self.wfile.write(body[i : i + 30_000])
        elif how == "waits":
            self.wfile.write(body[:HALF])
            self.server.go_on.wait(LONG)
            self.wfile.write(body[HALF:])
        else:
            self.wfile.write(body[: HALF if drop else len(body)])
        if drop or announced != len(body) or how == "long":
            self.close_connection = True


class Server(ThreadingHTTPServer):
    """Remembers in `asked` what was asked of it: (how, first byte).

    "waits" sends one half at once, and the other one when `go_on` is set.
    """

    daemon_threads = True

    def handle_error(self, *_):
        """Say nothing of clients that hang up."""


@contextmanager
def serving() -> Iterator[Server]:
    """Serve on a free port until the block ends."""
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked, server.go_on = [], threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.go_on.set()
        server.shutdown()
