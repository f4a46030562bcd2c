"""The HTTP server: routes, limits, and rendering away from the loop.

/                      the page for people          /metrics       for Prometheus
                                                    ?name[]=FAMILY only these families
/vm/NAME               one VM, explained            /-/healthy     the loop decides
/api/v1/status         the fleet                    /-/ready       the first inventory is in
/api/v1/vms/NAME       one VM, explained            /-/reload      read the configuration again
/api/v1/plan           steps, holds, escalations
/api/v1/journal        decisions and outcomes, newest first
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus

from aiohttp import web
from isal import igzip

from stackward.core.snapshot import Snapshot
from stackward.errors import JournalError
from stackward.model.entry import EntryKind
from stackward.ports import Clock, EntryFilter, Journal, Log, SnapshotSource
from stackward.web import page, views
from stackward.web.gate import why_refused

GZIP_FROM_BYTES = 1024
JOURNAL_ROWS_MAX = 1000
SEQUENCE_MAX = 2**63 - 1
# Whoever holds connections open must not take the descriptors that watching needs.
CONNECTIONS_MAX = 256
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """Where to listen, and what may be written. `port` 0 asks the kernel for a free one."""

    host: str = "127.0.0.1"
    port: int = 9787
    enable_lifecycle: bool = False
    allowed_hosts: frozenset[str] = frozenset()
    unhealthy_after: timedelta = timedelta(seconds=60)
    content_type_text: str = ""
    content_type_openmetrics: str = ""


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """What a reload came to: `mistakes` empty means that the new configuration is in force."""

    mistakes: tuple[str, ...] = field(default=())


RenderMetrics = Callable[[Snapshot | None, bool, frozenset[str]], bytes]
"""A snapshot; whether as OpenMetrics; the names of the families that are wanted, none for all."""
_Form = tuple[bool, bool, frozenset[str]]
Fresh = Callable[[], Awaitable[Snapshot | None]]
Reload = Callable[[], Awaitable[ReloadReport]]


class WebServer:
    """Serves until stopped. `port` is known after `start`.

    `fresh` gives the snapshot for the metrics, if that is not simply the newest one.
    """

    def __init__(
        self,
        snapshots: SnapshotSource,
        journal: Journal,
        clock: Clock,
        log: Log,
        render_metrics: RenderMetrics,
        reload: Reload,
        settings: WebSettings,
        fresh: Fresh | None = None,
    ) -> None:
        self._snapshots = snapshots
        self._fresh = fresh
        self._journal = journal
        self._clock = clock
        self._log = log
        self._render_metrics = render_metrics
        self._reload = reload
        self._settings = settings
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._rendering = asyncio.Lock()
        self._rendered: tuple[Snapshot | None, _Form, bytes] | None = None
        self.port = settings.port

    async def start(self) -> None:
        """Bind and serve. OSError if the address is taken."""
        app = web.Application(client_max_size=4096, middlewares=[_safe_headers])
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/vm/{name}", self._vm_page),
                web.get("/metrics", self._metrics),
                web.get("/-/healthy", self._healthy),
                web.get("/-/ready", self._ready),
                web.route("POST", "/-/reload", self._reload_now),
                web.route("PUT", "/-/reload", self._reload_now),
                web.get("/api/v1/status", self._status),
                web.get("/api/v1/vms/{name}", self._vm),
                web.get("/api/v1/plan", self._plan),
                web.get("/api/v1/journal", self._entries),
            ]
        )
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=30,
            shutdown_timeout=2,
            max_line_size=4096,
            max_field_size=4096,
        )
        await self._runner.setup()
        server = self._runner.server
        assert server is not None  # it is made by `setup`

        def admit() -> asyncio.BaseProtocol:
            return server() if len(server.connections) < CONNECTIONS_MAX else _Full()

        self._listener = await asyncio.get_running_loop().create_server(
            admit, self._settings.host, self._settings.port, backlog=128, reuse_address=True
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close, within the shutdown timeout."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # --- for machines -------------------------------------------------------------------------

    async def _metrics(self, request: web.Request) -> web.Response:
        openmetrics = "application/openmetrics-text" in request.headers.get("Accept", "")
        gzip = "gzip" in request.headers.get("Accept-Encoding", "")
        form = (openmetrics, gzip, frozenset(request.query.getall("name[]", [])))
        async with self._rendering:
            snapshot = self._snapshots.latest() if self._fresh is None else await self._fresh()
            body = self._kept(snapshot, form)
            if body is None:
                body = await asyncio.to_thread(self._render, snapshot, form)
                self._rendered = (snapshot, form, body)
        content_type = (
            self._settings.content_type_openmetrics
            if openmetrics
            else self._settings.content_type_text
        )
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if gzip:
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=body, headers=headers)

    def _kept(self, snapshot: Snapshot | None, form: _Form) -> bytes | None:
        """The last page, if it was made of the same."""
        kept = self._rendered
        is_same = kept is not None and kept[0] is snapshot and kept[1] == form
        return kept[2] if kept is not None and is_same else None

    def _render(self, snapshot: Snapshot | None, form: _Form) -> bytes:
        openmetrics, gzip, names = form
        body = self._render_metrics(snapshot, openmetrics, names)
        return igzip.compress(body, 1) if gzip else body

    async def _healthy(self, _request: web.Request) -> web.Response:
        snapshot = self._snapshots.latest()
        if snapshot is None:
            return web.Response(text="starting: no round was completed yet\n")
        age = self._clock.now() - snapshot.taken_at
        if age > self._settings.unhealthy_after:
            return web.Response(
                status=HTTPStatus.SERVICE_UNAVAILABLE,
                text=f"the last round was completed {age.total_seconds():.0f} s ago\n",
            )
        return web.Response(text="stackward is healthy\n")

    async def _ready(self, _request: web.Request) -> web.Response:
        snapshot = self._snapshots.latest()
        if snapshot is None or not snapshot.is_ready:
            return web.Response(
                status=HTTPStatus.SERVICE_UNAVAILABLE, text="waiting for the first inventory\n"
            )
        return web.Response(text="stackward is ready\n")

    async def _reload_now(self, request: web.Request) -> web.Response:
        if not self._settings.enable_lifecycle:
            return web.Response(
                status=HTTPStatus.FORBIDDEN,
                text="reload over HTTP is off; set web.enable_lifecycle, or send SIGHUP\n",
            )
        refusal = why_refused(
            request.headers.get("Host"),
            request.headers.get("Origin"),
            self._settings.allowed_hosts,
        )
        if refusal is not None:
            self._log.warning("reload refused", reason=refusal)
            return web.Response(status=HTTPStatus.FORBIDDEN, text=refusal + "\n")
        report = await self._reload()
        if report.mistakes:
            lines = ("the configuration was not taken; the old one stays:", *report.mistakes)
            return web.Response(
                status=HTTPStatus.INTERNAL_SERVER_ERROR, text="\n".join(lines) + "\n"
            )
        return web.Response(text="the configuration is in force\n")

    # --- JSON -----------------------------------------------------------------------------------

    async def _status(self, _request: web.Request) -> web.Response:
        return await self._json(views.status)

    async def _plan(self, _request: web.Request) -> web.Response:
        return await self._json(views.plan)

    async def _vm(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return await self._json(lambda snapshot, now: views.vm(snapshot, name, now))

    async def _json(
        self, view: Callable[[Snapshot, views.Moment], views.Json | None]
    ) -> web.Response:
        snapshot = self._snapshots.latest()
        if snapshot is None:
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "no round was completed yet")
        now = self._clock.now()
        text = await asyncio.to_thread(lambda: views.dumps(view(snapshot, now)))
        if text == "null":
            return _problem(HTTPStatus.NOT_FOUND, "there is no such VM, or several of that name")
        return web.Response(text=text, content_type="application/json")

    async def _entries(self, request: web.Request) -> web.Response:
        query = request.query
        try:
            limit = int(query.get("limit", "100"))
            after = int(query.get("after", "0"))
            kinds = frozenset(EntryKind(kind) for kind in query.getall("kind", []))
        except ValueError as mistake:
            return _problem(HTTPStatus.BAD_REQUEST, f"bad query: {mistake}")
        if not 1 <= limit <= JOURNAL_ROWS_MAX or not 0 <= after <= SEQUENCE_MAX:
            return _problem(
                HTTPStatus.BAD_REQUEST, f"limit must be 1 to {JOURNAL_ROWS_MAX}, after 0 or more"
            )
        try:
            entries = await self._journal.entries(
                EntryFilter(
                    target=query.get("target"),
                    intent_id=query.get("intent"),
                    kinds=kinds or None,
                    after_sequence=after,
                    limit=limit,
                )
            )
        except JournalError as trouble:
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, str(trouble))
        return web.Response(
            text=views.dumps(views.entries(entries)), content_type="application/json"
        )

    # --- for people -----------------------------------------------------------------------------

    async def _page(self, _request: web.Request) -> web.Response:
        return await self._html(page.fleet)

    async def _vm_page(self, request: web.Request) -> web.Response:
        return await self._html(functools.partial(page.vm, name=request.match_info["name"]))

    async def _html(self, view: Callable[[Snapshot, views.Moment], str | None]) -> web.Response:
        snapshot = self._snapshots.latest()
        if snapshot is None:
            return web.Response(text=page.starting(), content_type="text/html")
        text = await asyncio.to_thread(view, snapshot, self._clock.now())
        if text is None:
            return web.Response(
                status=HTTPStatus.NOT_FOUND, text=page.not_found(), content_type="text/html"
            )
        return web.Response(text=text, content_type="text/html")


class _Full(asyncio.Protocol):
    """Meets those who find no place."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _problem(status: HTTPStatus, detail: str) -> web.Response:
    return web.Response(
        status=status, text=views.dumps({"error": detail}), content_type="application/json"
    )


@web.middleware
async def _safe_headers(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    response = await handler(request)
    response.headers.update(SECURITY_HEADERS)
    return response
