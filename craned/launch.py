"""From the controller's launch order to the launcher's: files, environment, limits, devices, ranks.

The time this takes is paid by every job: what jobs have in common is made once and kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from crane import arrayspec, environment, signals
from crane.config.model import DeviceGroup
from crane.errors import CraneError, ErrorCode
from crane.filepattern import FileContext, default_pattern, expand
from crane.hostlist import compress
from crane.jobspec import NO_BLOB, BlobRef, JobSpec, OpenMode
from crane.session import LaunchStep, NodeShare
from crane.wire.steps import argv_from_blob
from craned.accounts import User
from craned.exec import environment as env
from craned.exec.protocol import CONNECT, NULL, Key, LaunchOrder, StepLimits
from craned.hw.slots import SlotError, denied_files, slot_variables

MAX_PIDS = 16_384
"""Processes and threads of one job on a host: a fork bomb must not take the host with it."""
MAX_KEPT = 256
DEFAULT_UMASK = 0o022
_SECOND = 1_000_000_000
_GPU = "gpu"
_OCTAL = re.compile("[0-7]{1,6}")


def _failed(message: str, hint: str = "") -> CraneError:
    return CraneError(ErrorCode.LAUNCH_FAILED, message, hint)


def whole_cpus(thousandths: int) -> int:
    """CPUs as programs count them: a part of one is one."""
    return -(-thousandths // 1000)


class LaunchMaker:
    """Makes launch orders for one node."""

    def __init__(
        self, node: str, lookalikes: str, devices: tuple[DeviceGroup, ...] = (), door: str = ""
    ) -> None:
        """`lookalikes`: directory put first in jobs' PATH; `door`: the agent's socket."""
        self._node = node
        self._lookalikes = lookalikes
        self._door = door
        self.devices = devices
        self._uid = os.geteuid()
        self._cluster = "crane"
        self._kept: dict[tuple[object, ...], bytes] = {}
        """Encoded variables that batch jobs of one shape have in common."""

    def declare(self, cluster: str, devices: tuple[DeviceGroup, ...]) -> None:
        """The cluster's name, and this node's device slots as the controller has them."""
        self._cluster, self.devices = cluster, devices
        self._kept.clear()

    def make(
        self,
        order: LaunchStep,
        blobs: Sequence[bytes],
        user: User,
        now: int,
        *,
        leased: bool = False,
    ) -> LaunchOrder:
        """The launcher's order; `leased`: the agent has a lease, and steps end with it.

        Raises CraneError (LAUNCH_FAILED) with what to tell the user.
        """
        if self._uid not in {0, order.uid}:
            raise _failed(
                f"the agent on {self._node} runs as uid {self._uid} and cannot run a job of "
                f"{order.user} (uid {order.uid})",
                "run craned as root to serve several users",
            )
        if order.request is None:
            return self._batch(order, blobs, user, now, leased)
        return self._crun(order, blobs, user, now, leased)

    # --- the two kinds of steps ------------------------------------------------------------------

    def _batch(
        self, order: LaunchStep, blobs: Sequence[bytes], user: User, now: int, leased: bool
    ) -> LaunchOrder:
        submission, spec = order.submission, order.submission.spec
        share, node_id = self._share(order)
        held = _held(share)
        inherited = _blob(submission.environment, blobs)
        cwd = spec.work_dir or user.account.home
        stdout = spec.stdout or default_pattern(array=order.array is not None)
        files = _FileNames(order, self._node, node_id, cwd)
        warn, before = 0, 0
        if spec.signal:
            warning = signals.parse_warning(spec.signal)
            # Without `B:` the steps of the job are warned, not its script (sbatch(1), --signal).
            warn, before = (warning.signal, warning.seconds) if warning.shell_only else (0, 0)
        return LaunchOrder(
            key=Key(*order.key),
            uid=order.uid,
            gid=order.gid,
            cwd=cwd,
            groups=user.account.groups,
            argv=submission.args,
            script=_blob(submission.script, blobs),
            env=self._batch_environment(order, user, node_id, inherited),
            stdin=files.path(spec.stdin) if spec.stdin else NULL,
            stdout=files.path(stdout),
            stderr=files.path(spec.stderr) if spec.stderr else "",
            append=spec.open_mode is OpenMode.APPEND,
            umask=_umask(spec),
            limits=StepLimits(cpu=share.cpus, memory=share.memory, pids=MAX_PIDS),
            time_limit=_time_left(order, now),
            kill_grace=float(order.kill_grace),
            warn_signal=warn,
            warn_before=before,
            warn_leaders_only=True,
            devices_denied=self._denied(held),
            node_id=node_id,
            leased=leased,
        )

    def _crun(
        self, order: LaunchStep, blobs: Sequence[bytes], user: User, now: int, leased: bool
    ) -> LaunchOrder:
        request, layout, spec = order.request, order.layout, order.submission.spec
        assert request is not None
        assert layout is not None
        share, node_id = self._share(order)
        if self._node not in layout.nodes:
            raise _failed(f"step {order.key.step} has no task on {self._node}")
        place = layout.nodes.index(self._node)
        held = _held(share)
        job = self._job_scope(order, user)
        step = _step_scope(order)
        ranks = step.ranks[place]
        variables = env.job_variables(job)
        inherited = _blob(request.environment, blobs)
        path = _variable(inherited, b"PATH")
        variables |= self._host_variables(order, node_id, path)
        variables |= env.step_variables(step) | env.step_host_variables(step, place)
        if request.cpus_per_task:
            variables |= env.mirrored({"CPUS_PER_TASK": str(whole_cpus(request.cpus_per_task))})
        torch = request.rendezvous == "torch"
        if torch:
            variables |= env.torch_rendezvous(job, step, place)
        warn, before = 0, 0
        if spec.signal:
            warning = signals.parse_warning(spec.signal)
            warn, before = (0, 0) if warning.shell_only else (warning.signal, warning.seconds)
        wanted = request.stdin_mode
        alone = wanted.isascii() and wanted.isdigit()
        fed = wanted != "none" and (not alone or int(wanted) in ranks)
        return LaunchOrder(
            key=Key(*order.key),
            uid=order.uid,
            gid=order.gid,
            cwd=request.work_dir or spec.work_dir or user.account.home,
            groups=user.account.groups,
            argv=argv_from_blob(_blob(request.argv, blobs)),
            env=b"\0".join((user.login, inherited, _encoded(variables))),
            umask=_step_umask(inherited, _umask(spec)),
            stdin=CONNECT if fed else NULL,
            stdout=CONNECT,
            stderr=CONNECT,
            limits=StepLimits(cpu=share.cpus, memory=share.memory, pids=MAX_PIDS),
            time_limit=_time_left(order, now),
            kill_grace=float(order.kill_grace),
            warn_signal=warn,
            warn_before=before,
            devices_denied=self._denied(held),
            ranks=ranks,
            task_env=env.task_templates(torch=torch),
            node_id=place,
            connect=request.endpoint,
            ticket=_ticket(request.ticket),
            leased=leased,
        )

    def _batch_environment(
        self, order: LaunchStep, user: User, node_id: int, inherited: bytes
    ) -> bytes:
        """What a batch script finds; where a name comes twice the launcher takes the last."""
        spec = order.submission.spec
        path = _variable(inherited, b"PATH")
        if len(order.shares) > 1:
            common = self._batch_variables(order, user, node_id, path)
            return b"\0".join((user.login, inherited, common))
        shape = (
            order.uid, order.gid, order.user, user.group, order.partition, order.shares, order.addresses,
            path, spec.account, spec.qos, spec.submit_dir, spec.submit_host, spec.umask,
            order.component, order.array is None, order.end_time == 0,
        )  # fmt: skip
        kept = self._kept.get(shape)
        if kept is None:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            kept = self._batch_variables(order, user, node_id, path)
            self._kept[shape] = kept
        return b"\0".join((user.login, inherited, kept, _encoded(_own_variables(order))))

    def _batch_variables(self, order: LaunchStep, user: User, node_id: int, path: str) -> bytes:
        variables = env.job_variables(self._job_scope(order, user))
        variables |= self._host_variables(order, node_id, path)
        variables |= env.batch_variables(_umask(order.submission.spec))
        return _encoded(variables)

    # --- their parts -----------------------------------------------------------------------------

    def _share(self, order: LaunchStep) -> tuple[NodeShare, int]:
        for place, share in enumerate(order.shares):
            if share.node == self._node:
                return share, place
        raise _failed(
            f"job {order.key.job_id} has nothing allocated on {self._node}",
            "this is a defect of the controller; see its log",
        )

    def _denied(self, held: dict[tuple[str, str], tuple[int, ...]]) -> tuple[str, ...]:
        try:
            return denied_files(self.devices, held) if self.devices else ()
        except SlotError as error:
            raise _failed(str(error), "bring the node's configuration in step") from error

    def _host_variables(self, order: LaunchStep, node_id: int, path: str) -> dict[str, str]:
        share = order.shares[node_id]
        try:
            devices = slot_variables(self.devices, _held(share)) if self.devices else {}
        except SlotError as error:
            raise _failed(str(error), "bring the node's configuration in step") from error
        host = env.HostScope(
            node=self._node,
            node_id=node_id,
            cpus=whole_cpus(share.cpus),
            gpu_indices=tuple(i for s in share.slots if s.name == _GPU for i in s.indices),
            devices=devices,
            path_prefix=self._lookalikes,
            door=self._door,
        )
        variables = env.host_variables(host, {"PATH": path} if path else {})
        if order.addresses:
            variables["CRANE_NODE_ADDRESS"] = order.addresses[node_id]
        return variables

    def _job_scope(self, order: LaunchStep, user: User) -> env.JobScope:
        spec, component, shares = order.submission.spec, order.component, order.shares
        nodes = tuple([share.node for share in shares])
        gpus = sum(len(s.indices) for share in shares for s in share.slots if s.name == _GPU)
        return env.JobScope(
            job_id=order.key.job_id,
            name=order.submission.name,
            user=order.user,
            uid=order.uid,
            gid=order.gid,
            group=user.group,
            nodes=nodes,
            nodelist=compress(nodes),
            tasks_per_node=tuple([share.tasks for share in shares]),
            cpus_per_node=tuple([whole_cpus(share.cpus) for share in shares]),
            addresses=order.addresses,
            partition=order.partition,
            account=spec.account,
            qos=spec.qos,
            cluster=self._cluster,
            submit_dir=spec.submit_dir,
            submit_host=spec.submit_host,
            ntasks_per_node=component.ntasks_per_node,
            cpus_per_task=whole_cpus(component.cpus_per_task) if component.cpus_given else 0,
            mem_per_node=component.mem_per_node,
            mem_per_cpu=component.mem_per_cpu,
            gpus=gpus,
            restarts=order.restarts,
            start_time=order.start_time // _SECOND,
            end_time=order.end_time // _SECOND,
            array=_array_scope(order),
        )


class _FileNames:
    """Absolute names of a batch step's files."""

    def __init__(self, order: LaunchStep, node: str, node_id: int, cwd: str) -> None:
        array = order.array
        self._cwd = cwd
        self._job = str(order.key.job_id)
        self._context = FileContext(
            job_id=order.key.job_id,
            array_job_id=array.array_id if array is not None else 0,
            task=array.index if array is not None else -1,
            step=order.key.step,
            node=node,
            node_index=node_id,
            user=order.user,
            name=order.submission.name,
        )

    def path(self, pattern: str) -> str:
        if "\\" not in pattern and pattern.count("%") == pattern.count("%j"):
            name = pattern.replace("%j", self._job)  # nearly every job's: a tenth of the time
        else:
            name = expand(pattern, self._context)
        return os.path.join(self._cwd, name)


