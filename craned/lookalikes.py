"""`crun`, `srun` and `scontrol` for the inside of jobs.

Open MPI calls `srun` as soon as it sees SLURM_JOBID, and launch scripts run `scontrol show hostnames`.
They, and `crun` itself, are small scripts in a directory that comes first in jobs' PATH; they run
this installation's own commands with its own Python, whatever the job has made of its environment.
"""

from __future__ import annotations

import os
import shlex
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_COMMAND = (
    "import sys; sys.path.insert(0, {root!r}); sys.argv[0] = {name!r}; "
    "from cli.{module} import main; sys.exit(main())"
)
_CRUN = """\
#!/bin/sh
# Runs tasks on the nodes of this job; accepts srun's usual options.
exec {python} -I -c {command} "$@"
"""
_SCONTROL = """\
#!/bin/sh
# Inside a job: scontrol show hostnames [LIST], and what else ccontrol understands.
exec {python} -I -c {command} "$@"
"""


def install(directory: str) -> str:
    """Write the scripts, readable by everybody; the directory. Raises OSError."""
    os.makedirs(directory, mode=0o755, exist_ok=True)
    os.chmod(directory, 0o755)  # noqa: S103 - for the jobs of every user
    _script(f"{directory}/crun", _CRUN, "crun", "crun")
    _script(f"{directory}/srun", _CRUN, "srun", "crun")
    _script(f"{directory}/scontrol", _SCONTROL, "scontrol", "ccontrol")
    return directory


def _script(path: str, text: str, name: str, module: str) -> None:
    command = _COMMAND.format(root=_ROOT, name=name, module=module)
    content = text.format(python=shlex.quote(sys.executable), command=shlex.quote(command))
    partial = f"{path}.new"
    with open(partial, "w", encoding="utf-8") as file:
        file.write(content)
    os.chmod(partial, 0o755)  # noqa: S103 - for the jobs of every user
    os.replace(partial, path)
