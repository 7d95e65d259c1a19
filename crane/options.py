"""Every option of `csub` and `crun`, in one table, and the parser of their command lines.

One table serves the command line, the `#CRANE` and `#SBATCH` lines of scripts, the environment and
`--help`, so that an option means the same wherever it is written. The parser is our own because the
usual one costs more time than the rest of the command, accepts abbreviations, and cannot stop at
the script's name.
"""

from __future__ import annotations

from crane import signals, values
from crane.errors import CraneError, ErrorCode, did_you_mean, shown
from crane.record import dataclass, field

TYPE_CHECKING = False  # importing `typing` would cost every command milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CSUB = "csub"
CRUN = "crun"
BOTH = (CSUB, CRUN)

ENV_PREFIXES = {CSUB: ("CSUB_", "SBATCH_"), CRUN: ("CRUN_", "SRUN_")}
"""Prefixes of the variables that set options, the more important first."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option; `parse` None marks a flag, whose value is `const`."""

    long: str
    short: str = ""
    metavar: str = ""
    parse: Callable[[str], object] | None = None
    target: str = ""
    """Key of the parsed value; empty: the long name with underscores."""
    help: str = ""
    tools: tuple[str, ...] = BOTH
    const: object = True
    optional: bool = False
    """The value may be left out (then only `--x=value` gives one, never the next word)."""
    env: str | None = None
    """Suffix of its variables; None: derived from the long name; empty: it has none."""
    inert: bool = False
    """Accepted for Slurm's sake, without effect: the user is told once."""
    group: str = ""
    """Options of one group exclude each other."""

    @property
    def key(self) -> str:
        """Key of the value in the parsed options."""
        return self.target or self.long.replace("-", "_")

    @property
    def env_suffix(self) -> str:
        """What follows `CSUB_` in the name of its variable; empty if there is none."""
        return self.long.replace("-", "_").upper() if self.env is None else self.env


@dataclass(frozen=True, slots=True)
class Parsed:
    """Options of one source: key to value; None for one given empty, which unsets it."""

    options: dict[str, object] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    """Where each was written (`--time`, `SBATCH_TIMELIMIT`, `job.sh:3: --time`), for messages."""
    positionals: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def _flag(long: str, text: str, short: str = "", **more: object) -> Option:
    return Option(long, short, help=text, **more)  # type: ignore[arg-type]


def _inert(
    long: str, short: str = "", tools: tuple[str, ...] = BOTH, *, optional: bool = False
) -> Option:
    note = "accepted and ignored"
    return Option(
        long, short, "X", values.text, "", note, tools, optional=optional, env="", inert=True
    )


