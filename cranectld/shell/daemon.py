"""The controller as a running daemon: recovery, the parts put together, and the way down."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from crane import __version__
from crane.auth.door import DoorServer
from crane.auth.key import read_key
from crane.config.model import Config
from crane.errors import EXIT_OK, EXIT_SYSTEM, CraneError
from cranectld.core.commands import ApplyConfig, Rejected, StartEpoch
from cranectld.core.contact import ContactBook
from cranectld.core.identity import CONTROLLER
from cranectld.core.state import State
from cranectld.rpc.agents import Agents
from cranectld.rpc.callers import Callers
from cranectld.rpc.control import Control
from cranectld.rpc.grpc_server import GrpcServer
from cranectld.rpc.history import History
from cranectld.rpc.intake import Intake
from cranectld.rpc.local import local_door
from cranectld.rpc.status import Status
from cranectld.rpc.steps import StepCreator
from cranectld.rpc.submit import Submitter
from cranectld.rpc.watch import Watch
from cranectld.shell.blobs import BlobReader
from cranectld.shell.clock import Clock
from cranectld.shell.effects import Links, Performer
from cranectld.shell.loop import Loop
from cranectld.shell.planning import Planning
from cranectld.shell.projecting import ProjectorKeeper
from cranectld.shell.recover import recover
from cranectld.shell.timers import Timers
from cranectld.store.api import Store
from cranectld.store.sqlite import open_store

log = logging.getLogger("cranectld")

LAST_WORDS = 0.05
"""Seconds for the answers just released to reach their sockets before these are closed."""

PlannerMaker = Callable[[Loop, Clock], Planning]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said."""

    config_file: str
    config: Config
    make_planner: PlannerMaker | None
    """None: nothing plans; whoever submits CommitPlan commands does."""
    projector: bool = True
    """False: the read model falls behind, and no snapshots are made."""


