"""The commands' output, byte for byte, for a cluster with a bit of everything."""

from __future__ import annotations

import importlib

import pytest

from crane import __version__

CASES = [
    ("cqueue", "cqueue"),
    ("cqueue_long", "cqueue -l"),
    ("cqueue_start", "cqueue --start"),
    ("cqueue_sorted", "cqueue -S -i -o %i|%T|%j|%C|%m|%b|%l|%L|%E|%S|%k|%o|%K|%F|%Q|%N|%r"),
    ("cqueue_noheader", "cqueue -h -o %.5A%%%-10u|%t"),
    ("cqueue_json", "cqueue --json -j 101"),
    ("cinfo", "cinfo"),
    ("cinfo_long", "cinfo -l"),
    ("cinfo_nodes", "cinfo -N -l"),
    ("cinfo_summary", "cinfo -s"),
    ("cinfo_reasons", "cinfo -R"),
    ("cinfo_cpus", "cinfo -h -o %C"),
    ("cinfo_json", "cinfo --json -n n1"),
    ("cacct", "cacct -a -S 2027-01-15"),
    ("cacct_jobs", "cacct -X -a -o jobid,jobname%20,state%-25,elapsed,totalcpu,maxrss,nodelist"),
    ("cacct_parsable", "cacct -a -p -o jobidraw,state,exitcode,derivedexitcode,end"),
    ("cacct_parsable2", "cacct -n -P -j 90 --format=JobIdRaw,State"),
    ("cwhy", "cwhy 102"),
    ("cwhy_sooner", "cwhy --sooner 102"),
    ("cwhy_moved", "cwhy 107"),
    ("cwhy_json", "cwhy --json 102"),
    ("show_job", "ccontrol show job 101"),
    ("show_jobs_oneliner", "ccontrol -o show job"),
    ("show_node", "ccontrol show node n1"),
    ("show_node_down", "ccontrol -o show node n5"),
    ("show_partition", "ccontrol show partition"),
    ("show_config", "ccontrol show config"),
    ("show_step", "ccontrol -o show step 101"),
    ("diag", "ccontrol diag"),
    ("ping", "ccontrol ping"),
    ("reconfigure", "ccontrol reconfigure"),
]


def run(line: str) -> int:
    command, *arguments = line.split(" ")
    return importlib.import_module(f"cli.{command}").main(arguments)


@pytest.mark.parametrize(("name", "line"), CASES, ids=[name for name, _ in CASES])
def test_output_is_as_recorded(cluster, golden, capsys, monkeypatch, name, line):
    if line == "ccontrol show node n1":
        message = cluster.answers["ListNodes"]
        del message.nodes[1:]
    if "show node n5" in line:
        del cluster.answers["ListNodes"].nodes[:-1]

    status = run(line)

    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    golden(f"{name}.txt", out.replace(__version__, "VERSION"))


def test_success_of_changes_is_silent(cluster, capsys):
    for line in (
        "ccancel 101",
        "ccontrol hold 101",
        "ccontrol update JobId=101 Priority=5",
        "ccontrol requeue 101",
        "ccontrol release 101",
    ):
        assert run(line) == 0
    assert run("ccontrol update NodeName=n5 State=resume") == 0
    assert capsys.readouterr() == ("", "")


def test_filters_travel_in_the_request(cluster):
    run("cqueue -u root -p main,gpu -t PD,running -n sweep -w n[1-3] -A physics -q high -r")

    (request,) = cluster.asked("ListJobs")
    selector = request.selector
    assert list(selector.users) == ["root"]
    assert list(selector.partitions) == ["main", "gpu"]
    assert list(selector.states) == [1, 2]
    assert list(selector.nodes) == ["n1", "n2", "n3"]
    assert (selector.names, selector.accounts, selector.qos) == (["sweep"], ["physics"], ["high"])
    assert request.expand_arrays
    assert not selector.all


@pytest.mark.parametrize(
    ("line", "method"),
    [
        ("cqueue -R night,day -L matlab --wckey=w1,w2", "ListJobs"),
        ("ccancel -R night,day --wckey w1,w2", "CancelJobs"),
        ("cacct -a --reservation=night,day --licenses=matlab -W w1,w2", "ListHistory"),
    ],
)
def test_reservations_licences_and_wckeys_choose_jobs(cluster, line, method):
    run(line)

    (request,) = cluster.asked(method)
    selector = request.selector
    assert (selector.reservations, selector.wckeys) == (["night", "day"], ["w1", "w2"])
    assert selector.licences == ([] if method == "CancelJobs" else ["matlab"])
    assert not selector.all


def test_all_states_ask_for_everything(cluster):
    run("cqueue -t all")

    (request,) = cluster.asked("ListJobs")
    assert request.selector.all


def test_ids_of_a_cancel_travel_in_the_request(cluster):
    run("ccancel 12 13_[1-5,9] 14.0 --signal USR2 -b")

    (request,) = cluster.asked("CancelJobs")
    ids = request.selector.ids
    assert [item.job_id for item in ids] == [12, 13, 14]
    assert [(r.first, r.last) for r in ids[1].tasks] == [(1, 5), (9, 9)]
    assert ids[2].HasField("step")
    assert ids[2].step == 0
    assert (request.signal, request.batch_only) == (12, True)


def test_pages_are_fetched_to_the_end(cluster, capsys):
    whole = cluster.answers["ListJobs"]

    def page(request):
        reply = type(whole)(now=whole.now, seq=whole.seq)
        place = int(request.page_token or 0)
        reply.jobs.append(whole.jobs[place])
        reply.next_page_token = str(place + 1) if place + 1 < len(whole.jobs) else ""
        return reply

    cluster.answers["ListJobs"] = page
    run("cqueue -h -o %A")

    assert capsys.readouterr().out.split() == ["101", "102", "107", "105"]
    assert len(cluster.asked("ListJobs")) == 4