TABLE: tuple[Option, ...] = (
    # What to run.
    Option("job-name", "J", "NAME", values.name, help="name of the job"),
    Option("wrap", "", "COMMAND", values.wrapped, help="run COMMAND in sh instead of a script", tools=(CSUB,), env=""),
    Option("chdir", "D", "DIR", values.path, "work_dir", "working directory (default: the current one)"),
    Option("export", "", "WHAT", values.text, help="environment: ALL, NONE, or names and NAME=value"),
    Option("input", "i", "FILE", values.pattern, "stdin", "standard input"),
    Option("output", "o", "FILE", values.pattern, "stdout", "standard output; %j, %A, %a, %x ... as in sbatch(1)"),
    Option("error", "e", "FILE", values.pattern, "stderr", "standard error (default: with the output)"),
    Option("open-mode", "", "MODE", values.open_mode, help="append to output files, or truncate them"),
    # How much of what.
    Option("nodes", "N", "MIN[-MAX]", values.nodes, help="number of nodes"),
    Option("ntasks", "n", "N", values.tasks, help="number of tasks"),
    Option("ntasks-per-node", "", "N", values.tasks, help="tasks on each node"),
    Option("cpus-per-task", "c", "N", values.cpus, help="CPUs of each task; 0.5 is half a CPU"),
    Option("mem", "", "SIZE", values.memory, "mem_per_node", "memory per node: 500M, 4G; 0: all (with --exclusive)", env="MEM_PER_NODE", group="memory"),
    Option("mem-per-cpu", "", "SIZE", values.memory, help="memory per CPU", group="memory"),
    Option("mem-per-gpu", "", "SIZE", values.memory, help="memory per GPU of the node", group="memory"),
    Option("gres", "", "LIST", values.resources, help="generic resources per node: gpu:a100:2,npu:4"),
    Option("gpus-per-node", "", "[TYPE:]N", values.gpus, help="GPUs per node", group="gpus"),
    Option("gpus-per-task", "", "[TYPE:]N", values.gpus, help="GPUs per task", group="gpus"),
    Option("gpus", "G", "[TYPE:]N", values.gpus, help="GPUs of the whole job", group="gpus"),
    Option("exclusive", "", "", values.exclusive, help="whole nodes", optional=True),
    Option("licenses", "L", "LIST", values.licences, "licences", "licences: name:count,..."),
    # Where.
    Option("partition", "p", "LIST", values.words, "partitions", "partitions, in order of preference"),
    Option("nodelist", "w", "LIST", values.hosts, help="nodes the job must have"),
    Option("exclude", "x", "LIST", values.hosts, help="nodes the job must not have"),
    Option("constraint", "C", "EXPR", values.constraint, "features", "node features: a&b|c; of all nodes [r1|r2]; [r1*2&r2*4]"),
    Option("reservation", "", "NAME", values.name, help="run within a reservation"),
    Option("switches", "", "N[@TIME]", values.text, help="at most N switches between the nodes", env=""),
    # When.
    Option("time", "t", "TIME", values.duration, "time_limit", "time limit: minutes, HH:MM:SS, D-HH:MM", env="TIMELIMIT"),
    Option("time-min", "", "TIME", values.duration, help="least time limit the job can do with"),
    Option("begin", "b", "WHEN", values.when, help="do not start before: 16:00, now+2hours, 2026-01-20"),
    Option("deadline", "", "WHEN", values.when, help="be done by then, or do not run"),
    Option("dependency", "d", "LIST", values.after, help="wait for others: afterok:12:13, singleton"),
    Option("array", "a", "INDICES", values.array, help="many tasks: 0-99:2%10", tools=(CSUB,), env="ARRAY_INX"),
    _flag("hold", "submit held", "H", tools=(CSUB,), env=""),
    Option("nice", "", "N", values.nice, help="lower the priority by N", optional=True),
    Option("priority", "", "N", values.priority, help="set the priority (operators)"),
    Option("signal", "", "[B:]SIG[@S]", signals.parse_warning, help="send SIG S seconds before the limit"),
    _flag("requeue", "run again after a node failure", target="requeue", tools=(CSUB,)),
    _flag("no-requeue", "do not run again after a node failure", target="requeue", const=False, tools=(CSUB,)),
    # In whose name.
    Option("account", "A", "NAME", values.name, help="account to charge"),
    Option("qos", "q", "NAME", values.name, help="quality of service"),
    Option("wckey", "", "NAME", values.name, help="label for reports"),
    Option("comment", "", "TEXT", values.text, help="free text"),
    Option("extra", "", "TEXT", values.text, help="free text for portals"),
    Option("mail-type", "", "LIST", values.mail_type, help="events to send mail about", env=""),
    Option("mail-user", "", "ADDRESS", values.text, help="whom to send mail to", env=""),
    # Of csub itself.
    _flag("parsable", "print only the job's id", tools=(CSUB,), env=""),
    _flag("wait", "wait for the job to end; exit as it did", "W", tools=(CSUB,)),
    _flag("dry-run", "say whether and as what the job would be accepted; submit nothing", tools=(CSUB,), env=""),
    _flag("test-only", "the same as --dry-run", target="dry_run", tools=(CSUB,), env=""),
    _flag("json", "print JSON", env=""),
    _flag("quiet", "print only errors", "Q", env=""),
    # Of crun itself.
    _flag("pty", "give the first task a terminal", tools=(CRUN,), env=""),
    _flag("label", "put the task's number before each line", "l", tools=(CRUN,)),
    _flag("unbuffered", "pass output on at once", "u", tools=(CRUN,)),
    _flag("overlap", "share the CPUs of other steps", tools=(CRUN,)),
    _flag("exact", "use only what this step asks for", tools=(CRUN,)),
    Option("kill-on-bad-exit", "K", "0|1", values.bit, help="end the step when a task fails", tools=(CRUN,), optional=True),
    Option("jobid", "", "JOB", values.tasks, help="run within this job", tools=(CRUN,), env=""),
    Option("rendezvous", "", "KIND", values.rendezvous, help="set the variables a launcher needs: torch", tools=(CRUN,)),
    # Every command.
    _flag("help", "show this help", "h", env=""),
    _flag("version", "show the version", "V", env=""),
    # Slurm's, harmless to ignore.
    _flag("verbose", "accepted and ignored", "v", env="", inert=True),
    _flag("contiguous", "accepted and ignored", env="", inert=True),
    _flag("spread-job", "accepted and ignored", env="", inert=True),
    _flag("no-bell", "accepted and ignored", env="", inert=True),
    _inert("get-user-env", optional=True),
    _inert("kill-on-invalid-dep"),
    _inert("clusters", "M"),
    _inert("no-kill", "k", optional=True),
    _inert("oversubscribe", "s", (CSUB,), optional=True),
    _inert("distribution", "m"),
    _inert("hint"),
    _inert("threads-per-core"),
    _inert("ntasks-per-core"),
    _inert("ntasks-per-socket"),
    _inert("mem-bind"),
    _inert("gpu-bind"),
    _inert("cpu-freq"),
    _inert("profile"),
    _inert("acctg-freq"),
    _inert("propagate", optional=True),
    _inert("cpu-bind", "", (CRUN,)),
    _inert("mpi", "", (CRUN,)),
)  # fmt: skip


