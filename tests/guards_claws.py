"""Guards of what claws may reach: addresses, answers of web servers, command lines and processes."""

from __future__ import annotations

from tests.guard import Guard

SHELL_HAZARDS = "tests/femtoclaw/test_shell_hazards.py"
WEB_ADDRESS = "tests/femtoclaw/test_web_address.py"
WEB_GET = "tests/femtoclaw/test_web_get.py"

GUARDS = (
    Guard(
        "I5",
        "one address that may not be reached refuses the name",
        "femtoclaw/claws/web_exchange.py",
        "if not all(may_connect(",
        "if not any(may_connect(",
        WEB_GET + "::test_one_forbidden_address_of_a_name_refuses_them_all",
    ),
    Guard(
        "I5",
        "a name is looked up once",
        "femtoclaw/claws/web_exchange.py",
        "    reached = _connect(_judge(address, settings, resolve, pace), address.port, pace)",
        (
            "    _judge(address, settings, resolve, pace)\n"
            "    reached = _connect(_judge(address, settings, resolve, pace), address.port, pace)"
        ),
        WEB_GET + "::test_a_name_is_looked_up_once_and_the_judged_address_is_the_one_connected_to",
    ),
    Guard(
        "I5",
        "each redirect is judged from nothing",
        "femtoclaw/claws/web_exchange.py",
        "    refused = refusal(address, settings)\n",
        '    refused = ""\n',
        WEB_GET + "::test_a_redirect_begins_again_from_nothing",
    ),
    Guard(
        "I5",
        "no redirect leads from https to http",
        "femtoclaw/claws/web_exchange.py",
        'if address.scheme == "https" and following.scheme != "https":',
        "if False:",
        WEB_GET + "::test_tls_is_not_left_by_a_redirect",
    ),
    Guard(
        "I5",
        "redirects only where the operator said so",
        "femtoclaw/claws/web_exchange.py",
        "if not most or answer.status",
        "if answer.status",
        WEB_GET + "::test_redirects_are_results_unless_the_node_says_otherwise",
    ),
    Guard(
        "I11",
        "no compressed body is taken",
        "femtoclaw/claws/http_answer.py",
        'if headers.get("content-encoding", "identity").lower() != "identity":',
        "if False:",
        WEB_GET + "::test_hostile_answers_end_in_time_and_say_which_bound_was_met[a bomb]",
    ),
    Guard(
        "I11",
        "a dripping peer is given up",
        "femtoclaw/claws/http_answer.py",
        "if self.read_bytes - before < self._pace.window_bytes:",
        "if False:",
        WEB_GET + "::test_hostile_answers_end_in_time_and_say_which_bound_was_met[dripping]",
    ),
    Guard(
        "I11",
        "a head is bounded in headers",
        "femtoclaw/claws/http_answer.py",
        "for _ in range(HEADERS_MAX + 1):",
        "while True:",
        WEB_GET + "::test_hostile_answers_end_in_time_and_say_which_bound_was_met[headers for ever]",
    ),
    Guard(
        "I10",
        "a body that ends early is an error",
        "femtoclaw/claws/http_answer.py",
        'raise stream.error("the body ended before its declared length")',
        "break",
        WEB_GET + "::test_hostile_answers_end_in_time_and_say_which_bound_was_met[shorter than it said]",
    ),
    Guard(
        "I5",
        "a request has headers of the list only",
        "femtoclaw/claws/web_exchange.py",
        "if name not in REQUEST_HEADERS or not isinstance(value, str) or not _SENT.fullmatch(value):",
        "if False:",
        WEB_GET + "::test_headers_cannot_name_hosts_or_hold_others",
    ),
    Guard(
        "I5",
        "metadata services are never reached",
        "femtoclaw/claws/network_ranges.py",
        "if address in METADATA or any(each in METADATA for each in _carried(address)):",
        "if False:",
        WEB_ADDRESS + "::test_networks_are_opened_one_by_one_and_metadata_never",
    ),
    Guard(
        "I5",
        "IPv4 inside of IPv6 is judged",
        "femtoclaw/claws/network_ranges.py",
        "if not (_public_v4(each) or _within(each, networks)):",
        "if False:",
        WEB_ADDRESS + "::test_addresses_that_are_not_the_public_networks",
    ),
    Guard(
        "I10",
        "numbers are no hosts",
        "femtoclaw/web_address.py",
        "if _NUMBER.fullmatch(labels[-1]):",
        "if False:",
        WEB_ADDRESS + "::test_what_could_be_read_in_two_ways_is_refused",
    ),
    Guard(
        "I10",
        "paths with dots are refused",
        "femtoclaw/web_address.py",
        'if "." in parts or ".." in parts or "" in parts[:-1]:',
        "if False:",
        WEB_ADDRESS + "::test_what_could_be_read_in_two_ways_is_refused",
    ),
    Guard(
        "I5",
        "addresses beyond the list are refused before policy",
        "femtoclaw/facts.py",
        'code = refusal(address, settings) if "hosts" in settings else ""',
        'code = ""',
        WEB_ADDRESS + "::test_the_gate_judges_parts_and_lists",
    ),
    Guard(
        "I5",
        "a hazard is told of abbreviated options too",
        "femtoclaw/shell_hazards.py",
        "if given and full.startswith(given)}",
        "if given == full}",
        SHELL_HAZARDS + "::test_what_a_command_does_beyond_its_name",
    ),
    Guard(
        "I5",
        "a program that no table knows is a hazard",
        "femtoclaw/shell_hazards.py",
        'return sorted(found | {"unknown_program"})',
        "return sorted(found)",
        SHELL_HAZARDS + "::test_what_a_command_does_beyond_its_name",
    ),
    Guard(
        "I5",
        "programs among the arguments of a command are judged",
        "femtoclaw/shell_hazards.py",
        "        found |= _nested(argv)\n",
        "        pass\n",
        SHELL_HAZARDS + "::test_what_a_command_does_beyond_its_name",
    ),
    Guard(
        "I5",
        "line breaks in a command are told",
        "femtoclaw/shell_hazards.py",
        '                found.add("newline")\n',
        "                pass\n",
        SHELL_HAZARDS + "::test_line_breaks_are_told_for_every_program",
    ),
    Guard(
        "I12",
        "processes are told with their arguments only where the operator said so",
        "femtoclaw/claws/process_list.py",
        'arguments=settings.get("arguments") is True',
        "arguments=True",
        "tests/femtoclaw/test_machine_claws.py::test_a_process_is_told_without_its_arguments",
    ),
    Guard(
        "I5",
        "a command has its hazards as a fact",
        "femtoclaw/facts.py",
        '"hazards": hazards(program, argv)}',
        '"hazards": []}',
        "tests/femtoclaw/test_approval_bypasses.py::test_a_bypass_has_its_hazards",
    ),
)
