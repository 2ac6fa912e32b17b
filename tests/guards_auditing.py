"""Guards of the audit: verified answers, exports, retention, certificates, and the use of keys."""

from __future__ import annotations

from tests.guard import Guard

_QUERY = "tests/cli/test_audit_query.py::"
_EXPORT = "tests/cli/test_audit_export.py::"
_RETAIN = "tests/cli/test_audit_retain.py::"
_CERTIFICATE = "tests/femtoclaw/test_certificate.py::"
_KEYS = "tests/cli/test_audit_keys.py::"
_CHECKER = "scripts/check_audit_export.py"
_STRANGER = _EXPORT + "test_a_stranger_checks_order_completeness_and_chain"
_STATEMENT = _EXPORT + "test_another_reader_verifies_the_statement_about_an_execution"
_KINDS = _CERTIFICATE + "test_each_kind_of_evidence_is_needed"
_ACCOUNTED = _KEYS + "test_a_signature_that_the_log_does_not_account_for_is_reported"

GUARDS = (
    Guard(
        "I10", "a query's records have the root that was signed", "femtoclaw/auditing/verified_range.py",
        "frontier.root() != checkpoint.root", "False",
        _QUERY + "test_nothing_is_answered_over_another_history_than_the_signed_one",
    ),
    Guard(
        "I10", "a query's rows are those that were written", "femtoclaw/auditing/questions.py", "    if damaged:\n",
        "    if False:\n", _QUERY + "test_rows_that_were_changed_are_found_wherever_they_stand",
    ),
    Guard(
        "I10", "a range is exported under a signature only", "femtoclaw/auditing/lines.py",
        "not 1 <= self.first <= self.last <= size", "False",
        _EXPORT + "test_mistakes_exit_with_2_and_leave_nothing",
    ),
    Guard(
        "I10", "an export that is not on record as done does not stay", "femtoclaw/cli/audit_export.py",
        "            os.unlink(path)\n", "            pass\n", _EXPORT + "test_what_fails_on_the_way_leaves_no_file",
    ),
    Guard(
        "I10", "a checker outside compares the root with the signed one", _CHECKER,
        "need(not proof and old_root == new_root,", "need(True,",
        _EXPORT + "test_a_whole_forged_history_has_no_signature",
    ),
    Guard(
        "I10", "a checker outside compares what is shown with what was recorded", _CHECKER,
        'need(values == shown["fields"][: len(values)],', "need(True,", _STRANGER,
    ),
    Guard(
        "I10", "a statement's signature is verified", "femtoclaw/auditing/receipts.py",
        "    verify_signature(_to_be_signed(protected, payload), signature, key)\n", "", _STATEMENT,
    ),
    Guard(
        "I10", "a receipt's signature is verified over the root that its paths lead to", "femtoclaw/auditing/receipts.py",
        "    verify_signature(_to_be_signed(protected, root), signature, key)\n", "",
        _EXPORT + "test_a_receipt_of_another_root_or_place_is_none",
    ),
    Guard(
        "I10", "the size of a receipt's tree is signed", "femtoclaw/auditing/receipts.py",
        " or header.get(CLAIMS) != _of_tree(issuer, size)", "",
        _EXPORT + "test_a_hostile_statement_is_refused_by_a_typed_error",
    ),
    Guard(
        "I1", "nothing young is archived as old", "femtoclaw/auditing/retention.py",
        "if newest > now_ns - days * DAY_NS:", "if False:",
        _RETAIN + "test_what_is_old_is_archived_on_record_and_nothing_is_deleted",
    ),
    Guard(
        "I1", "what was archived is read back before it counts", "femtoclaw/cli/audit_retain.py",
        "if not report.ok or report.size < bound or report.root != root:", "if False:",
        _RETAIN + "test_an_archive_that_does_not_give_it_back_is_not_taken_for_one",
    ),
    Guard(
        "I10", "a certificate rests on a report that is on record", "femtoclaw/auditing/denial.py",
        "if digest not in facts.on_record:", "if False:", _KINDS,
    ),
    Guard(
        "I10", "a certificate rests on a log that verifies", "femtoclaw/auditing/denial.py", "if not facts.log_sound:",
        "if False:", _KINDS,
    ),
    Guard(
        "I10", "a certificate rests on a program that was verified", "femtoclaw/auditing/denial.py",
        'if facts.binary != "verified":', "if False:", _KINDS,
    ),
    Guard(
        "I10", "one MUST that is not met denies a certificate", "femtoclaw/auditing/denial.py", "        if bad:\n",
        "        if False:\n", _CERTIFICATE + "test_what_a_verdict_denies",
    ),
    Guard(
        "I10", "a certificate's parts are the certified ones", "femtoclaw/auditing/certificate.py",
        'if body["parts"].get(name) != found:', "if False:", _CERTIFICATE + "test_a_part_or_a_word_that_is_another_is_refused",
    ),
    Guard(
        "I10", "a certificate is the chosen authority's", "femtoclaw/auditing/certificate.py",
        "if key is not None and key != signer:", "if False:",
        _CERTIFICATE + "test_a_part_or_a_word_that_is_another_is_refused",
    ),
    Guard(
        "I10", "a level needs every step below it", "femtoclaw/auditing/levels.py",
        "if not all(step.met for step in asked if step.level == number):", "if False:",
        _CERTIFICATE + "test_a_level_needs_every_step_below",
    ),
    Guard(
        "I10", "an algorithm that takes what it must refuse fails its selftest", "femtoclaw/auditing/vectors.py",
        "return self.holds and self.refuses", "return self.holds",
        _KEYS + "test_a_vector_that_does_not_hold_is_told",
    ),
    Guard(
        "I10", "a signed checkpoint of another history is reported", "femtoclaw/auditing/signatures.py",
        "if reader.tree().root(checkpoint.size) != checkpoint.root:", "if False:", _ACCOUNTED,
    ),
    Guard(
        "I10", "a signature that nothing in the log accounts for is reported", "femtoclaw/auditing/signatures.py",
        'key.vkey(), UNACCOUNTED, f"nothing', 'key.vkey(), ACCOUNTED, f"nothing', _ACCOUNTED,
    ),
    Guard(
        "I5", "a version that asks for more is granted anew", "femtoclaw/control_effects.py",
        "if not set(manifest.permissions) <= set(before.permissions):", "if False:",
        "tests/cli/test_claws.py::test_a_version_that_asks_for_more_is_granted_anew",
    ),
    Guard(
        "I10", "a step back of the wall clock is told", "femtoclaw/authority.py", "        if stepped:", "        if False:",
        "tests/cli/test_clock_steps.py::test_each_step_back_is_told_once",
    ),
    Guard(
        "I10", "one step of the clock is told once", "femtoclaw/authority.py",
        "stepped = behind > told + CLOCK_STEP_NS", "stepped = behind > CLOCK_STEP_NS",
        "tests/cli/test_clock_steps.py::test_each_step_back_is_told_once",
    ),
    Guard(
        "I5", "pruning is on record where the node is at hand", "femtoclaw/cli/backup_pruning.py",
        "if arguments.dry_run or not its:", "if True:",
        "tests/cli/test_backup.py::test_old_backups_go_and_what_newer_ones_need_stays",
    ),
    Guard(
        "I1", "locks of a kept log are no part of a backup", "femtoclaw/backup/home_files.py", ', "lock.mdb")', ")",
        "tests/femtoclaw/test_migration_backup.py::test_the_sealed_old_log_is_in_a_backup",
    ),
    Guard("I5", "a certificate whose folder is gone is revoked by the record", "femtoclaw/cli/certifying.py",
          "    name = _issued(home, arguments.target)", "    name = os.path.basename(_folder(home, arguments, output)) and ''",
          "tests/femtoclaw/test_certificate.py::test_a_certificate_is_worth_what_the_node_still_is", slow=True),
    Guard("I5", "a span of time that is none is a mistake and no empty answer", "femtoclaw/cli/auditing.py",
          "    if since is not None and until is not None and since > until:", "    if False:",
          "tests/cli/test_audit_query.py::test_mistakes_exit_with_2"),
)  # fmt: skip