def _held(share: NodeShare) -> dict[tuple[str, str], tuple[int, ...]]:
    return {(slots.name, slots.type): slots.indices for slots in share.slots}


def _array_scope(order: LaunchStep) -> env.ArrayScope | None:
    array = order.array
    if array is None:
        return None
    return env.ArrayScope(
        job_id=array.array_id,
        task_id=array.index,
        first=arrayspec.first(array.spec),
        last=arrayspec.last(array.spec),
        step=arrayspec.step(array.spec),
        count=arrayspec.count(array.spec),
    )


def _step_scope(order: LaunchStep) -> env.StepScope:
    """The step with its ranks in blocks: the first node has the first ones (srun(1), block)."""
    layout, request = order.layout, order.request
    assert layout is not None
    assert request is not None
    ranks: list[tuple[int, ...]] = []
    first = 0
    for count in layout.tasks_per_node:
        ranks.append(tuple(range(first, first + count)))
        first += count
    host = "" if request.endpoint.startswith("unix:") else request.endpoint.rpartition(":")[0]
    return env.StepScope(
        step=order.key.step,
        nodes=layout.nodes,
        nodelist=compress(layout.nodes),
        ranks=tuple(ranks),
        launch_node=host,
        comm_host=host,
    )


def _blob(ref: BlobRef, blobs: Sequence[bytes]) -> bytes:
    return b"" if ref == NO_BLOB else blobs[ref.index]