class Daemon:
    """One controller. Needs a running event loop; `start`, then `run` until it is told to stop."""

    def __init__(self, options: Options, store: Store, state: State) -> None:
        """`state`: recovered from `store`."""
        config = options.config.controller
        self._options = options
        self._store = store
        key = read_key(config.key_file)
        self._clock = Clock(state.time)
        self.loop = Loop(state, store, self._clock)
        self.links = Links()
        self._blobs = BlobReader(store)
        intake = Intake(self.loop, self._blobs)
        self._planner = (
            options.make_planner(self.loop, self._clock) if options.make_planner else None
        )
        self._contacts = ContactBook(state, self._clock.now())
        wake = self._planner.wake if self._planner is not None else _nobody_plans
        self._timers = Timers(self.loop, self._contacts, self.links, self._clock, wake)
        self._callers = Callers(key)
        self._watch = Watch(self.loop, store)
        self._projector = ProjectorKeeper(config.state_dir, keep_log=config.keep_log)
        self._history = History(
            self.loop, config.state_dir, self._planner, self._clock, self._projector.wake
        )
        self._status = Status(
            self.loop,
            self._planner,
            self.links,
            options.config_file,
            self._clock.now(),
            self._figures,
        )
        self.control = Control(
            self.loop,
            self._clock,
            self._planner,
            self.links,
            self._contacts,
            self._callers,
            Submitter(self.loop, intake, self._history.past),
            self._history,
            self._watch,
            self._status,
        )
        agents = Agents(
            self.loop,
            self.links,
            self._contacts,
            self._clock,
            self._blobs,
            self._callers,
            StepCreator(self.loop, intake),
            key,
        )
        self._grpc = GrpcServer(config.listen, self.control, agents, self._callers)
        self._door: DoorServer = local_door(config.socket, self.control, self._callers)
        self._stop = asyncio.Event()
        self.port = 0

    async def start(self) -> None:
        """Begin the epoch, put the file's configuration in force, open the doors."""
        loop, planner = self.loop, self._planner
        loop.on_durable.append(lambda _events: self._projector.wake())
        loop.start()
        await loop.submit(StartEpoch())
        cluster = self._options.config.cluster
        if loop.state.config != cluster:
            await loop.submit(ApplyConfig(CONTROLLER, cluster))
        if planner is not None:
            loop.on_applied.append(planner.apply)
            planner.start()
        else:
            loop.on_applied.append(lambda _events: loop.state.touched.clear())
        loop.on_effects.append(Performer(self.links, planner.wake if planner else _nobody_plans))
        self._timers.start()
        await self._open_doors()
        if self._options.projector:
            self._projector.start()

    async def _open_doors(self) -> None:
        config = self._options.config.controller
        os.makedirs(os.path.dirname(config.socket) or ".", exist_ok=True)
        await self._door.start()
        self.port = await self._grpc.start()
        host = config.listen.rpartition(":")[0]
        state = self.loop.state
        log.info(
            "cranectld %s serves cluster %s, epoch %d, at %s:%d and %s (%d jobs, event %d)",
            __version__,
            state.config.name,
            state.epoch,
            host,
            self.port,
            config.socket,
            len(state.jobs),
            state.seq,
        )

    async def run(self) -> int:
        """Serve until SIGTERM, SIGINT or a failure of log or planner; the exit status."""
        aio = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            aio.add_signal_handler(number, self._stop.set)
        aio.add_signal_handler(signal.SIGHUP, self._reread)
        self.loop.failure.add_done_callback(lambda _done: self._stop.set())
        await self._stop.wait()
        failed = self.loop.failure.done()
        if failed:
            # The state is ahead of the log: what was not answered yet must never be.
            log.critical(
                "%s: stopping; start it again when this is mended", self.loop.failure.result()
            )
        else:
            log.info("stopping")
        await self.close()
        return EXIT_SYSTEM if failed else EXIT_OK

    async def close(self) -> None:
        """Take nothing more, make durable what was taken, end every part."""
        self._timers.close()
        if self._planner is not None:
            await asyncio.to_thread(self._planner.close)
        await self.loop.close()
        await asyncio.sleep(LAST_WORDS)
        self._watch.close()
        await self._door.close()
        await self._grpc.close()
        self._history.close()
        self._blobs.close()
        await self._projector.close()

    def _reread(self) -> None:
        """SIGHUP: put the configuration file in force."""

        async def reconfigure() -> None:
            try:
                changes = await self._status.reconfigure(CONTROLLER)
                log.info("configuration read again: %s", ", ".join(changes) or "no change")
            except (CraneError, Rejected) as error:
                log.error("the configuration stays as it was: %s", error)

        self._reading = asyncio.get_running_loop().create_task(reconfigure())

    def _figures(self) -> Mapping[str, float]:
        store = self._store.figures()
        return {
            "log_fsyncs": float(store.fsyncs),
            "log_bytes": float(store.bytes_written),
            "process_cpu_s": time.process_time(),
            "blob_reads": float(self._blobs.reads),
            "watchers": float(len(self._watch)),
            "projector_starts": float(self._projector.starts),
        }


def _nobody_plans() -> None:
    """In place of a planner."""


def serve(options: Options) -> int:
    """Run a controller in this process; its exit status. Raises CraneError if it cannot start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))  # one for every agent
    store = open_store(options.config.controller.state_dir)
    try:
        state = recover(store)
    except BaseException:
        store.close()
        raise
    # What was recovered and imported stays; later generations are looked through ever more rarely,
    # since a queue of a million jobs is objects that live long, and no cycles.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    return asyncio.run(_serve(options, store, state))


async def _serve(options: Options, store: Store, state: State) -> int:
    try:
        daemon = Daemon(options, store, state)
    except BaseException:
        store.close()
        raise
    try:
        await daemon.start()
    except BaseException:
        await daemon.close()
        raise
    return await daemon.run()
