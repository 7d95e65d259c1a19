"""Generate crane/v1 and crane/log/v1 from proto/, or check that what is committed is current.

The generator is pinned (pyproject.toml, extra `dev`): code it makes loads with that runtime and
every later one (docs/adr/0002).
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("crane/v1", "crane/log/v1")


def generate(out: Path) -> None:
    """Write `*_pb2.py`, `*_pb2.pyi` (and `*_pb2_grpc.py` for services) below `out`."""
    for package in PACKAGES:
        files = sorted(
            str(p.relative_to(ROOT / "proto")) for p in (ROOT / "proto" / package).glob("*.proto")
        )
        bindir = Path(sys.executable).parent
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}"]
        command += [f"--plugin=protoc-gen-mypy={bindir / 'protoc-gen-mypy'}"]
        command += [f"--python_out={out}", f"--mypy_out=quiet:{out}", *files]
        subprocess.run(command, check=True, cwd=ROOT)
    services = ["crane/v1/control.proto", "crane/v1/agent.proto"]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}"]
    subprocess.run([*command, f"--grpc_python_out={out}", *services], check=True, cwd=ROOT)


def main() -> int:
    """Exit status 1 if `--check` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as tmp:
        generate(Path(tmp))
        stale = []
        for package in PACKAGES:
            made = sorted((Path(tmp) / package).glob("*_pb2*"))
            kept = {p.name for p in (ROOT / package).glob("*_pb2*")} - {p.name for p in made}
            stale += [f"{package}/{name}" for name in sorted(kept)]
            for path in made:
                target = ROOT / package / path.name
                if not target.exists() or not filecmp.cmp(path, target, shallow=False):
                    stale.append(f"{package}/{path.name}")
                    if not check:
                        shutil.copy(path, target)
    if check and stale:
        sys.stderr.write("generated code differs from proto/: run `make proto`:\n")
        sys.stderr.writelines(f"  {name}\n" for name in stale)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