def _own_variables(order: LaunchStep) -> dict[str, str]:
    """What differs between jobs of one shape, laid over the shape's (of its first job)."""
    values = {
        "JOB_ID": str(order.key.job_id),
        "JOBID": str(order.key.job_id),
        "JOB_NAME": order.submission.name,
        "RESTART_COUNT": str(order.restarts),
        "JOB_START_TIME": str(order.start_time // _SECOND),
    }
    if order.end_time:
        values["JOB_END_TIME"] = str(order.end_time // _SECOND)
    array = _array_scope(order)
    return env.mirrored(values | env.array_variables(array) if array is not None else values)


def _encoded(variables: dict[str, str]) -> bytes:
    """As `encode_environment`, in one piece where nothing has to be left out."""
    text = "\0".join([f"{name}={value}" for name, value in variables.items()])
    if text.count("\0") != len(variables) - 1:
        return env.encode_environment(variables)
    return text.encode(errors="surrogateescape")


def _variable(data: bytes, name: bytes) -> str:
    """Value of a variable in NUL-separated entries, the last of the name; empty: none."""
    found = (b"\0" + data).rpartition(b"\0" + name + b"=")
    return os.fsdecode(found[2].partition(b"\0")[0]) if found[1] else ""


def _umask(spec: JobSpec) -> int:
    return DEFAULT_UMASK if spec.umask is None else spec.umask & 0o777


def _step_umask(inherited: bytes, jobs: int) -> int:
    """The mask `crun` was called with, which it says in the step's environment; else the job's."""
    told = _variable(inherited, environment.UMASK_NAMES[0].encode())
    return int(told, 8) & 0o777 if _OCTAL.fullmatch(told) else jobs


def _time_left(order: LaunchStep, now: int) -> float:
    """Seconds at `now`, by the controller's clock; negative: no limit. Never more than the whole limit,
    though that clock may have been set since the order was made.
    """
    if not order.end_time:
        return -1.0
    return max(0.0, (order.end_time - max(now, order.start_time)) / _SECOND)


def _ticket(ticket: bytes) -> str:
    try:
        return ticket.decode("ascii")
    except UnicodeDecodeError:
        raise _failed("the step's ticket is not plain text", "use this version's crun") from None
