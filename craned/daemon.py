"""Puts an agent together, runs it until it is told to stop, and leaves its jobs alone."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace

import crane
from crane.agentgroup import agent_group
from crane.auth.key import read_key
from crane.config.load import find_config, load
from crane.config.model import Config, DeviceGroup, NodeConfig
from crane.errors import CraneError, ErrorCode
from crane.hostlist import valid_name
from crane.session import DeviceCount, Inventory, Registration, StepEnded, StepStarted
from craned.agent import Agent
from craned.clock import Clock
from craned.contact import ContactFile, boot_id, host_id, spool_id
from craned.core.stimuli import Adopted
from craned.exec.client import LauncherClient, LauncherError, LauncherOptions, Snapshot
from craned.exec.protocol import Report
from craned.hw.inventory import take_inventory
from craned.launch import LaunchMaker
from craned.link.door import HostDoor
from craned.link.session import Session
from craned.lookalikes import install
from craned.outcomes import outcome

log = logging.getLogger("craned")

_SECOND = 1_000_000_000
_CONTACT = "contact"
"""File of the last word with a controller, in the state directory."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; empty: what the configuration says."""

    config: str = ""
    node: str = ""
    controller: str = ""
    state_dir: str = ""
    socket: str = ""
    key_file: str = ""
    oversubscribe: bool = False
    """Report at least what the configuration promises: several agents share a small host."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an agent needs to know before it looks at its host."""

    node: NodeConfig
    config: Config
    oversubscribe: bool


def settle(options: Options, environ: dict[str, str]) -> Settings:
    """Options over the configuration file over defaults. Raises CraneError."""
    path = find_config(options.config or None, environ)
    config = load(path) if path is not None else Config()
    name = options.node or socket.gethostname().partition(".")[0]
    if not valid_name(name):
        raise CraneError(ErrorCode.USAGE, f"{name!r} is not a node name", "give one with --node")
    given = {
        "controller": options.controller,
        "state_dir": options.state_dir,
        "socket": options.socket,
        "key_file": options.key_file,
    }
    agent = replace(config.agent, **{key: text for key, text in given.items() if text})
    # Jobs are told of them, and run elsewhere.
    places = {name: os.path.abspath(getattr(agent, name)) for name in ("state_dir", "socket")}
    agent = replace(agent, **places)
    nodes = [node for node in config.cluster.nodes if node.name == name]
    return Settings(
        node=nodes[0] if nodes else NodeConfig(name),
        config=replace(config, agent=agent),
        oversubscribe=options.oversubscribe,
    )


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises CraneError if it cannot be started."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    daemon = await Daemon.start(settings)
    # What was imported stays: not to be looked through again and again while jobs come in rows.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    try:
        await daemon.serve(stop)
        log.info("stopping; jobs go on")
    finally:
        await daemon.close()


class _Early:
    """Takes what the launcher reports, and keeps it until there is an agent."""

    def __init__(self) -> None:
        self._kept: list[Report] = []
        self._agent: Agent | None = None

    def take(self, reports: list[Report]) -> None:
        if self._agent is not None:
            self._agent.launcher_reports(reports)
        else:
            self._kept += reports

    def hand_over(self, agent: Agent) -> None:
        self._agent = agent
        if self._kept:
            agent.launcher_reports(self._kept)


