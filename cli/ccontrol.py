"""`ccontrol`: look at single things, and change jobs, nodes and the configuration in force."""

from __future__ import annotations

import os
import sys

from cli import arguments, command
from cli.arguments import Option
from crane.errors import EXIT_OK, EXIT_USAGE, CraneError, ErrorCode, did_you_mean, shown

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cli.arguments import Given
    from crane.client import Client

HELP = """\
usage: ccontrol [-o] [--json] COMMAND [arguments]

  show job [ID...]              jobs (12, 12_3), or all
  show node [LIST]              nodes (n[1-4]), or all
  show partition [NAME...]      partitions, or all
  show step JOB[.STEP]          steps of a job
  show config                   the configuration in force
  show hostnames [LIST]         one name per line; without LIST the job's nodes
  show hostlist NAME,NAME...    names as a list in brackets
  hold ID...                    keep pending jobs from starting;  release ID...
  requeue ID...                 run again;  requeuehold ID...: and hold
  update JobId=ID Key=value...  TimeLimit Priority Nice JobName Comment Partition Account QOS
                                StartTime Deadline Requeue Features Dependency ArrayTaskThrottle ...
  update NodeName=LIST State=drain|resume|down|fail|absent Reason=TEXT
  reconfigure                   read the configuration file again
  config check FILE             find the mistakes of a configuration file
  diag                          figures: pass times, queue sizes, latencies
  ping                          is there a controller?

  -o, --oneliner                one line per thing;  --json: JSON, with stable keys
      --help, --version

Examples:
  ccontrol show job 12
  ccontrol update NodeName=n[3-4] State=drain Reason="new disks"
  ccontrol show hostnames | head -n1
"""

