"""The scenes: what is run, in which order, and what each of them has to show."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from bench.demo import direct
from bench.demo.stage import DemoError, Stage

TRACE = "data/KTH-SP2-1996-2.swf.gz"
PARTS = 8
LIMIT_SECONDS = 6
"""Time limit of jobs/overrun.sh."""
CPUS, MEMORY = 2, 256
"""What jobs/limits.sh asks for; MiB."""
_WAIT = 30.0
_LOOK = 0.05

Json = dict[str, Any]
Found = TypeVar("Found", list[dict[str, Any]], dict[str, Any])


@dataclass(frozen=True, slots=True)
class Demo:
    """A cluster that is up, and the directory the person works in."""

    stage: Stage
    work: str

    def submit(self, command: str) -> int:
        """Show `csub ...` and give the job's id. Raises DemoError if it was refused."""
        done = self.stage.run(command)
        found = re.fullmatch(r"Submitted batch job (\d+)\n", done.out)
        if found is None:
            raise DemoError(f"`{command}` did not submit a job")
        return int(found[1])

    def history(self, job: int) -> list[Json]:
        """What the accounting tables have of a job, or of the tasks of an array, once all ended."""

        def look() -> list[Json]:
            found: list[Json] = self.asked(f"cacct --json --jobs {job}")["jobs"]
            if not found or not all(entry["end_time"] for entry in found):
                return []
            return [entry for entry in found if entry["array_task"] is not None] or found

        return self.until(look, f"job {job} to be in the accounting tables")

    def asked(self, command: str) -> Json:
        """The answer of a command with --json."""
        done = self.stage.quiet(command)
        try:
            found: Json = json.loads(done.out)
        except ValueError:
            raise DemoError(f"`{command}` did not answer in JSON: {done.out[:200]}") from None
        return found

    def until(self, look: Callable[[], Found], what: str) -> Found:
        """Wait for something that is not empty. Raises DemoError."""
        deadline = time.monotonic() + _WAIT
        while not (found := look()):
            if time.monotonic() > deadline:
                raise DemoError(f"waited {_WAIT:g} s for {what}")
            time.sleep(_LOOK)
        return found

    def output(self, name: str) -> str:
        """Show a file a job wrote, and give its text."""
        return self.stage.run(f"cat {name}").out


def play(demo: Demo) -> None:
    """All scenes. Raises DemoError if one cannot go on."""
    for scene in (nodes, computing, gang, devices, limits, accounts):
        scene(demo)


def nodes(demo: Demo) -> None:
    """The cluster is there, with the devices that were declared."""
    stage = demo.stage
    stage.title("The cluster")
    stage.run("crane status")
    stage.run("cinfo")
    shown = stage.run('cinfo -N -o "%8N %6t %5c %8m %G"').out
    found = {line.split()[0]: line.split()[1:] for line in shown.splitlines()[1:]}
    devices_of = {name: words[3:] for name, words in found.items()}
    expected = {"n1": ["(null)"], "n2": ["gpu:a100:2"], "n3": ["npu:910b3:4"]}
    stage.expect("three idle nodes, with the devices declared", devices_of, expected)
    stage.expect("state of the nodes", {words[0] for words in found.values()}, {"idle"})


def computing(demo: Demo) -> None:
    """An array job on a real trace, and a job that depends on it and adds up."""
    stage = demo.stage
    stage.title("An array job analyses a trace in parallel; a dependent job adds up")
    stage.say(
        "The trace: eleven months of the IBM SP2 at KTH Stockholm, 28,490 jobs. Each of eight "
        "array tasks analyses an eighth of it. The second job waits until all have succeeded."
    )
    os.mkdir(os.path.join(demo.work, "parts"))
    array = demo.submit(f"csub jobs/analyse.sh {TRACE} parts")
    reduce = demo.submit(f"csub --dependency=afterok:{array} jobs/reduce.sh parts {PARTS}")
    stage.run("cqueue")
    stage.run(f"cwait --timeout=60 {reduce}")
    printed = demo.output("table.txt")
    computed = direct.table(os.path.join(demo.work, TRACE))
    stage.require(
        "the table equals a direct computation in one process",
        not (differs := direct.difference(direct.parse(printed), computed)),
        differs,
    )
    tasks = demo.history(array)
    (last,) = demo.history(reduce)
    states = sorted((task["array_task"], task["state"]) for task in tasks)
    expected = [(number, "COMPLETED") for number in range(PARTS)]
    stage.expect("every array task completed", states, expected)
    ended = max(task["end_time"] for task in tasks)
    stage.expect("state of the dependent job", last["state"], "COMPLETED")
    late = f"it started {ended - last['start_time']:.3f} s before the last task ended"
    stage.require("it started after all tasks had ended", last["start_time"] >= ended, late)