def table_for(tool: str) -> dict[str, Option]:
    """Options of a tool by spelling: `--time` and `-t`."""
    found: dict[str, Option] = {}
    for option in TABLE:
        if tool in option.tools:
            found[f"--{option.long}"] = option
            if option.short:
                found[f"-{option.short}"] = option
    return found


def parse_argv(argv: Sequence[str], tool: str, table: Mapping[str, Option] | None = None) -> Parsed:
    """Options and positionals of a command line, up to the first positional or `--`.

    `--x=y`, `--x y`, `-Xy`, `-X y`, flags joined (`-HW`). A later option overrides an earlier one;
    an empty value unsets it. Abbreviations are refused: they change meaning when options are added.
    Raises UNKNOWN_OPTION, USAGE, and whatever the value's own parser raises.
    """
    spelled = table_for(tool) if table is None else table
    reader = _Reader(spelled)
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            reader.long(word, words)
        elif word.startswith("-") and word != "-":
            reader.short(word, words)
        else:
            words.insert(0, word)
            break
    return reader.parsed(tuple(words))


def parse_environ(environ: Mapping[str, str], tool: str) -> Parsed:
    """Options set by variables; of two for one option the tool's own name wins over Slurm's.

    An empty variable counts as not set; a flag's variable is on unless it is `0`, `no` or `false`.
    """
    reader = _Reader({})
    prefixes = ENV_PREFIXES[tool]
    for option in TABLE:
        if tool not in option.tools or not option.env_suffix or option.inert:
            continue
        for prefix in prefixes:
            variable = prefix + option.env_suffix
            text = environ.get(variable, "")
            if not text:
                continue
            if option.parse is not None:
                whole = option.optional and text.lower() in {"1", "yes", "true"}
                reader.store(option, variable, "" if whole else text)
            elif text.lower() not in {"0", "no", "false"}:
                reader.store(option, variable, None)
            break
    return reader.parsed(())