OPTIONS = (
    *arguments.COMMON,
    Option("oneliner", "o"),
    Option("json"),
    Option("details", "d", inert=True),
    Option("all", "a", inert=True),
    Option("quiet", "Q", inert=True),
    Option("clusters", "M", arguments.plain, inert=True),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return command.run("ccontrol", _main, HELP, argv)


def _main(argv: list[str]) -> int:
    given = arguments.parse(argv, OPTIONS)
    if given.flag("help"):
        sys.stdout.write(HELP)
        return EXIT_OK
    for notice in given.notices:
        command.complain("ccontrol", notice)
    act, words = _chosen(given.words, COMMANDS, "command")
    return act(given, words)


def _chosen(
    words: list[str], table: dict[str, Callable[[Given, list[str]], int]], kind: str
) -> tuple[Callable[[Given, list[str]], int], list[str]]:
    if not words:
        raise CraneError(ErrorCode.USAGE, f"no {kind} given", "see ccontrol --help")
    act = table.get(words[0].lower())
    if act is None:
        hint = did_you_mean(words[0], table) or "see ccontrol --help"
        raise CraneError(ErrorCode.USAGE, f"unknown {kind} {shown(words[0])}", hint)
    return act, words[1:]


def _client() -> Client:
    from crane.client import Client

    return Client()


def _show(given: Given, words: list[str]) -> int:
    act, rest = _chosen(words, SHOW, "thing to show")
    return act(given, rest)


def _show_jobs(given: Given, words: list[str]) -> int:
    from crane.client.selection import EVERYTHING, Selection

    ids = tuple(found for word in words for found in arguments.ids(word))
    with _client() as client:
        found = list(client.jobs(Selection(ids=ids) if ids else EVERYTHING, steps=True))
        for selector in ids:
            if not any(selector.job_id in {job.job_id, job.array_job_id} for job in found):
                found.append(client.job(selector.job_id))
        now = client.answered_at
    if given.flag("json"):
        from cli.output import jsonform

        jsonform.write("ccontrol", jobs=[jsonform.job(job) for job in found])
        return EXIT_OK
    from cli.output import blocks

    made = (blocks.job(job, now) for job in found)
    sys.stdout.writelines(blocks.all_text(made, one_line=given.flag("oneliner")))
    if not found:
        sys.stdout.write("No jobs in the system\n")
    return EXIT_OK


def _show_nodes(given: Given, words: list[str]) -> int:
    names = tuple(name for word in words for name in arguments.hosts(word))
    with _client() as client:
        found = client.nodes(names)
    for name in names:
        if name not in {node.name for node in found}:
            raise CraneError(ErrorCode.UNKNOWN_NODE, f"there is no node {shown(name)}", "cinfo -N")
    if given.flag("json"):
        from cli.output import jsonform

        jsonform.write("ccontrol", nodes=[jsonform.node(node) for node in found])
        return EXIT_OK
    from cli.output import blocks

    made = (blocks.node(node) for node in found)
    sys.stdout.writelines(blocks.all_text(made, one_line=given.flag("oneliner")))
    return EXIT_OK


def _show_partitions(given: Given, words: list[str]) -> int:
    with _client() as client:
        found = client.partitions(words)
    for name in words:
        if name not in {partition.name for partition in found}:
            raise CraneError(
                ErrorCode.UNKNOWN_PARTITION, f"there is no partition {shown(name)}", "cinfo"
            )
    if given.flag("json"):
        from cli.output import jsonform

        jsonform.write("ccontrol", partitions=[jsonform.partition(row) for row in found])
        return EXIT_OK
    from cli.output import blocks

    made = (blocks.partition(row) for row in found)
    sys.stdout.writelines(blocks.all_text(made, one_line=given.flag("oneliner")))
    return EXIT_OK


def _show_steps(given: Given, words: list[str]) -> int:
    if not words:
        raise CraneError(ErrorCode.USAGE, "no job given", "ccontrol show step 12")
    from cli.output import blocks
    from crane.client.selection import of_ids

    lines: list[str] = []
    with _client() as client:
        for selector in (found for word in words for found in arguments.ids(word)):
            rows = list(client.jobs(of_ids([selector.job_id]), steps=True))
            rows = rows or [client.job(selector.job_id)]
            for job in rows:
                steps = [s for s in job.steps if selector.step in {None, s.step}]
                made = (blocks.step(job, step) for step in steps)
                lines += blocks.all_text(made, one_line=given.flag("oneliner"))
    sys.stdout.writelines(lines)
    return EXIT_OK


def _show_config(given: Given, words: list[str]) -> int:
    _none(words)
    from crane import __version__

    with _client() as client:
        status = client.status()
    values = {
        "ClusterName": status.cluster,
        "CRANE_VERSION": status.version or __version__,
        "ConfigFile": status.config_file or "(none)",
        **status.config,
    }
    if given.flag("json"):
        from cli.output import jsonform

        jsonform.write("ccontrol", config=values)
        return EXIT_OK
    width = max(len(key) for key in values)
    for key in sorted(values, key=str.lower):
        sys.stdout.write(f"{key.ljust(width)} = {values[key]}\n")
    return EXIT_OK


def _show_hostnames(_: Given, words: list[str]) -> int:
    """Local: no controller is asked (scontrol(1), show hostnames)."""
    from crane.hostlist import expand

    text = ",".join(words)
    if not text:
        environ = os.environ
        text = environ.get("CRANE_JOB_NODELIST") or environ.get("SLURM_JOB_NODELIST") or ""
    if not text:
        raise CraneError(ErrorCode.USAGE, "no list given, and this is no job", "n[1-4]")
    sys.stdout.writelines(f"{name}\n" for name in expand(text))
    return EXIT_OK


def _show_hostlist(_: Given, words: list[str]) -> int:
    from crane.hostlist import compress, expand

    names: list[str] = []
    for word in words:
        if "/" in word:
            with open(word, encoding="utf-8") as file:
                names += [line.strip() for line in file if line.strip()]
        else:
            names += expand(word)
    if not names:
        raise CraneError(ErrorCode.USAGE, "no names given", "ccontrol show hostlist n1,n2")
    sys.stdout.write(compress(names) + "\n")
    return EXIT_OK


def _none(words: list[str]) -> None:
    if words:
        raise CraneError(ErrorCode.USAGE, f"unexpected {shown(words[0])}", "see ccontrol --help")


def _change(verb: str) -> Callable[[Given, list[str]], int]:
    """A command that changes the jobs it is given."""

    def act(_: Given, words: list[str]) -> int:
        from cli.output.changes import report
        from crane.client.selection import Selection

        ids = tuple(found for word in words for found in arguments.ids(word))
        if not ids:
            raise CraneError(ErrorCode.USAGE, "no job given", f"ccontrol {verb} 12")
        chosen = Selection(ids=ids)
        with _client() as client:
            if verb == "hold":
                changes = client.hold(chosen)
            elif verb == "release":
                changes = client.release(chosen)
            else:
                changes = client.requeue(chosen, hold=verb == "requeuehold")
        return report("ccontrol", changes)

    return act


def _update(_: Given, words: list[str]) -> int:
    from cli.output.changes import report
    from cli.updates import update

    with _client() as client:
        return report("ccontrol", update(client, words))


def _reconfigure(_: Given, words: list[str]) -> int:
    _none(words)
    with _client() as client:
        changes = client.reconfigure()
    sys.stdout.writelines(f"{change}\n" for change in changes or ("nothing has changed",))
    return EXIT_OK


def _config(_: Given, words: list[str]) -> int:
    if len(words) != 2 or words[0] != "check":
        raise CraneError(ErrorCode.USAGE, "unknown use of config", "ccontrol config check FILE")
    from crane.config.check import check_file

    findings = check_file(words[1])
    for finding in findings:
        command.fail("ccontrol", finding.error(words[1]))
    if not findings:
        sys.stdout.write(f"{words[1]}: no mistakes found\n")
    return EXIT_USAGE if findings else EXIT_OK


def _diag(given: Given, words: list[str]) -> int:
    _none(words)
    from cli.output.times import when

    with _client() as client:
        status = client.status()
    rows: dict[str, object] = {
        "cluster": status.cluster,
        "version": status.version,
        "started": when(status.start_time),
        "pid": status.pid,
        "epoch": status.epoch,
        "sequence": status.seq,
        "sequence.durable": status.durable_seq,
        "planner": "ready" if status.planner_ready else "compiling",
        "nodes.connected": status.nodes_connected,
        **{f"jobs.{state.name.lower()}": count for state, count in status.jobs.items()},
        **{name: f"{value:g}" for name, value in status.figures.items()},
    }
    if given.flag("json"):
        from cli.output import jsonform

        rows |= status.figures
        jsonform.write("ccontrol", diag=rows)
        return EXIT_OK
    width = max(len(name) for name in rows)
    sys.stdout.writelines(f"{name.ljust(width)}  {value}\n" for name, value in rows.items())
    return EXIT_OK


def _ping(_: Given, words: list[str]) -> int:
    _none(words)
    with _client() as client:
        status = client.status()
    sys.stdout.write(f"cranectld of {status.cluster} is UP (pid {status.pid})\n")
    return EXIT_OK


SHOW: dict[str, Callable[[Given, list[str]], int]] = {
    "job": _show_jobs, "jobs": _show_jobs, "node": _show_nodes, "nodes": _show_nodes,
    "partition": _show_partitions, "partitions": _show_partitions, "step": _show_steps,
    "steps": _show_steps, "config": _show_config, "hostnames": _show_hostnames,
    "hostname": _show_hostnames, "hostlist": _show_hostlist,
}  # fmt: skip
COMMANDS: dict[str, Callable[[Given, list[str]], int]] = {
    "show": _show,
    "hold": _change("hold"),
    "release": _change("release"),
    "requeue": _change("requeue"),
    "requeuehold": _change("requeuehold"),
    "update": _update,
    "reconfigure": _reconfigure,
    "config": _config,
    "diag": _diag,
    "ping": _ping,
}
