"""The rehearsal's own pages: switch faults, read the ledger, see who is there. Loopback only.

A page in a browser on this machine must not be able to reach it: a request with a foreign Host or
any foreign Origin is refused.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from stackward.rehearsal.faults import FAULTS
from stackward.rehearsal.guests import Guest
from stackward.rehearsal.rows import vm_row
from stackward.rehearsal.stage import NotHere, Stage
from stackward.rehearsal.switchboard import Switchboard

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_NAMES = ("127.0.0.1", "localhost", "[::1]")


class Control:
    """The application. `port` is known only once it listens, so it is set then."""

    def __init__(self, stage: Stage, switchboard: Switchboard) -> None:
        self.port = 0
        self._stage = stage
        self._switchboard = switchboard

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._only_ours])
        app.router.add_get("/", self._help)
        app.router.add_get("/faults", self._faults)
        app.router.add_post("/faults/{name}", self._inject)
        app.router.add_delete("/faults/{name}", self._clear)
        app.router.add_delete("/faults", self._clear_all)
        app.router.add_get("/ledger", self._ledger)
        app.router.add_get("/vms", self._vms)
        return app

    @web.middleware
    async def _only_ours(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        hosts = {f"{name}:{self.port}" for name in _NAMES}
        origin = request.headers.get("Origin")
        if request.headers.get("Host") not in hosts:
            raise web.HTTPForbidden(text="foreign Host\n")
        if origin is not None and origin not in {f"http://{host}" for host in hosts}:
            raise web.HTTPForbidden(text="foreign Origin\n")
        try:
            return await handler(request)
        except NotHere as problem:
            raise web.HTTPNotFound(text=f"{problem}\n") from None

    async def _help(self, request: web.Request) -> web.Response:
        del request
        lines = ["stackward rehearsal", "", "POST or DELETE /faults/NAME?on=VM|HOST|ZONE", ""]
        for fault in FAULTS:
            lines.append(f"{fault.name:26}{fault.kind.value:6}{fault.does}")
            if fault.expected:
                lines.append(f"{'':32}-> {fault.expected}")
        lines += ["", "GET /faults  /ledger  /vms; DELETE /faults ends them all", ""]
        return web.Response(text="\n".join(lines))

    async def _faults(self, request: web.Request) -> web.Response:
        del request
        table = [
            {
                "name": fault.name,
                "kind": fault.kind.value,
                "does": fault.does,
                "expected": fault.expected,
                "passing": fault.is_passing,
            }
            for fault in FAULTS
        ]
        active = [{"name": name, "on": on} for name, on in self._switchboard.active]
        return web.json_response({"faults": table, "active": active})

    async def _inject(self, request: web.Request) -> web.Response:
        self._switchboard.inject(request.match_info["name"], _subject(request))
        return await self._faults_active()

    async def _clear(self, request: web.Request) -> web.Response:
        self._switchboard.clear(request.match_info["name"], _subject(request))
        return await self._faults_active()

    async def _clear_all(self, request: web.Request) -> web.Response:
        del request
        self._switchboard.clear_all()
        return await self._faults_active()

    async def _faults_active(self) -> web.Response:
        active = [{"name": name, "on": on} for name, on in self._switchboard.active]
        return web.json_response({"active": active})

    async def _ledger(self, request: web.Request) -> web.Response:
        del request
        return web.json_response([line.as_json() for line in self._stage.ledger.lines])

    async def _vms(self, request: web.Request) -> web.Response:
        del request
        rows = []
        for vm in self._stage.world.vms.values():
            machine = self._stage.machines[vm.id]
            guest = self._stage.guests.get(vm.id)
            row = dict(vm_row(self._stage.world, vm))
            row["bootid"] = machine.boot_id
            row["unit"] = f"{machine.unit.state.active}/{machine.unit.state.sub}"
            row["invocationid"] = machine.unit.state.invocation_id
            if isinstance(guest, Guest):
                row["root"] = str(guest.tree.root)
                row["environment"] = guest.environment
            rows.append(row)
        return web.json_response(rows)


def _subject(request: web.Request) -> str:
    return next((request.query[n] for n in ("on", "vm", "host", "zone") if n in request.query), "")
