"""docs/commands.md says what the programs do: its tables are made from theirs."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from crane import errors, options
from craned.exec import environment as env

DOCUMENT = Path(__file__).parents[2] / "docs" / "commands.md"
TABLES = ("ccancel", "cacct", "cinfo", "cqueue", "cwait", "cwhy", "crane", "ccontrol")


def option_lines() -> list[str]:
    found = ["", "| option | of | variable | meaning |", "|---|---|---|---|"]
    for option in options.TABLE:
        if option.inert:
            continue
        spelled = f"`--{option.long}`" + (f", `-{option.short}`" if option.short else "")
        value = f" `{option.metavar}`" if option.metavar else ""
        tools = " ".join(option.tools)
        suffix = f"`{option.env_suffix}`" if option.env_suffix else ""
        text = (
            f"| {spelled}{value.replace('|', chr(92) + '|')} | {tools} | {suffix} | {option.help} |"
        )
        found.append(text)
    return [*found, ""]


def inert_lines() -> list[str]:
    found = ["", "| command | options |", "|---|---|"]
    for tool in options.BOTH:
        names = [f"`--{o.long}`" for o in options.TABLE if o.inert and tool in o.tools]
        found.append(f"| {tool} | {' '.join(names)} |")
    for tool in TABLES:
        table = getattr(importlib.import_module(f"cli.{tool}"), "OPTIONS", ())
        names = [f"`--{option.long}`" for option in table if option.inert]
        if names:
            found.append(f"| {tool} | {' '.join(names)} |")
    return [*found, ""]


def between(text: str, marker: str) -> tuple[str, str, str]:
    head, opening, rest = text.partition(f"<!-- {marker} -->\n")
    inside, closing, tail = rest.partition(f"<!-- /{marker} -->\n")
    assert opening, marker
    assert closing, marker
    return head + opening, inside, closing + tail


@pytest.mark.parametrize(("marker", "made"), [("options", option_lines), ("inert", inert_lines)])
def test_its_tables_are_the_programs_own(marker, made):
    head, inside, tail = between(DOCUMENT.read_text(encoding="utf-8"), marker)
    expected = "".join(f"{line}\n" for line in made())
    if os.environ.get("UPDATE_GOLDEN"):
        DOCUMENT.write_text(head + expected + tail, encoding="utf-8")
        inside = expected
    assert inside == expected


@pytest.mark.parametrize("tool", TABLES)
def test_help_names_every_option_that_does_something(tool):
    module = importlib.import_module(f"cli.{tool}")
    other_spellings = {  # of options that are in the help under another name
        "job", "state", "jobname", "account", "uid", "all", "exact", "quiet", "verbose",
    }  # fmt: skip
    for option in getattr(module, "OPTIONS", ()):
        if not option.inert and option.long not in other_spellings:
            assert f"--{option.long}" in module.HELP, option.long


def test_every_exit_status_is_there():
    rows = DOCUMENT.read_text(encoding="utf-8").split("## Finding")[0]
    for status in {errors.EXIT_OK, errors.EXIT_FAILED, *errors.EXIT_STATUS.values()}:
        assert f"\n| {status} | " in rows


def test_every_variable_of_a_job_is_there():
    text = DOCUMENT.read_text(encoding="utf-8")
    job = env.JobScope(
        job_id=1, name="", user="", uid=1, gid=1, group="", nodes=("a", "b"), nodelist="a,b",
        tasks_per_node=(1, 1), cpus_per_node=(1, 1), ntasks_per_node=1, cpus_per_task=1,
        mem_per_node=1, mem_per_cpu=1, gpus=1, end_time=1,
        array=env.ArrayScope(job_id=1, task_id=1, first=1, last=1, step=1, count=1),
    )  # fmt: skip
    host = env.HostScope("a", 0, 1, (0,))
    step = env.StepScope(0, ("a",), "a", ((0,),), "h", "h")
    found = env.job_variables(job) | env.host_variables(host, {}) | env.batch_variables(0o22)
    found |= env.step_variables(step) | env.step_host_variables(step, 0)
    names = {name.removeprefix("CRANE_") for name in found if not name.startswith("SLURM_")}
    for name in names:
        assert f"`{name}`" in text or f"`CRANE_{name}`" in text or f"`{name}=" in text, name
