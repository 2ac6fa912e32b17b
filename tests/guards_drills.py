"""Guards without which a drill of the runbook fails: a drill that cannot fail shows nothing."""

from tests.guard import Guard

_DRILL = "tests/cli/test_drills.py::test_a_drill_ends_as_the_runbook_says"

GUARDS = (
    Guard("I10", "the drill of an edited policy needs the start that refuses it", "femtoclaw/integrity.py",
          "if result == DIFFERS and not takes_files(node):", "if False:", f"{_DRILL}[tampered-policy]", slow=True),
    Guard("I2", "the drill of an older store needs HEAD's promise", "wal/examination.py",
          'facts["reaches"] = self.last >= self.promised', 'facts["reaches"] = True', f"{_DRILL}[rollback-attack]", slow=True),
    Guard("I7", "the drill of a killed node needs an outcome that is unknown", "femtoclaw/crash_rules.py",
          "if execution.started or node.tail_in_doubt:", "if node.tail_in_doubt:", f"{_DRILL}[killed-node]", slow=True),
    Guard("I10", "the drill of an altered program alters a copy that the home trusts", "femtoclaw/releases/copying.py",
          "_copy_sealed(folder) if start.verified is not None else", "_copy_sealed(folder) if False else",
          "tests/cli/test_release_commands.py::test_a_sealed_checkout_is_drilled", slow=True),
    Guard("I12", "a drill that is stopped removes its homes", "femtoclaw/cli/drilling.py",
          "        signal.signal(each, stop)\n", "        pass\n",
          "tests/cli/test_drills.py::test_a_drill_that_is_stopped_leaves_nothing"),
)  # fmt: skip
