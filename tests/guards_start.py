"""Guards of the start: the sealed distribution, its manifest, and the home's pin."""

from __future__ import annotations

from tests.guard import Guard

DISTRIBUTION = "tests/femtoclaw/test_distribution.py"
ED25519 = "tests/femtoclaw/test_ed25519.py"
LAUNCHER = "tests/femtoclaw/test_launcher.py"

GUARDS = (
    Guard(
        "I10",
        "a changed file stops the start",
        "femtoclaw/launcher/sweep.py",
        "if digest != entry.digest or size != entry.size:",
        "if False:",
        LAUNCHER + "::test_one_changed_bit_in_a_file_stops_the_start",
    ),
    Guard(
        "I10",
        "an added file stops the start",
        "femtoclaw/launcher/sweep.py",
        "            if path not in files:\n",
        "            if False:\n",
        LAUNCHER + "::test_a_file_more_or_less_stops_the_start",
    ),
    Guard(
        "I10",
        "a library is hashed in the memory it is loaded from",
        "femtoclaw/launcher/held.py",
        "    if found != entry.digest:",
        "    if False:",
        LAUNCHER + "::test_files_that_are_exchanged_after_the_check_are_not_loaded",
    ),
    Guard(
        "I10",
        "without sealed memory a touched library is refused",
        "femtoclaw/launcher/held.py",
        "return self._changed is not None and _change(self.descriptor) != self._changed",
        "return False",
        LAUNCHER + "::test_without_sealed_memory_a_library_that_was_touched_is_refused",
    ),
    Guard(
        "I10",
        "byte code is what was sealed",
        "femtoclaw/launcher/loading.py",
        (
            "            if found != entry.digest:\n"
            "                raise mismatch(where, entry.digest, found)\n"
            "            self._code"
        ),
        "            self._code",
        LAUNCHER + "::test_the_sealed_code_is_what_was_compiled",
    ),
    Guard(
        "I10",
        "only sealed modules are imported",
        "femtoclaw/launcher/loading.py",
        'if fullname.partition(".")[0] in self._tops:',
        "if False:",
        LAUNCHER + "::test_what_is_not_sealed_cannot_be_imported",
    ),
    Guard(
        "I4",
        "no fallback from an altered library",
        "femtoclaw/launcher/refusal.py",
        "class Refused(BaseException):",
        "class Refused(ImportError):",
        LAUNCHER + "::test_a_changed_native_library_is_never_loaded",
    ),
    Guard(
        "I10",
        "a child is bound to its parent's manifest",
        "femtoclaw/launcher/child.py",
        "if found != digest:",
        "if False:",
        LAUNCHER + "::test_other_interpreters_of_a_node_are_bound_to_its_manifest",
    ),
    Guard(
        "I10",
        "a manifest is signed by the key of the pin",
        "femtoclaw/launcher/sealed.py",
        "if verify(public, text.encode(), body[4:]):",
        "if True:",
        DISTRIBUTION + "::test_a_manifest_that_the_home_does_not_trust_stops_the_start",
    ),
    Guard(
        "I10",
        "a manifest is the one that the home accepted",
        "femtoclaw/launcher/start.py",
        "if manifest.digest != pin.digest:",
        "if False:",
        DISTRIBUTION + "::test_a_manifest_that_the_home_does_not_trust_stops_the_start",
    ),
    Guard(
        "I10",
        "a manifest below the counter's floor is refused",
        "femtoclaw/launcher/start.py",
        "if manifest.counter < pin.floor:",
        "if False:",
        DISTRIBUTION + "::test_a_manifest_that_the_home_does_not_trust_stops_the_start",
    ),
    Guard(
        "I10",
        "a revoked key vouches for nothing",
        "femtoclaw/launcher/start.py",
        "if pin.key in pin.revoked:",
        "if False:",
        DISTRIBUTION + "::test_a_revoked_key_vouches_for_nothing",
    ),
    Guard(
        "I10",
        "the interpreter is the one that was sealed",
        "femtoclaw/launcher/start.py",
        "if manifest.python != interpreter():",
        "if False:",
        DISTRIBUTION + "::test_another_interpreter_is_refused",
    ),
    Guard(
        "I8",
        "the counter's floor never falls",
        "femtoclaw/distribution.py",
        "if found.counter < before.floor:",
        "if False:",
        DISTRIBUTION + "::test_an_operator_accepts_an_upgrade_and_the_floor_stays",
    ),
    Guard(
        "I10",
        "an unverified process opens no pinned home",
        "femtoclaw/distribution.py",
        'if pin.state == "sealed" and found.digest != pin.digest:',
        "if False:",
        DISTRIBUTION + "::test_a_process_that_nothing_verified_cannot_open_the_home",
    ),
    Guard(
        "I10",
        "the pin is the node's",
        "femtoclaw/distribution.py",
        "    if not _signed_by(home, key):",
        "    if False:",
        DISTRIBUTION + "::test_a_pin_that_the_node_did_not_sign_is_no_pin",
    ),
    Guard(
        "I10",
        "a point of small order is no key",
        "femtoclaw/launcher/ed25519.py",
        " or _small(key) or _small(commitment)",
        "",
        ED25519 + "::test_points_of_small_order_are_no_keys",
    ),
    Guard(
        "I10",
        "a signature has one scalar",
        "femtoclaw/launcher/ed25519.py",
        " or scalar >= ORDER",
        "",
        ED25519 + "::test_a_second_scalar_for_the_same_signature_is_refused",
    ),
    Guard(
        "I10",
        "a point has one spelling",
        "femtoclaw/launcher/ed25519.py",
        "x = _x(y, sign) if y < PRIME else None",
        "x = _x(y, sign)",
        ED25519 + "::test_a_point_has_one_spelling",
    ),
)
