"""``cluster request`` and ``cluster accept``: on the machine of the newcomer."""

from __future__ import annotations

import os
from typing import Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, program
from femtoclaw.errors import ConfigurationError, UsageError
from femtoclaw.home import Home, read_bounded


def request(home: Home, arguments: Arguments, output: Output) -> int:
    """Make a home without a log in a new or empty directory, and its signed request to be let in."""
    from femtoclaw.cli.member_words import member_settings, new_file
    from femtoclaw.newcomer import NOBODY, prepare
    from wal.durable_file import write_file

    out = new_file(arguments, "request")
    settings, address = member_settings(arguments, owner=NOBODY)
    raw, member = prepare(home, settings, address)
    write_file(os.path.abspath(out), raw)
    output.data(
        {"home": home.path, "request": out, "name": member.name, "address": address, "public_key": member.key.vkey()}
    )
    output.line(f"{member.name} asks to be let in: {out}", "green")
    output.fields([("address", address), ("key", member.key.vkey())])
    output.note(
        f"take it to the leader's machine, and run there: {program()} cluster join {os.path.basename(out)} --out FILE"
    )
    return 0


def accept(home: Home, arguments: Arguments, output: Output) -> int:
    """Fetch the whole log from the members, verified record by record, and make the home ready to be served."""
    from femtoclaw.cli.evidence import trusted_key
    from femtoclaw.cli.member_words import FILE_BYTES_MAX
    from femtoclaw.cluster_home import is_member, read_settings
    from femtoclaw.membership import open_invitation
    from femtoclaw.newcomer import check_invited, come_in

    if not is_member(home):
        raise ConfigurationError(
            "this home has made no request", where=home.path, expected="one made by `femtoclaw cluster request`",
            remedy="make one in a new directory: `femtoclaw cluster request --name NAME --listen HOST:PORT --out FILE`",
        )  # fmt: skip
    invitation, issuer = open_invitation(read_bounded(arguments.target, FILE_BYTES_MAX), arguments.target)
    if arguments.key is not None and trusted_key(arguments.key) != issuer:
        raise ConfigurationError(
            "the invitation is from somebody else", where=arguments.target, expected=trusted_key(arguments.key).vkey(),
            found=issuer.vkey(), remedy="do not accept it; find out where it came from",
        )  # fmt: skip
    before = read_settings(home)
    newcomer = check_invited(home, invitation, before.name)
    settings = _settings(before, invitation.terms, arguments)
    output.line(f"log {invitation.origin}", "bold")
    output.fields([("log id", invitation.log_id.hex()), ("invited by", issuer.vkey())])
    if arguments.key is None:
        output.note("compare the key with the one that the leader's operator names; --key KEY has it compared for you")
    size, written = come_in(
        newcomer,
        invitation,
        issuer,
        settings,
        lambda records: output.progress(f"{records} records verified and stored"),
    )
    output.progress("")
    output.data({"log": invitation.origin, "log_id": invitation.log_id.hex(), "size": size, "written": list(written)})
    output.line(f"{settings.name} has the log: {size} records, each verified", "green")
    output.note("start it with `femtoclaw serve`; it is a learner until somebody promotes it: "
                f"`femtoclaw cluster promote {settings.name}` at whoever leads")  # fmt: skip
    output.note(
        "secrets, keys of subjects, installed modules and files of the workspace are not in the log: see docs/cluster.md"
    )
    return 0


def _settings(before: Any, terms: Any, arguments: Arguments) -> Any:
    """This member's own name and place, with the terms of the cluster; checked as the file would be."""
    from femtoclaw.cluster_home import check_settings, settings_text
    from femtoclaw.config import parse_toml

    witnesses = os.path.abspath(arguments.witnesses) if arguments.witnesses else before.witnesses
    if terms.mode == "witnessed" and not witnesses:
        raise UsageError(
            "this cluster's records are witnessed",
            where="cluster accept",
            expected="--witnesses FILE, a witness policy",
        )
    made = before._replace(
        **{key: value for key, value in terms._asdict().items() if key != "epoch"}, witnesses=witnesses
    )
    text = settings_text(made).encode()
    return check_settings(parse_toml(text, arguments.target), arguments.target)
