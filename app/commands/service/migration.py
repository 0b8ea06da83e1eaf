"""`pawl migrate`, and waiting for a database that fits before learning."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from app.commands.console.terminal import EXIT_FAILED, EXIT_USAGE, CommandFailed, notes, print_json, print_line
from app.commands.home.stores import make_home
from pawl.backoff import Backoff
from pawl.db.engine import connect
from pawl.db.migrate import migrate, plan_migration
from pawl.domain.errors import SchemaMismatch, StoreUnavailable
from pawl.settings import Settings


async def run(settings: Settings, target: str | None, *, dry: bool, check: bool, sure: bool, as_json: bool) -> int:
    """Prints the plan and, unless `dry` or `check`, carries it out. Returns the exit status."""
    make_home(settings)
    engine = connect(settings.sql_url, settings.server_seconds)
    try:
        plan = await plan_migration(engine, target)
        go = bool(plan.steps) and not dry and not check
        if go and plan.is_back and not sure:
            raise CommandFailed(
                f"going back from {plan.current} to {plan.target} drops what only the newer schema holds",
                "Stop everything that uses the database, make a backup, and say --yes. --dry-run shows the steps.",
                code=EXIT_USAGE,
            )
        if go:
            await migrate(engine, plan)
    finally:
        await engine.dispose()
    if as_json:
        print_json(asdict(plan) | {"done": go})
    else:
        _say(plan.current, plan.target, plan.steps, is_back=plan.is_back, done=go)
    return EXIT_FAILED if check and plan.steps else 0


def _say(current: str | None, target: str, steps: list[tuple[str, str]], *, is_back: bool, done: bool) -> None:
    if not steps:
        print_line(f"the schema is {target} already; nothing to do")
        return
    verb = ("went" if done else "would go") + (" back" if is_back else "")
    print_line(f"{verb} from {current or 'an empty database'} to {target}")
    for revision, what in steps:
        print_line(f"  {'-' if is_back else '+'} {revision}  {what}")


async def until_it_fits(prepare: Callable[[], Awaitable[None]]) -> None:
    """Returns once the database is prepared, or holds a newer schema, for which the learner stands by."""
    backoff, last_problem = Backoff(first=0.2, longest=5.0), ""
    while True:
        try:
            await prepare()
        except SchemaMismatch as error:
            notes.print(f"{error} The learner stands by until it fits.", markup=False, soft_wrap=True)
            return
        except StoreUnavailable as error:
            # Said once: it is asked every five seconds, for hours if need be.
            if str(error) != last_problem:
                last_problem = str(error)
                notes.print(f"{last_problem} Waiting for it.", markup=False, soft_wrap=True)
            await asyncio.sleep(backoff.next_pause())
        else:
            return