class _Reader:
    """Collects options; `table` maps spellings to options."""

    def __init__(self, table: Mapping[str, Option]) -> None:
        self.table = table
        self.options: dict[str, object] = {}
        self.places: dict[str, str] = {}
        self.groups: dict[str, str] = {}
        self.notices: dict[str, None] = {}

    def parsed(self, positionals: tuple[str, ...]) -> Parsed:
        return Parsed(self.options, self.places, positionals, tuple(self.notices))

    def long(self, word: str, rest: list[str]) -> None:
        spelling, equals, text = word.partition("=")
        option = self.table.get(spelling)
        if option is None:
            raise self._unknown(spelling)
        if option.parse is None:
            if equals:
                raise CraneError(ErrorCode.USAGE, f"{spelling} takes no value")
            self.store(option, spelling, None)
        elif equals or option.optional:
            self.store(option, spelling, text, empty_unsets=bool(equals))
        else:
            self.store(option, spelling, self._next(spelling, rest), empty_unsets=True)

    def short(self, word: str, rest: list[str]) -> None:
        letters = word[1:]
        while letters:
            spelling, letters = f"-{letters[0]}", letters[1:]
            option = self.table.get(spelling)
            if option is None:
                raise self._unknown(spelling if len(word) == 2 else word)
            if option.parse is None:
                self.store(option, spelling, None)
                continue
            if letters or option.optional:
                self.store(option, spelling, letters)
            else:
                self.store(option, spelling, self._next(spelling, rest), empty_unsets=True)
            return

    def _next(self, spelling: str, rest: list[str]) -> str:
        if not rest:
            raise CraneError(ErrorCode.USAGE, f"{spelling} needs a value")
        return rest.pop(0)

    def _unknown(self, spelling: str) -> CraneError:
        longs = [known[2:] for known in self.table if known.startswith("--")]
        hint = did_you_mean(spelling.lstrip("-"), longs, "--") or "see --help"
        return CraneError(ErrorCode.UNKNOWN_OPTION, f"unknown option {shown(spelling)}", hint)

    def store(
        self, option: Option, place: str, text: str | None, *, empty_unsets: bool = False
    ) -> None:
        """Keep one option; `text` None for a flag."""
        value: object
        if option.inert:
            self.notices[f"{place} is accepted for compatibility and has no effect"] = None
            return
        if text is None or option.parse is None:
            value = option.const
        elif not text and (empty_unsets or not option.optional):
            value = None
        else:
            try:
                value = option.parse(text)
            except CraneError as error:
                raise error.at(place) from None
        other = self.groups.get(option.group) if option.group and value is not None else None
        if other is not None and other != option.key:
            raise CraneError(
                ErrorCode.CONFLICT,
                f"{place} and {self.places[other]} exclude each other",
                "give one of them",
            )
        if option.group and value is not None:
            self.groups[option.group] = option.key
        self.options[option.key] = value
        self.places[option.key] = place


GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(option.key for option in TABLE if option.group == group)
    for group in ("memory", "gpus")
}
"""Keys that exclude each other; one from a more important source replaces the others."""


def merge(sources: Sequence[Parsed]) -> Parsed:
    """One set of options from sources in rising importance; positionals of the last."""
    options: dict[str, object] = {}
    places: dict[str, str] = {}
    notices: dict[str, None] = {}
    for source in sources:
        for keys in GROUPS.values():
            if any(source.options.get(key) is not None for key in keys):
                for key in keys:
                    options.pop(key, None)
        options |= source.options
        places |= source.places
        notices |= dict.fromkeys(source.notices)
    positionals = sources[-1].positionals if sources else ()
    return Parsed(options, places, positionals, tuple(notices))


def help_text(tool: str, usage: str) -> str:
    """The `--help` of a tool: its usage and one line per option."""
    lines = [f"usage: {usage}", ""]
    quiet: list[str] = []
    for option in TABLE:
        if tool not in option.tools:
            continue
        if option.inert:
            quiet.append(f"--{option.long}")
            continue
        short = f"-{option.short}, " if option.short else "    "
        sign = (
            ("[={}]" if option.optional else "={}").format(option.metavar) if option.metavar else ""
        )
        left = f"  {short}--{option.long}{sign}"
        gap = left.ljust(34) if len(left) < 33 else f"{left}\n{'':34}"
        lines.append(gap + option.help)
    lines += ["", "Accepted without effect: " + " ".join(quiet)]
    first, second = ENV_PREFIXES[tool]
    lines += [
        "",
        f"Options may also be set by variables {first}... or {second}... ({first}TIMELIMIT=30).",
    ]
    return "\n".join(lines) + "\n"
