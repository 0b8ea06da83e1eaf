"""`python -m worker`: learns until SIGTERM. `--drain`: learns everything queued, without Redis, then ends."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
import time

from pawl.domain.errors import PawlError
from pawl.processes.children import module_command
from pawl.processes.logs import configure_logs
from pawl.processes.priority import stand_back
from pawl.settings import Settings, load_settings
from worker.assembly import open_learner
from worker.health.environment import DeviceLost

_DEVICE_PAUSE = 5.0  # where the GPU stays lost, a start without a pause would follow on a start
_NICENESS = 12  # answers come first where both want a core; a consolidation, its child, stands back further


async def work(settings: Settings, *, drain: bool) -> None:
    """Runs a learner until it is told to stop or, with `drain`, until nothing is queued."""
    async with open_learner(settings) as learner:
        gc.freeze()  # modules stay until the end: looking through them, again and again, took 140 ms each time
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            # By the loop, not `signal.signal`: `stop` sets an `asyncio.Event`, which only the loop's own code may do.
            loop.add_signal_handler(number, learner.stop)
        if drain:
            await learner.drain(_print_left)
        else:
            await learner.run()


async def _print_left(left: int) -> None:
    sys.stdout.write(json.dumps({"queued": left}) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--drain", action="store_true", help="learn everything that is queued, then end")
    arguments = parser.parse_args()
    try:
        settings = load_settings()
        configure_logs(settings.log_level)
        stand_back(_NICENESS)
        asyncio.run(work(settings, drain=arguments.drain))
    except DeviceLost:  # said already; only a new process gets the GPU back, and not everybody has a supervisor
        time.sleep(_DEVICE_PAUSE)
        os.execv(sys.executable, module_command("worker", *sys.argv[1:]))  # noqa: S606 - itself, no shell
    except PawlError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # all is closed; the interpreter would take seconds more to take its libraries apart
