"""Guards of keys and secrets: where they rest, who may use them, and every text that must not hold them."""

from __future__ import annotations

from tests.guard import Guard

SECRETS = "tests/cli/test_secrets.py"
BRAINS = "tests/femtoclaw/test_brains.py"
KEY_FILE = "tests/femtoclaw/test_key_file.py"
KEYS = "tests/femtoclaw/test_keys.py"
REDACTION = "tests/femtoclaw/test_redaction.py"

GUARDS = (
    Guard(
        "I12",
        "a key that cannot be sent is refused where it is read",
        "femtoclaw/brains/openai.py",
        "if api_key is not None and not (",
        "if False and not (",
        SECRETS + "::test_a_key_that_cannot_be_sent_is_refused_unseen",
    ),
    Guard(
        "I12",
        "an answer that holds the key is none",
        "femtoclaw/brains/openai.py",
        "if len(key) >= KEY_CHARS_MIN and",
        "if False and",
        SECRETS + "::test_an_endpoint_that_shows_the_key_it_got_cannot_place_it",
    ),
    Guard(
        "I12",
        "a key behind JSON escapes is found too",
        "femtoclaw/brains/completions.py",
        "return sought in content or sought in _ESCAPE.sub(_unescaped, content)",
        "return sought in content",
        BRAINS + "::test_the_key_behind_json_escapes_is_no_answer",
    ),
    Guard(
        "I12",
        "a key in the wrong place is not shown",
        "femtoclaw/keys.py",
        "found=_shape(text)",
        "found=text",
        SECRETS + "::test_the_private_key_in_any_place_is_not_shown",
    ),
    Guard(
        "I12",
        "a defect is told without its text",
        "femtoclaw/cli/main.py",
        '{type(error).__name__}"',
        '{type(error).__name__}: {error}"',
        SECRETS + "::test_a_defect_is_told_by_type_and_place",
    ),
    Guard(
        "I12",
        "a brain's key is in no text",
        "femtoclaw/brains/openai.py",
        'return f"OpenAIBrain({self.name!r}, {self._settings.base_url!r})"',
        'return f"OpenAIBrain({self.name!r}, {self._api_key!r})"',
        BRAINS + "::test_bad_answers_are_typed_and_bounded",
    ),
    Guard(
        "I11",
        "a key file's cost is bounded before anything is derived",
        "femtoclaw/key_file.py",
        '    if not (1 <= fields["ops"] <= OPS_MAX and 8192 <= fields["memory"] <= MEMORY_BYTES_MAX):',
        "    if False:",
        KEY_FILE + "::test_too_much_work_is_refused_before_a_passphrase_is_asked",
    ),
    Guard(
        "I12",
        "a key that others may read is not read",
        "femtoclaw/passphrase.py",
        "    if mode & _OTHERS:",
        "    if False:",
        KEY_FILE + "::test_a_file_open_to_others_is_not_read",
    ),
    Guard(
        "I10",
        "a key file is the one that the index names",
        "femtoclaw/key_index.py",
        "        if found.allowed[0] in expected.allowed:",
        "        if True:",
        KEYS + "::test_a_key_file_changed_by_hand_is_named_at_the_next_start",
    ),
    Guard(
        "I10",
        "a new index covers up no change by hand",
        "femtoclaw/key_index.py",
        "    for finding in find_changes(folder, known) or ():",
        "    for finding in ():",
        KEYS + "::test_a_key_file_changed_by_hand_is_named_at_the_next_start",
    ),
    Guard(
        "I10",
        "the index is signed by the node",
        "femtoclaw/key_index.py",
        "text = open_note(raw, known).text",
        "text = raw.decode().rpartition(chr(10) * 2)[0] + chr(10)",
        KEYS + "::test_an_index_by_another_key_or_altered_is_refused",
    ),
    Guard(
        "I10",
        "a signature over anything but a statement asks for nothing",
        "femtoclaw/statement.py",
        " or not statement.startswith(TAG):",
        ":",
        "tests/femtoclaw/test_statement.py::test_a_note_is_no_statement_and_a_statement_no_note",
    ),
    Guard(
        "I10",
        "a secret is the one that was recorded",
        "femtoclaw/secret_store.py",
        "            if _digest(name, inside) == digest_id:",
        "            if True:",
        "tests/femtoclaw/test_secret_store.py::test_a_box_serves_under_its_own_name_key_and_record_only",
    ),
    Guard(
        "I12",
        "an escape before a secret hides none of it",
        "femtoclaw/redaction.py",
        "self.cuts = sorted({0, first, *ends})",
        "self.cuts = [0]",
        REDACTION + "::test_an_escape_that_takes_the_first_character_hides_nothing",
    ),
    Guard(
        "I12",
        "base64 is found at every alignment",
        "femtoclaw/redaction.py",
        "        before, after = int(shift > 0), int(size % 3 > 0)",
        "        before, after = 0, 0",
        REDACTION + "::test_inside_longer_base64_at_each_alignment",
    ),
    Guard(
        "I3",
        "a cut rotation of files is whole under either key",
        "femtoclaw/keys.py",
        "        during = [old, new]",
        "        during = [new]",
        KEYS + "::test_a_rotation_is_settled_wherever_it_was_cut",
    ),
    Guard(
        "I3",
        "secrets are sealed anew before the old key goes",
        "femtoclaw/keys.py",
        "        reseal(home, old, new)",
        "        pass",
        KEYS + "::test_a_rotation_is_settled_wherever_it_was_cut",
    ),
    Guard(
        "I12",
        "a process with a key cannot be read by its neighbours",
        "femtoclaw/keys.py",
        "        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)",
        "        pass",
        KEYS + "::test_a_process_with_a_key_leaves_no_core_and_is_not_read_by_its_neighbours",
    ),
    Guard(
        "I5",
        "an operator signs with their own key",
        "femtoclaw/keys.py",
        "    if public is None or public.name != name:",
        "    if public is None:",
        KEYS + "::test_an_operators_key_is_his",
    ),
    Guard(
        "I1",
        "a refused value does not come in force",
        "femtoclaw/cli/secrets.py",
        "        store.settle(name, mark if asked.permitted else before)",
        "        store.settle(name, mark)",
        "tests/cli/test_secret.py::test_a_refused_change_leaves_the_value_in_force",
    ),
)
