"""Makes the Python code of proto/ with the locked compiler. Usage: scripts/protoc [FOLDER].

Only messages: the services' paths and types are in the descriptor, so a second generated file would say nothing new.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"


def generate(target: Path) -> list[Path]:
    """Write the code of every file below ``proto/`` to the same place below ``target``; the paths, relative to it."""
    from grpc_tools import protoc

    made = []
    for source in sorted(PROTO.rglob("*.proto")):
        relative = source.relative_to(PROTO)
        (target / relative.parent).mkdir(parents=True, exist_ok=True)
        arguments = [f"--proto_path={PROTO}", f"--proto_path={files('grpc_tools') / '_proto'}"]
        outputs = [f"--python_out={target}", f"--pyi_out={target}"]
        if protoc.main(["protoc", *arguments, *outputs, str(relative)]) != 0:
            raise SystemExit(f"the compiler refused {relative}")
        made += [relative.with_name(relative.stem + "_pb2" + suffix) for suffix in (".py", ".pyi")]
    return made


if __name__ == "__main__":
    for path in generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT):
        print(path)
