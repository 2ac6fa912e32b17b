"""Guards of installed modules: their packages, their publishers, and how their code is loaded and run."""

from __future__ import annotations

from tests.guard import Guard

MODULE_LOADING = "tests/femtoclaw/test_module_loading.py"
MODULE_PACKAGES = "tests/femtoclaw/test_module_packages.py"
NATIVE_MODULES = "tests/femtoclaw/test_native_modules.py"
WEBASSEMBLY_MODULES = "tests/femtoclaw/test_webassembly_modules.py"

GUARDS = (
    Guard(
        "I10",
        "a module's bytes are those that the log names",
        "femtoclaw/isolation/loading.py",
        "if blake3(raw).hexdigest() != digest:",
        "if False:",
        MODULE_LOADING + "::test_a_byte_changed_after_installation_is_found_before_any_code_runs",
    ),
    Guard(
        "I10",
        "a module's own files come before installed packages",
        "femtoclaw/isolation/python_files.py",
        "sys.meta_path.insert(0, self)",
        "sys.meta_path.append(self)",
        MODULE_LOADING + "::test_imports_among_its_own_files_come_from_verified_bytes",
    ),
    Guard(
        "I10",
        "a module of another major version is not run",
        "femtoclaw/isolation/abi.py",
        "    if not compatible(parse_version(VERSION), version):",
        "    if False:",
        MODULE_LOADING + "::test_a_module_of_another_major_is_refused_before_its_init",
    ),
    Guard(
        "I10",
        "a changed request fails the execution",
        "femtoclaw/isolation/native.py",
        "        if not request.unchanged():",
        "        if False:",
        NATIVE_MODULES + "::test_what_a_library_does_wrong_is_contained",
    ),
    Guard(
        "I11",
        "a native module cannot write its context",
        "femtoclaw/isolation/native.py",
        "        self._memory.protect()",
        "        pass",
        NATIVE_MODULES + "::test_writing_the_context_ends_the_process",
    ),
    Guard(
        "I11",
        "a native module's response is bounded before it is copied",
        "femtoclaw/isolation/native.py",
        "        if size > limit:",
        "        if False:",
        NATIVE_MODULES + "::test_what_a_library_does_wrong_is_contained",
    ),
    Guard(
        "I10",
        "of a native module's descriptor only functions are called",
        "femtoclaw/isolation/native.py",
        "    if not _is_code(",
        "    if False and not _is_code(",
        MODULE_LOADING + "::test_other_descriptors_are_refused",
    ),
    Guard(
        "I5",
        "WebAssembly gets no imports",
        "femtoclaw/isolation/webassembly.py",
        "    if module.imports:",
        "    if False:",
        MODULE_LOADING + "::test_other_descriptors_are_refused",
    ),
    Guard(
        "I11",
        "WebAssembly runs on fuel",
        "femtoclaw/isolation/webassembly.py",
        "* FUEL_PER_SECOND)",
        "* 10**12)",
        WEBASSEMBLY_MODULES + "::test_what_webassembly_does_wrong_is_contained",
    ),
    Guard(
        "I11",
        "linear memory is limited",
        "femtoclaw/isolation/webassembly.py",
        "            memory_size=memory_bytes,",
        "            memory_size=1 << 40,",
        WEBASSEMBLY_MODULES + "::test_memory_over_the_limit_is_not_given_at_all",
    ),
    Guard(
        "I10",
        "only trusted publishers' modules are taken",
        "femtoclaw/modules/signature.py",
        "    if publisher not in trusted:",
        "    if False:",
        MODULE_PACKAGES + "::test_unsigned_badly_signed_and_untrusted_are_three_things",
    ),
    Guard(
        "I10",
        "a signature is over this very manifest",
        "femtoclaw/modules/signature.py",
        "    return text == statement(name, version, digest, publisher)",
        "    return True",
        MODULE_PACKAGES + "::test_nobody_signs_for_another",
    ),
    Guard(
        "I10",
        "nothing unlisted is in a package",
        "femtoclaw/modules/package.py",
        "    for path in sorted(set(files) - set(manifest.files)):",
        "    for path in ():",
        MODULE_PACKAGES + "::test_what_a_folder_may_not_hold",
    ),
    Guard(
        "I10",
        "links in a package are refused",
        "femtoclaw/modules/package.py",
        "        elif stat.S_ISREG(modes[name]):",
        "        elif True:",
        MODULE_PACKAGES + "::test_what_a_folder_may_not_hold",
    ),
    Guard(
        "I10",
        "no module vouches for its own output",
        "femtoclaw/modules/declared.py",
        'NOT_STATED = ("trusted_output",)',
        "NOT_STATED = ()",
        MODULE_PACKAGES + "::test_what_a_manifest_may_not_say",
    ),
    Guard(
        "I10",
        "code and manifest agree on the ABI",
        "femtoclaw/modules/probe.py",
        '    if said["abi"] != manifest.abi:',
        "    if False:",
        MODULE_PACKAGES + "::test_trying_out_compares_the_code_with_its_manifest",
    ),
    Guard(
        "I5",
        "a module is tried out without permissions",
        "femtoclaw/modules/probe.py",
        "permissions=()",
        "permissions=manifest.permissions",
        MODULE_PACKAGES + "::test_trying_out_gives_no_permission",
    ),
)
