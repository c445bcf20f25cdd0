"""The demo's site, served for real on loopback."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import final

from donewhen.demo.site_pages import NOT_FOUND, PAGES, SitePage


@final
class DemoSite:
    """A small real site with real faults, on 127.0.0.1 and a port of the system's choosing.

    Open it with ``with``: it serves until the block ends. It prints nothing.
    """

    def __init__(self, pages: dict[str, SitePage] | None = None) -> None:
        self._pages = PAGES if pages is None else pages
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> DemoSite:
        self._server = _Server(self._pages)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="donewhen-demo-site", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
        self._server = self._thread = None

    @property
    def url(self) -> str:
        """Return the start page's URL.

        Raises:
            RuntimeError: the site is not open.
        """
        return self.url_of("/")

    def url_of(self, path: str) -> str:
        """Return the URL of a path.

        Args:
            path: begins with a slash.

        Raises:
            RuntimeError: the site is not open.
        """
        if self._server is None:
            raise RuntimeError("the site is not open: use it in a with block")
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    @property
    def requests(self) -> tuple[str, ...]:
        """Return what was asked for so far, as "METHOD path", in order."""
        return () if self._server is None else tuple(self._server.requests)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, pages: dict[str, SitePage]) -> None:
        self.pages = pages
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a visitor who hangs up is no fault of the site."""
        del request, client_address


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]  (it is always one of ours)

    def do_GET(self) -> None:
        """Answer with a page."""
        self.wfile.write(self._answer().body)

    def do_HEAD(self) -> None:
        """Answer with a page's headers."""
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name is the base class's)
        """Say nothing."""
        del format, args

    def _answer(self) -> SitePage:
        self.server.requests.append(f"{self.command} {self.path}")
        page = self.server.pages.get(self.path.partition("?")[0], _MISSING)
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        if page.location is not None:
            self.send_header("Location", page.location)
        self.end_headers()
        return page


_MISSING = SitePage(NOT_FOUND.body, NOT_FOUND.content_type, 404)
