"""Mutations under which the checks of telemetry turn red."""

from __future__ import annotations

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.observed import counted, observed
from tests.compliance.mutating import MUTATIONS, Mutation, measured


def told_more(way: str, raw: bytes) -> Mutation:
    """One way of telling has this too."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(observed)
        return laboratory.replaced(observed, found._replace(told=found.told | {way: found.told[way] + raw}))

    return mutation


def telemetry_goes_on(**fields: object) -> Mutation:
    """What became of the broken file of lines is another."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(observed)
        return laboratory.replaced(observed, found._replace(failing=found.failing | fields))

    return mutation


def a_line_is_missing(laboratory: Laboratory) -> Laboratory:
    """A receiver got all lines but one, and the next was made to look like its neighbour."""
    found = laboratory.once(observed)
    lines = found.told["lines"].splitlines(keepends=True)
    at = next(at for at, line in enumerate(lines) if b"InputReceived" in line)
    changed = lines[at].replace(b'"prev":"', b'"prev":"00')
    told = found.told | {"lines": b"".join([*lines[:at], changed, *lines[at + 1 :]])}
    return laboratory.replaced(observed, found._replace(told=told))


MUTATIONS |= {
    "five_ways_tell_of_one_execution": measured(observed, execution="0" * 32),
    "all_that_is_written_is_json": told_more("stderr", b"Traceback (most recent call last):\n"),
    "counters_are_exact": measured(counted, denials=29),
    "lines_have_their_shape": told_more(
        "lines", b'{"timestamp":"","event_type":"AuthorizationDecided","arguments":"x"}\n'
    ),
    "planted_secrets_are_nowhere": told_more("metrics", b'femtoclaw_x{path="CANARY-file"} 1\n'),
    "failing_telemetry_stops_nothing": telemetry_goes_on(steps=[("denied", "0" * 32)]),
    "a_receiver_can_check_and_cannot_block": a_line_is_missing,
}
