"""Has pytest say which test shows which requirement, and writes it as ``femtoclaw/compliance/tests.json``."""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REGISTER = ROOT / "femtoclaw" / "compliance" / "register.toml"
MAP = ROOT / "femtoclaw" / "compliance" / "tests.json"


def collected() -> dict[str, list[str]]:
    """Requirement id to ``file::function``, without the parameters of a test."""
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.json")
        words = ["-m", "pytest", "--collect-only", "-q", "--requirements-report", report, str(ROOT / "tests")]
        done = subprocess.run([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(done.stdout[-2000:])
        shown = json.loads(Path(report).read_text())
    known = {
        entry["id"] for entry in tomllib.loads(REGISTER.read_text())["requirement"]
    }  # the invariants are not of it
    return {
        name: sorted({test.partition("[")[0] for test in tests}) for name, tests in sorted(shown.items()) if name in known
    }  # fmt: skip


if __name__ == "__main__":
    MAP.write_text(json.dumps(collected(), indent=1, sort_keys=True) + "\n")
    print(f"{MAP}: {len(json.loads(MAP.read_text()))} requirements")
