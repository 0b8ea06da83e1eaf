"""Checks of the database and Redis: they do what Pawl does with them, and repeat the reason of a refusal."""

from __future__ import annotations

from app.commands.doctor.findings import Finding, fail, ok, warn
from app.commands.home.stores import HomeStores
from app.local.redis_server import GET_REDIS, SQL_ALONE, find_redis_server, redis_answers
from pawl.db.migrate import check_current
from pawl.db.rehearsal import rehearse as rehearse_database
from pawl.deadlines import each_answer_within
from pawl.domain.errors import PawlError
from pawl.ports import StreamFault, StreamUnavailable
from pawl.settings import Settings
from pawl.streams.rehearsal import described, rehearse

_BY_THE_SWEEP = "Until then corrections are learned by the sweep, a little later."
_MEND_CREDENTIALS = "Mend user and password in PAWL_REDIS_URL (redis://user:password@host)."
_START_IT = "Start it, or mend PAWL_REDIS_URL."
_REMEDIES: dict[str, str] = {
    StreamFault.CREDENTIALS: _MEND_CREDENTIALS,
    StreamFault.CREDENTIALS_MISSING: _MEND_CREDENTIALS,
    StreamFault.CERTIFICATE: "Name the authority that signed it: ?ssl_ca_certs=FILE in PAWL_REDIS_URL.",
    StreamFault.RIGHTS: "Pawl needs keys `~pawl:*`, channels `&pawl:*`, and the commands that docs/servers.md lists.",
    StreamFault.TLS: "rediss:// is for servers that speak TLS, redis:// for those that do not.",
    StreamFault.NOT_LISTENING: _START_IT,
    StreamFault.UNKNOWN_HOST: _START_IT,
}


async def check_database(settings: Settings, stores: HomeStores, where: str) -> Finding:
    """Checks the schema, and writes, reads and removes a row."""
    try:
        with each_answer_within(settings.server_seconds):
            await check_current(stores.engine)
            await rehearse_database(stores.engine)
    except PawlError as error:
        return fail("database", f"{where}: {error}", "Feedback is refused until it works.")
    return ok("database", f"{where} writes and reads, its schema is current")


async def check_redis(settings: Settings) -> Finding:
    """Announces, consumes and acknowledges a sample, sends and hears a hint, sets and reads pressure."""
    if settings.sql_alone:
        return ok("redis", f"none (PAWL_REDIS_URL=none): {SQL_ALONE}")
    if settings.redis_url is None and not await redis_answers(settings.stream_url):
        program = find_redis_server()
        if program is None:
            return warn("redis", f"no server on this machine: {SQL_ALONE}", GET_REDIS)
        return warn("redis", f"embedded ({program}), not running", "`pawl up` starts it.")
    try:
        await rehearse(settings.stream_url, settings.server_seconds)
    except StreamUnavailable as error:
        remedy = _REMEDIES.get(error.problem, "See its own log.")
        return fail("redis", str(error), f"{remedy} {_BY_THE_SWEEP}")
    except PawlError as error:  # a URL that is none
        return fail("redis", str(error))
    server = await described(settings.stream_url, settings.server_seconds)
    detail = f"{server.name} announces, delivers and forgets"
    if server.persistence is None:
        return ok("redis", f"{detail}; its user may not ask for more (INFO)")
    if server.persistence:
        return ok("redis", f"{detail}, {server.persistence}")
    return warn("redis", f"{detail}, nothing is persisted", "Set `appendonly yes` (SQL is the truth).")