class Daemon:
    """A running agent: launcher, session and door around the core."""

    def __init__(
        self,
        agent: Agent,
        launcher: LauncherClient,
        session: Session,
        door: HostDoor,
        lock: int,
    ) -> None:
        self._lock = lock
        self._agent = agent
        self._launcher = launcher
        self._session = session
        self._door = door
        self._dialling = asyncio.get_running_loop().create_task(session.run())

    @classmethod
    async def start(cls, settings: Settings) -> Daemon:
        """Adopt what runs on this host, then dial. Raises CraneError."""
        config, node = settings.config.agent, settings.node
        key = read_key(config.key_file)
        spool = _make_directories(config.state_dir)
        lock = _lock(config.state_dir)
        clock = Clock()
        boot, identity = boot_id(), spool_id(spool)
        contact = ContactFile(os.path.join(config.state_dir, _CONTACT), clock, boot)
        early = _Early()
        launcher, snapshot = await _start_launcher(settings, spool, identity, early.take)
        lookalikes = install(f"{config.state_dir}/bin")
        maker = LaunchMaker(node.name, lookalikes, node.devices, config.socket)
        look = _inventory_taker(settings, launcher.backend)
        registration = Registration(
            node=node.name,
            address=node.address or node.name,
            incarnation=secrets.token_hex(8),
            boot_id=boot,
            spool_id=identity,
            inventory=look(node.devices),
            host_id=host_id(),
        )
        agent = Agent(registration, look, maker, clock, contact, config.controller)
        session = Session(config.controller, key, agent, clock)
        agent.tell(_adopted(snapshot, contact, clock))
        agent.attach(launcher, session)
        early.hand_over(agent)
        door = HostDoor(config.socket, key, agent.forwards, agent.status)
        try:
            await door.start()
        except CraneError:
            await agent.close()
            await launcher.close(stop=not snapshot.running)
            raise
        log.info(
            "agent of node %s: %d steps run, %d ends to tell; %s; controller %s",
            node.name, len(snapshot.running), len(snapshot.ended), launcher.backend,
            config.controller,
        )  # fmt: skip
        return cls(agent, launcher, session, door, lock)

    async def serve(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Raises what ended the session's task: a defect, not a lost line."""
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((stopped, self._dialling), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        if self._dialling.done():
            self._dialling.result()

    async def close(self) -> None:
        """Stop serving. Steps run on below the launcher, which stays as long as there are any."""
        await self._door.close()
        await self._session.close()
        self._dialling.cancel()
        await asyncio.gather(self._dialling, return_exceptions=True)
        await self._agent.close()
        await self._launcher.close(stop=not self._agent.busy())
        os.close(self._lock)


def _make_directories(state_dir: str) -> str:
    """The state directory and its spool, which jobs must be able to reach; the spool."""
    spool = os.path.join(state_dir, "spool")
    try:
        for directory in (state_dir, spool):
            os.makedirs(directory, mode=0o711, exist_ok=True)
            os.chmod(directory, 0o711)  # noqa: S103 - jobs of every user pass through it
    except OSError as error:
        raise CraneError(
            ErrorCode.SYSTEM,
            f"the state directory {state_dir} cannot be made: {error.strerror}",
            "choose another with --state-dir, or make it and give it to the agent's user",
        ) from error
    return spool


def _lock(state_dir: str) -> int:
    """The lock of the one agent that uses the directory; it goes with the process."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    lock = os.open(os.path.join(state_dir, "lock"), flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise CraneError(
            ErrorCode.STORE_BUSY,
            f"another craned uses the state directory {state_dir}",
            "stop it first, or give this one its own with --state-dir",
        ) from None
    return lock


async def _start_launcher(
    settings: Settings,
    spool: str,
    identity: str,
    on_reports: Callable[[list[Report]], None],
) -> tuple[LauncherClient, Snapshot]:
    config = settings.config.agent
    options = LauncherOptions(
        spool=os.path.abspath(spool),
        cgroup=config.cgroup,
        cgroup_root=config.cgroup_root,
        cgroup_base=agent_group(settings.node.name, identity),
        lease_file=os.path.join(config.state_dir, _CONTACT),
    )
    try:
        return await LauncherClient.start(options, on_reports)
    except (LauncherError, OSError) as error:
        raise CraneError(
            ErrorCode.SYSTEM, str(error), f"see {spool}/launcher.log for more"
        ) from error


def _adopted(snapshot: Snapshot, contact: ContactFile, clock: Clock) -> Adopted:
    now = clock.now()
    running = [outcome(report, now) for report in snapshot.running]
    ended = [outcome(report, now) for report in snapshot.ended]
    return Adopted(
        tuple(report for report in running if isinstance(report, StepStarted)),
        tuple(report for report in ended if isinstance(report, StepEnded)),
        contact.read(),
    )


def _inventory_taker(
    settings: Settings, backend: str
) -> Callable[[tuple[DeviceGroup, ...]], Inventory]:
    """A function that looks at the host anew, for the devices declared."""
    promised = settings.node if settings.oversubscribe else NodeConfig("")

    def look(devices: tuple[DeviceGroup, ...]) -> Inventory:
        found = take_inventory(devices, backend)
        counts = dict.fromkeys(((slot.group, slot.type) for slot in found.slots), 0)
        for slot in found.slots:
            counts[slot.group, slot.type] += not slot.fault
        return Inventory(
            cpus=max(found.cpus.thousandths, promised.cpus),
            memory=max(found.memory.usable, promised.memory),
            devices=tuple(DeviceCount(*of, count) for of, count in counts.items()),
            cgroup=backend.partition(" ")[0].rstrip(":"),
            os=found.system,
            version=crane.__version__,
            boot_time=_boot_time(),
            problems=tuple(
                f"{slot.group}:{slot.type} slot {slot.index}: {slot.fault}"
                for slot in found.slots
                if slot.fault
            ),
            runs_as_root=found.privileged,
            uid=os.geteuid(),
        )

    return look


def _boot_time() -> int:
    """When the host was started (proc(5), `btime`), ns; 0: not known."""
    with open("/proc/stat", encoding="ascii") as file:
        for line in file:
            if line.startswith("btime "):
                return int(line.split()[1]) * _SECOND
    return 0