def gang(demo: Demo) -> None:
    """Tasks on two nodes with one command."""
    stage = demo.stage
    stage.title("One job on two nodes: crun starts tasks everywhere")
    stage.run("cat jobs/ranks.sh")
    stage.run("csub --wait jobs/ranks.sh")
    shown = demo.output("ranks.txt")
    pattern = r"^(\d): rank (\d) of 4 on (\w+), local rank (\d)$"
    found = sorted(re.findall(pattern, shown, re.MULTILINE))
    first = re.search(r"^script on (\w+), nodes (\S+)$", shown, re.MULTILINE)
    hosts = list(dict.fromkeys(host for _, _, host, _ in found))
    expected = [
        (str(rank), str(rank), hosts[rank // 2], str(rank % 2)) for rank in range(2 * len(hosts))
    ]
    stage.expect("four labelled ranks", [rank for _, rank, _, _ in found], list("0123"))
    stage.require(
        "two on each of two nodes, labels and ranks agree",
        len(hosts) == 2 and found == expected,
        f"found {found}",
    )
    stage.require(
        "rank 0 is where the script runs",
        first is not None and hosts[:1] == [first[1]],
        f"the script says {first and first[1]}",
    )


def devices(demo: Demo) -> None:
    """Devices are held, waited for and handed on; a time limit ends a job."""
    stage = demo.stage
    stage.title("Devices, waiting, and a time limit")
    stage.say(
        f"The first job holds both GPUs and would run forever; its time limit is {LIMIT_SECONDS} "
        "seconds. The second wants a GPU and has to wait. The third uses NPUs on another node."
    )
    overrun = demo.submit("csub jobs/overrun.sh")
    gpu = demo.submit("csub jobs/gpu.sh")
    npu = demo.submit("csub jobs/npu.sh")

    def planned() -> Json:
        verdict: Json = demo.asked(f"cwhy --json {gpu}")["verdict"]
        return verdict if verdict["planned_start"] else {}

    verdict = demo.until(planned, f"a planned start of job {gpu}")
    queue = stage.run("cqueue").out
    stage.require(
        "the queue shows it pending for resources",
        re.search(rf"^ *{gpu} .* PD .*\(Resources\)$", queue, re.MULTILINE) is not None,
        "it does not",
    )
    stage.say("Why does it wait, and until when?")
    why = stage.run(f"cwhy {gpu}").out
    stage.require("cwhy names what is short", "short of: gres/gpu" in why, "it does not")
    stage.run(f"cwait --timeout=60 {overrun} {gpu} {npu}", statuses=(128 + 15, 1))
    stage.require(
        "the job was told to end", "told to end" in demo.output("overrun.txt"), "it was not"
    )
    _check_overrun(demo, overrun, gpu, verdict)
    held = demo.output("gpu.txt")
    stage.require(
        "the GPU job sees one GPU of n2",
        re.fullmatch(r"on n2: CUDA_VISIBLE_DEVICES=[01]\n", held) is not None,
        "it does not",
    )
    held = demo.output("npu.txt")
    pair = re.fullmatch(r"on n3: ASCEND_VISIBLE_DEVICES=([0-3]),([0-3])\n", held)
    stage.require(
        "the NPU job sees two NPUs of n3", bool(pair and pair[1] != pair[2]), "it does not"
    )
    for job, told in ((gpu, "GPU"), (npu, "NPU")):
        stage.expect(f"state of the {told} job", demo.history(job)[0]["state"], "COMPLETED")


def _check_overrun(demo: Demo, overrun: int, gpu: int, verdict: Json) -> None:
    stage = demo.stage
    (ended,) = demo.history(overrun)
    (after,) = demo.history(gpu)
    stage.expect("state of the job over its limit", ended["state"], "TIMEOUT")
    ran = ended["end_time"] - ended["start_time"]
    stage.require(
        f"it ran for its {LIMIT_SECONDS} s, and not much longer",
        LIMIT_SECONDS - 0.5 <= ran <= LIMIT_SECONDS + 5,
        f"it ran for {ran:.1f} s",
    )
    stage.require(
        "the GPU job started when the GPUs were free",
        after["start_time"] >= ended["end_time"],
        f"{ended['end_time'] - after['start_time']:.3f} s before",
    )
    early = verdict["planned_start"] - (ended["start_time"] + LIMIT_SECONDS)
    stage.require(
        "the start that was planned was the end of the limit",
        abs(early) <= 2.5,
        f"{early:.1f} s off",
    )


def limits(demo: Demo) -> None:
    """What a job sees of its limits from inside."""
    stage = demo.stage
    stage.title("Limits as a job sees them from inside")
    stage.run("csub --wait jobs/limits.sh")
    shown = demo.output("limits.txt")
    kind = demo.asked("ccontrol --json show node n1")["nodes"][0]["cgroup"]
    for line, unit, amount in (("CPUs", "", CPUS), ("memory", " MiB", MEMORY)):
        found = re.search(rf"^{line}: +promised {amount}{unit}; (.*)$", shown, re.MULTILINE)
        told = found[1] if found else ""
        if kind.startswith(("v1", "v2")):
            what = f"the {line} limit in force is the one promised (cgroup {kind[:2]})"
            wanted = f"limit {amount}{unit} (cgroup {kind[:2]}, "
            stage.require(what, told.startswith(wanted), f"the job says {told!r}")
        else:
            what = f"the {line} promised (no cgroup is writable for this user: nothing is enforced)"
            stage.require(what, bool(told), f"the job says {shown!r}")


def accounts(demo: Demo) -> None:
    """The history of it all."""
    stage = demo.stage
    stage.title("Accounting")
    shown = stage.run(
        "cacct --allocations --format=jobid,jobname,state,exitcode,elapsed,totalcpu,maxrss,nodelist"
    ).out
    rows = [line.split() for line in shown.splitlines()[2:]]
    found: dict[str, set[str]] = {}
    for words in rows:
        found.setdefault(words[1], set()).add(words[2])
    names = ("analyse", "reduce", "ranks", "gpu", "npu", "limits")
    expected = {name: {"COMPLETED"} for name in names} | {"overrun": {"TIMEOUT"}}
    stage.expect("cacct shows every job in its final state", found, expected)
    stage.expect("and every array task", sum("_" in words[0] for words in rows), PARTS)
    empty = stage.run("cqueue --noheader").out
    stage.expect("the queue is empty", empty, "")
