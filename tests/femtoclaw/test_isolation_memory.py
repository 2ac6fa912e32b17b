"""Memory that no limit of a process counts: a native module has one sealed file of it, for its code, and nobody any other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from femtoclaw.isolation import Isolation
from femtoclaw.modules.store import install_files
from tests.femtoclaw.built_modules import built, manifest
from tests.femtoclaw.isolated import ROOT, declared

ATTACKS = "tests.femtoclaw.hostile_attacks"
TAKES_MORE = """int32_t femtoclaw_module_execute(const femtoclaw_execution_request *q, femtoclaw_execution_response *r) {
    static char said[200];
    int made = memfd_create("more", 0), error = errno, held = 0, written = 0;
    for (int fd = 3; fd < 64; fd++) {
        struct stat found;
        if (!fstat(fd, &found) && S_ISREG(found.st_mode) && !found.st_nlink) held++;
    }
    for (int fd = 0; fd < during; fd++) written += pwrite(inside[fd], "x", 1, 0) == 1 || !ftruncate(inside[fd], 1 << 24);
    snprintf(said, sizeof said, "{\\"made\\":%s,\\"errno\\":%d,\\"held\\":%d,\\"during\\":%d,\\"written\\":%d,\\"starts\\":%d}",
             made < 0 ? "false" : "true", error, held - during, during, written, starts);
    r->status_code = 0; r->result_json = said; return 0; }"""
KEEPS = """
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
int memfd_create(const char *, unsigned), ftruncate(int, off_t);
ssize_t pwrite(int, const void *, size_t, off_t);
static int inside[1], during, starts;
__attribute__((constructor)) static void keep(void) {
    for (int fd = 3; fd < 64 && !during; fd++) {
        struct stat found;
        if (!fstat(fd, &found) && S_ISREG(found.st_mode) && !found.st_nlink) {
            inside[during++] = dup(fd);
            starts = (found.st_mode & 0111) != 0;
        }
    }
}
"""


def unstartable() -> bool:
    """Whether this kernel makes files in memory that cannot be started (Linux 6.3)."""
    try:
        os.close(os.memfd_create("trial", 8))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("permissions", [(), ("workspace.write",), ("workspace.read", "execute")], ids="+".join)
def test_a_native_module_has_its_code_and_no_other_memory(tmp_path: Path, permissions: tuple[str, ...]) -> None:
    """It is loaded from memory with every permission; a descriptor of that it keeps writes and grows nothing."""
    (tmp_path / "workspace").mkdir()
    (tmp_path / "source").mkdir()
    raw = built("native", tmp_path / "source", top=KEEPS, execute=TAKES_MORE)
    files = {"module.so": raw}
    module = manifest("native:module.so", files, permissions=list(permissions))
    store = str(tmp_path / "modules")
    install_files(store, module, files)
    isolation = Isolation(str(tmp_path / "workspace"), modules=("femtoclaw.isolation.native",), module_store=store)
    try:
        outcome = isolation.run(module, {"text": "word"}, {}, idempotency_key="e-1")
    finally:
        isolation.close()
    expected = {"made": False, "errno": 38, "held": 0, "during": 1, "written": 0, "starts": int(not unstartable())}
    assert outcome.result == expected, outcome


@pytest.mark.parametrize("permissions", [("workspace.read",), ("workspace.read", "execute")], ids="+".join)
def test_other_claws_have_none_at_all(workspace: Path, permissions: tuple[str, ...]) -> None:
    """What was made ahead for a native module is closed before their code runs."""
    isolation = Isolation(str(workspace), modules=(ATTACKS,), search_path=str(ROOT))
    try:
        held = isolation.run(declared(ATTACKS, "held", 20.0, permissions), {}, {}).result
    finally:
        isolation.close()
    assert held == {"in_memory": 0}
