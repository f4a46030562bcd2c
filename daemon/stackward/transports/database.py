"""CloudStack's own database, read only: the second witness, and the inventory when the API is down.

The only door to aiomysql and PyMySQL. Values are fetched as bytes and read in database_rows.py, one
row at a time, so that a value that is no date or no text costs one row and not the answer.

A user with SELECT on these tables is enough: vm_instance, host, data_center, vm_template, nics,
console_proxy, secondary_storage_vm, async_job, vm_work_job.
"""

import asyncio
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiomysql
import pymysql
from pymysql.constants import CLIENT, CR, ER

from stackward.errors import (
    Garbled,
    RefusalKind,
    Refused,
    TimedOut,
    TransportError,
    Unreachable,
)
from stackward.model.target import DatabaseWitness, Inventory, Witness
from stackward.ports import Clock
from stackward.transports.database_rows import (
    AGENTS_SQL,
    HOSTS_SQL,
    JOBS_SQL,
    TARGETS_SQL,
    ZONES_SQL,
    Record,
    read_agent,
    read_each,
    read_host,
    read_job,
    read_target,
    read_zone,
)

_READ_ONLY_SQL: Final = "SET SESSION TRANSACTION READ ONLY"
# MariaDB knows the first, in seconds; MySQL the second, in milliseconds.
_LIMIT_SQL: Final = (
    "SET SESSION max_statement_time = {seconds:.3f}",
    "SET SESSION max_execution_time = {milliseconds:.0f}",
)

