"""Configuration files: loading, every mistake with its place, explaining, and the document."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane.config import check, explain, load, schema
from crane.config.model import Config, DeviceSlot
from crane.errors import CraneError
from crane.jobspec import UNLIMITED, Gres

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"

FULL = """
[cluster]
name = "lab"
operators = ["ann", "bob"]
job_requeue = false

[scheduler]
policy = "fifo"
window = "2-00:00:00"

[timeouts]
heartbeat = 0.5
node = 3
lost_contact = "kill"

[controller]
listen = "[::1]:0"

[[nodes]]
name = "n[1-3]"
cpus = 1.5
memory = "64G"
features = ["a", "b"]

[[nodes]]
name = "g[1-2]"
address = "10.0.0.[1-2]"
gres = "licence:4"

[[nodes.devices]]
name = "gpu"
type = "a100"
files = ["/dev/a", ["/dev/b", "/dev/b2"]]
numa = [0, 1]
environment = { CUDA_VISIBLE_DEVICES = "{indices}" }

[[nodes.devices]]
name = "npu"
count = 4

[[partitions]]
name = "all"
nodes = "ALL"

[[partitions]]
name = "gpu"
nodes = ["g[1-2]", "n3"]
max_time = "UNLIMITED"
default_time = 90
"""


def test_a_full_file():
    config = load.read_text(FULL).config
    cluster = config.cluster
    assert [node.name for node in cluster.nodes] == ["n1", "n2", "n3", "g1", "g2"]
    assert (cluster.nodes[0].cpus, cluster.nodes[0].memory) == (1500, 65536)
    assert [node.address for node in cluster.nodes[3:]] == ["10.0.0.1", "10.0.0.2"]
    assert cluster.nodes[3].gres == (
        Gres("gpu", "a100", 2), Gres("licence", "", 4), Gres("npu", "", 4),
    )  # fmt: skip
    assert cluster.nodes[3].devices[0].slots == (
        DeviceSlot(("/dev/a",), 0),
        DeviceSlot(("/dev/b", "/dev/b2"), 1),
    )
    assert [partition.default for partition in cluster.partitions] == [True, False]
    assert cluster.partitions[0].nodes == ("n1", "n2", "n3", "g1", "g2")
    assert cluster.partitions[1].nodes == ("g1", "g2", "n3")
    assert (cluster.partitions[1].max_time, cluster.partitions[1].default_time) == (UNLIMITED, 90)
    assert (cluster.scheduler.window, cluster.timeouts.node) == (172_800, 3.0)
    assert config.controller.listen == "[::1]:0"
    hash(config)


def test_an_empty_file_is_the_default_configuration():
    assert load.read_text("").config == Config()


NODES = '[[nodes]]\nname = "n[1-4]"\n[[partitions]]\nname = "p"\nnodes = "n[1-4]"\n'

MISTAKES = [
    ("x = ", "CONFIG_SYNTAX", 0),
    ("[cluster]\nname = 'a'\n[cluster]", "CONFIG_SYNTAX", 0),
    ("[clutser]\nname = 'a'", "CONFIG_UNKNOWN_KEY", 1),
    ("stray = 1", "CONFIG_UNKNOWN_KEY", 0),
    ("[timeouts]\n\nhartbeat = 1", "CONFIG_UNKNOWN_KEY", 3),
    ("[timeouts]\nheartbeat = 'x'", "CONFIG_VALUE", 2),
    ("[timeouts]\nheartbeat = nan", "CONFIG_VALUE", 2),
    ("[timeouts]\nheartbeat = 5\nnode = 6", "CONFIG_VALUE", 3),
    ("[timeouts]\nlease = 1", "CONFIG_VALUE", 2),
    ("[timeouts]\nkill_grace = true", "CONFIG_VALUE", 2),
    ("[timeouts]\nlost_contact = 'kil'", "CONFIG_VALUE", 2),
    ("[scheduler]\nwindow = 'soon'", "BAD_TIME", 2),
    ("[scheduler]\nwindow = 'UNLIMITED'", "CONFIG_VALUE", 2),
    ("[scheduler]\ndepth = 0", "CONFIG_VALUE", 2),
    ("[cluster]\noperators = 'ann'", "CONFIG_VALUE", 2),
    ("[cluster]\njob_requeue = 'no'", "CONFIG_VALUE", 2),
    ("[cluster]\nname = 'a b'", "CONFIG_VALUE", 2),
    ("[controller]\nlisten = 'here'", "CONFIG_VALUE", 2),
    ("[controller]\nlisten = '::1:5'", "CONFIG_VALUE", 2),
    ("[controller]\nlisten = 'a:99999'", "CONFIG_VALUE", 2),
    ("[controller]\nstate_dir = 'relative'", "CONFIG_VALUE", 2),
    (f"[agent]\nsocket = '/{'x' * 120}'", "CONFIG_VALUE", 2),
    ("[agent]\nsocket = '/run/crane/cranectld.sock'", "CONFIG_VALUE", 2),
    ("[agent]\nstate_dir = '/var/lib/crane/controller'", "CONFIG_VALUE", 2),
    ("cluster = 5", "CONFIG_VALUE", 0),
    ("nodes = 5", "CONFIG_VALUE", 0),
    ("nodes = [5]", "CONFIG_VALUE", 0),
    ("[nodes]\nname = 'n1'", "CONFIG_VALUE", 1),
    ("[[nodes]]\ncpus = 4", "CONFIG_VALUE", 1),
    ("[[nodes]]\nname = 'n1'", "CONFIG_REFERENCE", 1),
    (NODES + "[[nodes]]\nname = 'n[3-9]'", "CONFIG_DUPLICATE", 6),
    (NODES + "[[nodes]]\nname = 'n[3-'", "BAD_HOSTLIST", 7),
    (NODES + "[[nodes]]\nname = 'm'\ncpus = -1", "CONFIG_VALUE", 8),
    (NODES + "[[nodes]]\nname = 'm'\ncpus = 0.00001", "CONFIG_VALUE", 8),
    (NODES + "[[nodes]]\nname = 'm'\nmemory = '1X'", "BAD_MEMORY", 8),
    (NODES + "[[nodes]]\nname = 'm'\ngres = 'gpu:x:y'", "BAD_GRES", 8),
    (NODES + "[[nodes]]\nname = 'm'\nfeatures = ['a b']", "CONFIG_VALUE", 8),
    (NODES + "[[nodes]]\nname = 'm[1-2]'\naddress = 'a'", "CONFIG_VALUE", 6),
    (NODES + "[[nodes]]\nname = 'ALL'", "CONFIG_VALUE", 7),
    (NODES + "[[nodes]]\nname = 'm'\ngres = 'gpu:1'\n[[nodes.devices]]\nname = 'gpu'\ncount = 2",
     "CONFIG_REFERENCE", 6),
    (NODES + "[[nodes]]\nname = 'm'\n[[nodes.devices]]\nname = 'gpu'\nfile = 3", "CONFIG_UNKNOWN_KEY", 10),
    (NODES + "[[nodes]]\nname = 'm'\n[[nodes.devices]]\nname = 'gpu'", "CONFIG_VALUE", 6),
    (NODES + "[[nodes]]\nname = 'm'\n[[nodes.devices]]\ncount = 1", "CONFIG_VALUE", 6),
    (NODES + "[[nodes]]\nname = 'm'\n[[nodes.devices]]\nname = 'g'\ncount = 1\nnuma = [1, 2]",
     "CONFIG_VALUE", 6),
    (NODES + "[[nodes]]\nname = 'm'\n[[nodes.devices]]\nname = 'g'\ncount = 1\nenvironment = { A = '{x}' }",
     "CONFIG_VALUE", 6),
    (NODES + "[[nodes]]\nname = 'm'\ndevices = [1]", "CONFIG_VALUE", 8),
    (NODES + "[[partitions]]\nname = 'p'", "CONFIG_DUPLICATE", 6),
    (NODES + "[[partitions]]\nname = 'q'\nnodes = 'n[3-5]'", "CONFIG_REFERENCE", 8),
    (NODES + "default = true\n[[partitions]]\nname = 'q'\ndefault = true", "CONFIG_DUPLICATE", 9),
    (NODES + "max_time = 60\ndefault_time = 90", "CONFIG_VALUE", 7),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "line"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_found_with_its_code_and_line(text, code, line):
    findings = check.check_text(text)
    assert [(finding.code, finding.line) for finding in findings] == [(code, line)]


def test_all_mistakes_are_found_at_once_and_the_first_is_raised(tmp_path):
    path = tmp_path / "crane.toml"
    path.write_text(
        "[timeouts]\nhartbeat = 1\nnode = 'x'\n[[partitions]]\nname = 'p'\nnodes = 'n1'\n"
    )
    findings = check.check_file(str(path))
    assert [finding.place for finding in findings] == [
        "timeouts.hartbeat", "timeouts.node", "partitions[0].nodes",
    ]  # fmt: skip
    with pytest.raises(CraneError, match=r"did you mean heartbeat.*2 more") as caught:
        load.load(str(path))
    assert str(caught.value).startswith(f"{path}:2: timeouts.hartbeat:")


def test_files_that_cannot_be_read(tmp_path):
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path, code in (
        (tmp_path / "none", "CONFIG_MISSING"),
        (tmp_path, "CONFIG_UNREADABLE"),
        (binary, "CONFIG_UNREADABLE"),
    ):
        assert [finding.code for finding in check.check_file(str(path))] == [code]
        with pytest.raises(CraneError):
            load.load(str(path))


def test_search_order(tmp_path):
    named, home = tmp_path / "named.toml", tmp_path / "home"
    home.mkdir()
    for path in (named, home / "crane.toml"):
        path.write_text("")
    environ = {"CRANE_CONFIG": str(named), "CRANE_HOME": str(home)}
    assert load.find_config("/dev/null", environ) == "/dev/null"
    assert load.find_config(None, environ) == str(named)
    assert load.find_config(None, {"CRANE_HOME": str(home)}) == str(home / "crane.toml")
    for argument, variables in (("/none", {}), (None, {"CRANE_CONFIG": "/none"})):
        with pytest.raises(CraneError) as caught:
            load.find_config(argument, variables)
        assert caught.value.code == "CONFIG_MISSING"


@pytest.mark.parametrize("text", ["", FULL])
def test_what_is_explained_reads_back(text):
    loaded = load.read_text(text, "a.toml")
    shown = explain.explain(loaded)
    assert load.read_text(shown).config == loaded.config
    assert check.check_text(shown) == []
    for section, keys in schema.SECTIONS.items():
        for key in keys:
            origin = "from a.toml" if f"{section}.{key.name}" in loaded.given else "default"
            assert f"# {key.doc} ({origin})\n{key.name} = " in shown


def test_ten_thousand_nodes_are_explained_in_few_lines():
    text = '[[nodes]]\nname = "n[00001-10000]"\n[[partitions]]\nname = "p"\nnodes = "ALL"\n'
    shown = explain.explain(load.read_text(text))
    assert 'name = "n[00001-10000]"' in shown
    assert len(shown) < 8_000


def test_the_schema_has_every_field_of_the_model():
    special = {"cluster": {"nodes", "partitions", "scheduler", "priority", "timeouts", "limits"}}
    for section, keys in (schema.SECTIONS | schema.LISTS).items():
        model = {item.name for item in fields(schema.MODELS[section])}
        assert {key.name for key in keys} == model - special.get(section, set()), section


def test_the_document_explains_every_key_and_its_examples_load():
    text = DOCUMENT.read_text()
    examples = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert len(examples) >= 3
    for example in examples:
        assert check.check_text(example) == []
    tables = [*schema.SECTIONS.values(), *schema.LISTS.values(), schema.DEVICE]
    for key in (key for keys in tables for key in keys):
        rows = [line for line in text.splitlines() if line.startswith(f"| `{key.name}` |")]
        assert any(key.doc in row for row in rows), key.name


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**12) | st.floats(0, 99) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(
        [(s, k) for s, keys in (schema.SECTIONS | schema.LISTS).items() for k in keys]
        + [("nodes.devices", k) for k in schema.DEVICE]
    ),
    values,
)
def test_a_value_of_any_type_is_taken_or_found(place, value):
    section, key = place
    row = {key.name: value}
    document = {
        "nodes": {"nodes": [{"name": "n1"} | row]},
        "partitions": {"partitions": [{"name": "p"} | row]},
        "nodes.devices": {"nodes": [{"name": "n1", "devices": [{"name": "g"} | row]}]},
    }.get(section, {section: row})
    reader = load._Reader("")
    config = reader.config(document)
    assert reader.findings or isinstance(config, Config)


@settings(deadline=None, max_examples=100)
@given(st.text("[]nodes.pam =\"'1\n{},", max_size=40))
def test_arbitrary_text_gives_findings_never_another_error(text):
    check.check_text(text)
