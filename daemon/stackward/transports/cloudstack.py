"""The CloudStack API as a port: the commands, their paging, and what becomes of the answers.

One request is in cloudstack_http.py, the reading of answers in cloudstack_replies.py, the
signature in signing.py. Method names follow what is asked, command names follow CloudStack.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self

from stackward.errors import Garbled, RefusalKind, Refused
from stackward.model.identity import HostId, JobId, TargetId, ZoneId
from stackward.model.target import (
    Capabilities,
    HypervisorHost,
    Inventory,
    Target,
    Witness,
    Zone,
)
from stackward.ports import Clock, JobReply, JobStatus, Look
from stackward.transports.cloud_words import RowUnreadableError, clean_text
from stackward.transports.cloudstack_http import CloudStackHttp, CloudStackSettings, deadline
from stackward.transports.cloudstack_replies import (
    Listing,
    Row,
    page_size_allowed,
    read_count,
    read_each,
    read_rows,
)
from stackward.transports.cloudstack_rows import (
    join_agents,
    read_agent_row,
    read_commands,
    read_host,
    read_job,
    read_target,
    read_zone,
    tells_agent_state,
    version_key,
)

__all__ = ["CloudStackApi", "CloudStackSettings"]

_PAGES_MAX: Final = 1000
_ROWS_MAX: Final = 100_000
_LISTING_TRIES: Final = 3  # a list that changes while it is read is read again, so often
_AGENT_HOST_TYPES: Final = ("SecondaryStorageVM", "ConsoleProxy")


class CloudStackApi:
    """`ports.CloudApi` over HTTP."""

    def __init__(self, settings: CloudStackSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._http = CloudStackHttp(settings, clock)
        self._page_size = settings.page_size
        self._version: str | None = None
        self._rows_told_agents = False  # a row has carried `agentstate`: this server tells it
        self._were_agents_told = False
        self._targets_read: dict[object, tuple[Row, Target]] = {}  # of the listing before, by id

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        trouble: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def capabilities(self) -> Capabilities:
        """What this key may call on this version. A version that is not told is legal."""
        async with deadline(self._settings.listing_timeout, "asking what the API can do"):
            reply = await self._http.read("listApis", {})
            commands = read_commands(read_rows("listApis", reply, "api"))
            self._version = await self._ask_version(commands)
        return Capabilities(self._version, commands)

    async def inventory(self) -> Inventory:
        """All zones, hypervisor hosts and system VMs."""
        async with deadline(self._settings.listing_timeout, "listing the cloud"):
            observed_at = self._clock.now()
            zones, zone_holes = read_each(await self._list("listZones", "zone"), read_zone)
            hosts, host_holes = read_each(
                await self._list("listHosts", "host", type="Routing", details="min"), read_host
            )
            vms = await self._list("listSystemVms", "systemvm")
            targets, target_holes = await self._read_targets(vms)
        return Inventory(
            targets=targets,
            zones=zones,
            hosts=hosts,
            witness=Witness.API,
            observed_at=observed_at,
            unreadable=(*zone_holes, *host_holes, *target_holes),
        )

    async def look(self, target_id: TargetId) -> Look:
        """One VM right now, with its zone and its host. All None: it is not there any more."""
        async with deadline(self._settings.listing_timeout, "looking at one VM"):
            target = await self._look_at_target(target_id)
            if target is None:
                return Look(target=None, zone=None, host=None)
            zone = await self._look_at_zone(target.zone_id)
            host = await self._look_at_host(target.host_id) if target.host_id else None
        return Look(target=target, zone=zone, host=host)

    async def reboot_system_vm(self, target_id: TargetId) -> JobId:
        """Ask for a reboot: once. The job succeeds even where nothing rebooted."""
        reply = await self._http.send_once("rebootSystemVm", {"id": target_id})
        return JobId(_needed(reply, "jobid", "rebootSystemVm"))

    async def job(self, job_id: JobId) -> JobReply:
        """How an async job stands. Asking again after a restart is the same question."""
        try:
            reply = await self._http.read("queryAsyncJobResult", {"jobid": job_id})
        except Refused as refused:
            if refused.code == 431:
                return JobReply(job_id=job_id, status=JobStatus.FORGOTTEN, detail=str(refused))
            raise
        try:
            job = read_job({"jobid": job_id, **reply})
        except RowUnreadableError as trouble:
            raise Garbled(f"queryAsyncJobResult: {trouble}") from trouble
        if job.job_id != job_id:
            raise Garbled(f"queryAsyncJobResult: asked for job {job_id}, told {job.job_id}")
        return job

    async def jobs_since(self, since: datetime) -> tuple[JobReply, ...]:
        """The async jobs created at or after a moment, on the server's clock, to the second.

        CloudStack takes `startdate` as a day in its own time zone, so a day more is asked for. A
        job whose moment of creation cannot be read is told too: it may be the one looked for.
        """
        first_day = (since - timedelta(days=1)).strftime("%Y-%m-%d")
        async with deadline(self._settings.listing_timeout, "listing jobs"):
            listing = await self._list(
                "listAsyncJobs", "asyncjobs", listall="true", startdate=first_day
            )
        jobs, _ = read_each(listing, read_job)
        floor = since.replace(microsecond=0)
        return tuple(job for job in jobs if job.created_at is None or job.created_at >= floor)

    # --- inside ----------------------------------------------------------------------------------

    async def _ask_version(self, commands: Mapping[str, frozenset[str]]) -> str | None:
        """The version from listCapabilities, else from the management servers' own rows."""
        try:
            reply = await self._http.read("listCapabilities", {})
            capability = reply.get("capability")
            version = capability.get("cloudstackversion") if isinstance(capability, dict) else None
            if version is None and "listManagementServers" in commands:
                reply = await self._http.read("listManagementServers", {})
                rows = read_rows("listManagementServers", reply, "managementserver")
                versions = [row.get("version") for row in rows if isinstance(row, dict)]
                told = (each for each in versions if isinstance(each, str))
                # While servers are upgraded one by one, the oldest is the one to go by.
                version = min(told, key=version_key, default=None)
        except Refused:
            return None
        return version if isinstance(version, str) else None

    async def _read_targets(self, vms: Listing) -> tuple[tuple[Target, ...], tuple[str, ...]]:
        """Rows to targets, with the agents' states from wherever this version tells them."""
        rows, is_agent_told, agent_holes = await self._with_agents(vms.rows)
        listing = Listing(vms.command, rows, (*vms.holes, *agent_holes))
        before = self._targets_read if is_agent_told is self._were_agents_told else {}
        fresh: dict[object, tuple[Row, Target]] = {}

        def read(row: Row) -> Target:
            """Most rows are those of the listing before, and mean what they meant then."""
            row_id = row.get("id")
            known = before.get(row_id) if isinstance(row_id, str) else None
            if known is None or known[0] != row:
                known = (row, read_target(row, is_agent_told=is_agent_told))
            fresh[known[1].id] = known
            return known[1]

        # A large fleet takes longer to read than the loop may be held up.
        told = await asyncio.to_thread(read_each, listing, read)
        self._targets_read, self._were_agents_told = fresh, is_agent_told
        return told

    async def _with_agents(
        self, rows: tuple[Row, ...], **narrowed: str
    ) -> tuple[tuple[Row, ...], bool, tuple[str, ...]]:
        """The rows with agent states, whether absence tells something, and what has holes.

        From 4.13.1 on rows carry the state, and none means that there is no agent. Before, and
        where the version is not told and no row shows it, the agents' own host rows are asked.
        """
        if any("agentstate" in row for row in rows):
            self._rows_told_agents = True
        if not rows or self._rows_told_agents or tells_agent_state(self._version):
            return rows, True, ()
        agents: list[Row] = []
        holes: list[str] = []
        try:
            for host_type in _AGENT_HOST_TYPES:
                listing = await self._list(
                    "listHosts", "host", type=host_type, details="min", **narrowed
                )
                found, missed = read_each(listing, read_agent_row)
                agents.extend(found)
                holes.extend(missed)
        except Refused:
            return rows, False, ()
        return join_agents(rows, agents), True, tuple(holes)

    async def _look_at_target(self, target_id: TargetId) -> Target | None:
        row = await self._row("listSystemVms", "systemvm", target_id)
        if row is None:
            return None
        narrowed = {"name": name} if isinstance(name := row.get("name"), str) else {}
        rows, is_agent_told, holes = await self._with_agents((row,), **narrowed)
        if holes:
            raise Garbled("; ".join(holes))
        try:
            return read_target(rows[0], is_agent_told=is_agent_told)
        except RowUnreadableError as trouble:
            raise Garbled(f"listSystemVms: {target_id}: {trouble}") from trouble

    async def _look_at_zone(self, zone_id: ZoneId) -> Zone | None:
        row = await self._row("listZones", "zone", zone_id)
        try:
            return None if row is None else read_zone(row)
        except RowUnreadableError as trouble:
            raise Garbled(f"listZones: {zone_id}: {trouble}") from trouble

    async def _look_at_host(self, host_id: HostId) -> HypervisorHost | None:
        row = await self._row("listHosts", "host", host_id)
        try:
            return None if row is None else read_host(row)
        except RowUnreadableError as trouble:
            raise Garbled(f"listHosts: {host_id}: {trouble}") from trouble

    async def _row(self, command: str, array: str, row_id: str) -> Row | None:
        """The one row of this id. None: the server knows it no more."""
        try:
            reply = await self._http.read(command, {"id": row_id})
        except Refused as refused:
            if refused.kind is RefusalKind.GONE:
                return None
            raise
        rows = read_rows(command, reply, array)
        found = [row for row in rows if isinstance(row, dict) and row.get("id") == row_id]
        if rows and not found:
            raise Garbled(f"{command}: asked for {row_id}, told something else")
        return found[0] if found else None

    async def _list(self, command: str, array: str, **params: str) -> Listing:
        """All pages of a list; one that changed while it was read is read again."""
        listing, doubt = await self._read_pages(command, array, params)
        for _ in range(_LISTING_TRIES - 1):
            if not doubt:
                return listing
            listing, doubt = await self._read_pages(command, array, params)
        holes = (*listing.holes, f"{command}: {doubt}") if doubt else listing.holes
        return Listing(command, listing.rows, holes)

    async def _read_pages(
        self, command: str, array: str, params: Mapping[str, str]
    ) -> tuple[Listing, str]:
        """One pass over all pages, and why it may have missed a row ("": it has not).

        It ends when as many rows came as the server counts, or when a page brings none that is
        new: past the end, or a server that gives the same page for ever.
        """
        rows: dict[str, Row] = {}
        holes: list[str] = []
        counts: set[int] = set()
        seen = 0
        for page in range(1, _PAGES_MAX + 1):
            reply = await self._read_page(command, page, params)
            elements = read_rows(command, reply, array)
            for element in elements:
                if isinstance(element, dict):
                    row_id = element.get("jobid" if array == "asyncjobs" else "id")
                    rows.setdefault(f"{row_id or (page, len(rows))}", element)
                else:
                    holes.append(f"{command}: a row of page {page} is no object")
            before, seen = seen, len(rows) + len(holes)
            counted = read_count(reply.get("count"))
            if counted is not None:
                counts.add(counted)
            is_last = len(elements) < self._page_size if counted is None else seen >= counted
            if is_last or seen == before:
                listing = Listing(command, tuple(rows.values()), tuple(holes))
                return listing, _doubt(seen, counts)
            if seen > _ROWS_MAX:
                break
        raise Garbled(f"{command}: the list does not end ({seen} rows so far)")

    async def _read_page(self, command: str, page: int, params: Mapping[str, str]) -> Row:
        """One page; a server with a smaller `default.page.size` than ours says which it takes."""
        for _ in range(2):
            size = str(self._page_size)
            try:
                return await self._http.read(
                    command, {**params, "page": str(page), "pagesize": size}
                )
            except Refused as refused:
                allowed = page_size_allowed(refused)
                if page > 1 or allowed is None or allowed >= self._page_size:
                    raise
                self._page_size = allowed
        raise Garbled(f"{command}: the server takes no page size")


def _doubt(seen: int, counts: set[int]) -> str:
    """Why a row may have been missed: a row that vanishes pulls the later ones to earlier pages."""
    if len(counts) > 1:
        return f"the list changed while it was read (counts {sorted(counts)})"
    missing = max(counts, default=0) - seen
    return f"{missing} of the rows that the server counts did not come" if missing > 0 else ""


def _needed(reply: Row, name: str, command: str) -> str:
    """A text that the answer to a command must hold."""
    try:
        text = clean_text(reply.get(name), name)
    except RowUnreadableError as trouble:
        raise Garbled(f"{command}: {trouble}") from trouble
    if text is None:
        raise Garbled(f"{command} was answered without a {name}")
    return text