_AUTHENTICATION: Final = frozenset(
    {ER.ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR, ER.HOST_NOT_PRIVILEGED, 1251, 1698, 2059}
)
_NOT_ALLOWED: Final = frozenset(
    {ER.TABLEACCESS_DENIED_ERROR, ER.COLUMNACCESS_DENIED_ERROR, 1227, 1370}
)
_BROKE: Final = frozenset(
    {
        CR.CR_CONN_HOST_ERROR,
        CR.CR_SERVER_GONE_ERROR,
        CR.CR_SERVER_LOST,
        CR.CR_SSL_CONNECTION_ERROR,
        ER.SERVER_SHUTDOWN,
        1927,  # MariaDB: the connection was killed
    }
)
_TOO_SLOW: Final = frozenset({1317, 1969, 3024})  # interrupted; MariaDB's and MySQL's time limit
# What the library trips over where bytes are not in the MySQL protocol.
_NONSENSE: Final = (
    struct.error,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """Where the database is. `timeout` (seconds) covers one whole answer, connecting included.

    `password` is called for every new connection. `ca_file` set: TLS, and nothing without it.
    """

    host: str
    user: str
    password: Callable[[], str] = field(repr=False)
    port: int = 3306
    database: str = "cloud"
    ca_file: Path | None = None
    timeout: float = 10.0
    rows_max: int = 50_000


class _Connection(aiomysql.Connection):  # type: ignore[misc]  # the library has no types
    """A connection that gives the password away to nobody.

    aiomysql goes on in clear text where a server offers no TLS, and sends the password itself
    where a server asks for it: whoever sits in between could have both.
    """

    async def _request_authentication(self) -> None:
        if self._ssl_context and not self.server_capabilities & CLIENT.SSL:
            raise pymysql.OperationalError(CR.CR_SSL_CONNECTION_ERROR, "it offers no TLS")
        if self._server_auth_plugin == "mysql_clear_password" and not self._ssl_context:
            raise pymysql.OperationalError(2059, "it wants the password in clear text")
        await super()._request_authentication()

    async def _process_auth(self, plugin_name: bytes, auth_packet: object) -> object:
        if plugin_name == b"mysql_clear_password" and not self._secure:
            raise pymysql.OperationalError(2059, "it wants the password in clear text")
        return await super()._process_auth(plugin_name, auth_packet)


class _Cursor(aiomysql.Cursor):  # type: ignore[misc]  # the library has no types
    """A cursor that does not turn the server's notes about a query into Python warnings."""

    async def _show_warnings(self, conn: object) -> None:
        pass


class CloudStackDatabase:
    """`ports.CloudDatabase` over one connection, made anew after any trouble."""

    def __init__(self, settings: DatabaseSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._connection: Any = None  # of a library without types
        self._one_at_a_time = asyncio.Lock()

    async def inventory(self) -> Inventory:
        """All zones, hypervisor hosts and system VMs, as the database has them."""
        observed_at = self._clock.now()
        answers = await self._ask(ZONES_SQL, HOSTS_SQL, JOBS_SQL, TARGETS_SQL)
        zone_rows, host_rows, job_rows, target_rows = answers
        holes: list[str] = []
        zones = read_each("data_center", zone_rows, read_zone, holes)
        hosts = read_each("host", host_rows, read_host, holes)
        jobs = dict(read_each("async_job", job_rows, read_job, holes))
        targets = read_each("vm_instance", target_rows, lambda row: read_target(row, jobs), holes)
        if any(len(rows) > self._settings.rows_max for rows in answers):
            holes.append(f"a table has more than {self._settings.rows_max} rows of a kind")
        return Inventory(
            targets=targets,
            zones=zones,
            hosts=hosts,
            witness=Witness.DATABASE,
            observed_at=observed_at,
            unreadable=tuple(holes),
        )

    async def agents(self) -> DatabaseWitness:
        """The agents' states alone. A row that cannot be read is not among them."""
        observed_at = self._clock.now()
        (rows,) = await self._ask(AGENTS_SQL)
        return DatabaseWitness(observed_at, dict(read_each("vm_instance", rows, read_agent, [])))

    async def close(self) -> None:
        """Drop the connection. A later question makes a new one."""
        self._drop()

    async def _ask(self, *queries: str) -> tuple[tuple[Record, ...], ...]:
        """The answers to all queries over the one connection, within the time-out."""
        seconds = self._settings.timeout
        try:
            async with asyncio.timeout(seconds), self._one_at_a_time:
                try:
                    return await self._ask_all(queries)
                except BaseException:
                    self._drop()  # what was interrupted may still have an answer on its way
                    raise
        except TimeoutError as late:
            raise TimedOut(f"{self._where} did not answer within {seconds:g} s") from late
        except pymysql.MySQLError as trouble:
            raise self._translated(trouble) from trouble
        except OSError as trouble:
            raise Unreachable(f"{self._where}: {trouble}") from trouble
        except UnicodeEncodeError:
            raise Refused(  # `from None`: the library's error holds the password
                f"{self._where}: the password has characters outside Latin-1",
                kind=RefusalKind.AUTHENTICATION,
                maybe_sent=False,
            ) from None
        except _NONSENSE as trouble:
            raise Garbled(
                f"{self._where} does not speak as a MySQL server does ({type(trouble).__name__})"
            ) from trouble

    async def _ask_all(self, queries: tuple[str, ...]) -> tuple[tuple[Record, ...], ...]:
        if self._connection is None or self._connection.closed:
            self._connection = await self._connect()
        answers = []
        for query in queries:
            async with self._connection.cursor() as cursor:
                await cursor.execute(query, (self._settings.rows_max + 1,))
                answers.append(tuple(await cursor.fetchall()))
        return tuple(answers)

    async def _connect(self) -> Any:
        settings = self._settings
        connection = _Connection(
            host=settings.host,
            port=settings.port,
            user=settings.user,
            password=settings.password(),
            db=settings.database,
            charset="utf8mb4",
            use_unicode=False,
            conv={},
            cursorclass=_Cursor,
            autocommit=True,
            program_name="stackward",
            ssl=self._tls(),
        )
        try:
            await connection._connect()  # noqa: SLF001  connect() loses what is cancelled in it
            await connection.query(_READ_ONLY_SQL)
            for template in _LIMIT_SQL:
                await _set_where_known(connection, template, settings.timeout)
        except BaseException:
            connection.close()
            raise
        return connection

    def _tls(self) -> ssl.SSLContext | None:
        ca_file = self._settings.ca_file
        return ssl.create_default_context(cafile=ca_file) if ca_file else None

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def _where(self) -> str:
        return f"the database at {self._settings.host}:{self._settings.port}"

    def _translated(self, trouble: pymysql.MySQLError) -> TransportError:
        code = trouble.args[0] if trouble.args and isinstance(trouble.args[0], int) else None
        words = " ".join(str(trouble.args[-1]).split())[:300] if trouble.args else ""
        text = f"{self._where}: {words}"
        if code in _BROKE:
            cause = str(trouble.__cause__ or "")
            return Unreachable(text if cause in text else f"{text} ({cause})")
        if code in _TOO_SLOW:
            return TimedOut(text)
        if code is None or (isinstance(trouble, pymysql.InternalError) and code < 1000):
            return Garbled(text)
        return Refused(text, kind=_kind(code), code=code)


async def _set_where_known(connection: Any, template: str, seconds: float) -> None:
    """Let the server end a query by itself, where it has this setting."""
    try:
        await connection.query(template.format(seconds=seconds, milliseconds=seconds * 1000))
    except pymysql.MySQLError as trouble:
        if trouble.args[:1] != (ER.UNKNOWN_SYSTEM_VARIABLE,):
            raise


def _kind(code: int) -> RefusalKind:
    if code in _AUTHENTICATION:
        return RefusalKind.AUTHENTICATION
    if code in _NOT_ALLOWED:
        return RefusalKind.NOT_ALLOWED
    return RefusalKind.UNAVAILABLE if code == ER.CON_COUNT_ERROR else RefusalKind.OTHER
