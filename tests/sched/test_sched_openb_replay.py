"""`csim openb`: the inflation experiment on an excerpt of the trace, and what it refuses."""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from pathlib import Path

import pytest

from cranectld.sim.csim.errors import CsimError
from cranectld.sim.csim.openb import LOAD, arrivals, main, read_workload

DATA = Path(__file__).resolve().parents[1] / "data/openb"
NODES, PODS = str(DATA / "nodes.csv"), str(DATA / "pods_gpuspec10.csv")


def test_fragmentation_aware_placement_allocates_most(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["random", "dotproduct", "clustering", "packing", "bestfit", "fgd", "fgd-atc23"]
    assert main([NODES, PODS, "--placement", ",".join(names), "--seeds", "5", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    means = {name: document["placements"][name]["allocated_mean"] for name in names}
    assert document["gpus"] == 188
    assert means["random"] + 2 < means["bestfit"] < means["fgd"] <= 100
    assert means["bestfit"] < means["fgd-atc23"] <= 100
    assert all(len(document["placements"][name]["allocated"]) == 5 for name in names)
    assert document["placements"]["random"]["allocated_pstdev"] > 0


def test_the_table_is_aligned_and_the_same_for_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    tables = []
    for _ in range(2):
        assert main([NODES, PODS, "--placement", "random,fgd", "--seeds", "2", "--seed", "7"]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]
    lines = tables[0].splitlines()
    assert lines[0].startswith("41 nodes, 188 GPUs; ")
    assert lines[1].startswith("272 pods of ")
    assert len({len(line) for line in lines[3:]}) == 1


def test_every_pod_arrives_once_and_then_more_up_to_the_load() -> None:
    workload = read_workload(NODES, PODS)
    order = arrivals(workload, 3)
    asked = sum(map(workload.request, order))
    assert 100 * asked >= LOAD * 1000 * workload.gpus
    assert 100 * (asked - workload.request(order[-1])) < LOAD * 1000 * workload.gpus
    assert Counter(order[: len(workload.pods)]) == Counter(workload.pods)
    assert order != arrivals(workload, 4)


def test_a_gzip_file_reads_like_the_plain_one(tmp_path: Path) -> None:
    packed = tmp_path / "pods.csv.gz"
    packed.write_bytes(gzip.compress(Path(PODS).read_bytes()))
    assert read_workload(NODES, str(packed)) == read_workload(NODES, PODS)


def test_models_are_sets_and_an_unknown_model_fits_nowhere(tmp_path: Path) -> None:
    nodes, pods = tmp_path / "nodes.csv", tmp_path / "pods.csv"
    nodes.write_text("sn,cpu_milli,memory_mib,gpu,model\na,8000,1024,2,T4\nb,8000,1024,2,G2\n")
    head = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
    pods.write_text(head + "x,1000,0,1,500,G2|T4\ny,1000,0,1,500,G2\nz,1,0,1,500,H100\nw,1,0,0,0,")
    workload = read_workload(str(nodes), str(pods))
    assert [kind[4] for kind in workload.types] == [3, 2, 0, -1]


@pytest.mark.parametrize(
    ("nodes", "pods", "message"),
    [
        ("cpu_milli,memory_mib,gpu,model\n1,1,x,T4\n", None, "line 2: gpu is 'x'"),
        ("cpu_milli,memory_mib,gpu,model\n1,1\n", None, "line 2: gpu is ''"),
        ("cpu_milli,memory_mib,gpu,model\n1,1,0,\n", None, "no node has a GPU"),
        ("name,cpu_milli,memory_mib,num_gpu,gpu_milli\n", None, "no column gpu, model"),
        (None, "name,cpu_milli,memory_mib,num_gpu,gpu_milli\n", "no pod asks for a GPU"),
        (None, "cpu_milli,memory_mib,num_gpu,gpu_milli\n1,1,1,-5\n", "gpu_milli is '-5'"),
        (None, "cpu_milli,memory_mib,num_gpu,gpu_milli\n1,1,1,1001\n", "1 to 1000 thousandths"),
        (None, "cpu_milli,memory_mib,num_gpu,gpu_milli\n1,1,2,500\n", "whole ones"),
        (None, None, "cannot read"),
    ],
)
def test_bad_files_get_one_clear_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    nodes: str | None,
    pods: str | None,
    message: str,
) -> None:
    paths = [NODES, PODS]
    for i, text in enumerate((nodes, pods)):
        if text is not None:
            paths[i] = str(tmp_path / f"{i}.csv")
            Path(paths[i]).write_text(text)
    if nodes is None and pods is None:
        paths[1] = str(tmp_path / "missing.csv")
    assert main(paths) == 2
    error = capsys.readouterr().err
    assert error.startswith("csim openb: ")
    assert error.count("\n") == 1
    assert message in error


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    packed = tmp_path / "pods.csv.gz"
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb") as file:
        file.write(Path(PODS).read_bytes())
    packed.write_bytes(stream.getvalue()[:200])
    with pytest.raises(CsimError, match="cannot read"):
        read_workload(NODES, str(packed))


@pytest.mark.parametrize("extra", [["--placement", "worst"], ["--seeds", "0"], ["--seed", "-1"]])
def test_bad_arguments_are_refused(extra: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([NODES, PODS, *extra])
    assert stop.value.code == 2
