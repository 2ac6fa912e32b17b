"""Makes the Python code of proto/ with the locked compiler. Usage: scripts/protoc [FOLDER].

Only messages: the services' paths and types are in the descriptor, so a second generated file would say nothing new.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
PLACES = {Path("femtoclaw/v1"): Path("femtoclaw/api/v1")}
"""Where the code goes of what does not go to the same place: the name of a contract is not that of a package."""


def generate(target: Path) -> list[Path]:
    """Write the code of every file below ``proto/`` to its place below ``target``; the paths, relative to it."""
    from grpc_tools import protoc

    made = []
    for source in sorted(PROTO.rglob("*.proto")):
        relative = source.relative_to(PROTO)
        place = PLACES.get(relative.parent, relative.parent)
        (target / place).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            arguments = [f"--proto_path={PROTO}", f"--proto_path={files('grpc_tools') / '_proto'}"]
            outputs = [f"--python_out={folder}", f"--pyi_out={folder}"]
            if protoc.main(["protoc", *arguments, *outputs, str(relative)]) != 0:
                raise SystemExit(f"the compiler refused {relative}")
            for name in (f"{relative.stem}_pb2.py", f"{relative.stem}_pb2.pyi"):
                shutil.copyfile(Path(folder) / relative.parent / name, target / place / name)
                made.append(place / name)
    return made


if __name__ == "__main__":
    for path in generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT):
        print(path)
