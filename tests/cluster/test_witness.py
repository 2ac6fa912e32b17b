"""A witness's decisions: every status of the protocol, nothing cosigned that does not continue, contradictions kept."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import PeerProtocolError, WitnessStateError
from cluster.limits import WITNESS_HASHES_MAX, WITNESS_REQUEST_BYTES_MAX
from cluster.witness import (
    FORK,
    REQUEST,
    SIZE_TYPE,
    Answer,
    WatchedLog,
    add_checkpoint,
    encode_request,
    parse_request,
)
from cluster.witness_state import decode_state, encode_state
from tests.cluster.witnessed_log import (
    FORKED,
    KEYS,
    NEXT_SIGNER,
    ORIGIN,
    OTHER_WITNESS,
    OWN,
    SIGNER,
    STRANGER,
    TRUE,
    WITNESS,
    consistent,
    formula_line,
    text_of,
)
from wal.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from wal.cosignature import cosigner_of, open_cosignatures
from wal.fork_proof import parse_fork_proof, verify_fork_proof
from wal.merkle import EMPTY_ROOT, SIZE_MAX

NOW = 1_800_000_000
NEW = WatchedLog(ORIGIN, KEYS)


def ask(log: WatchedLog, raw: bytes, now_s: int = NOW) -> Answer:
    return add_checkpoint({ORIGIN: log}, raw, WITNESS, now_s)


def at(size: int, log: WatchedLog = NEW) -> WatchedLog:
    """The log when the witness has cosigned ``size`` of the true history."""
    answer = ask(log, TRUE.request(log.size, size))
    assert answer.state is not None, answer
    return answer.state


def refused(answer: Answer, status: int) -> Answer:
    assert answer.status == status, answer
    assert answer.state is None
    assert b"\xe2\x80\x94" not in answer.body
    return answer


def test_the_answer_is_the_bytes_of_the_formula() -> None:
    """One line: key id of type 4, the time, the signature over time and text; twice the same, and later with a later time."""
    log = NEW
    for old, size in ((0, 1), (1, 5), (5, 5), (5, 64), (64, 65), (65, 130)):
        answer = ask(log, TRUE.request(old, size), NOW + size)
        assert (answer.status, answer.evidence) == (200, None)
        assert answer.body == formula_line(text_of(TRUE.note(size)), NOW + size)
        assert answer.state is not None
        log = answer.state
        assert (log.size, log.root, log.time_s) == (size, TRUE.root(size), NOW + size)


def test_the_kept_note_is_of_the_log_and_the_witness() -> None:
    """Others' signatures, verified by nobody here, are not handed on."""
    text = text_of(TRUE.note(7))
    raw = encode_request(0, [], TRUE.note(7) + formula_line(text, 9, OTHER_WITNESS.public.name, bytes(range(3, 35))))
    answer = ask(NEW, raw)
    assert answer.state is not None
    assert answer.state.note == TRUE.note(7) + answer.body
    assert open_checkpoint(answer.state.note, KEYS, ORIGIN).checkpoint.size == 7
    assert [each.time_s for each in open_cosignatures(answer.state.note, [OWN])] == [NOW]


def test_an_unknown_log_is_404() -> None:
    """Whoever signed."""
    refused(add_checkpoint({}, TRUE.request(0, 7), WITNESS, NOW), 404)
    refused(ask(NEW, encode_request(0, [], TRUE.note(7, origin="example.org/other"))), 404)


def test_only_a_trusted_key_counts() -> None:
    """403 for a stranger of the same name, for a changed text, and for a bad line of a trusted key beside a good one."""
    refused(ask(NEW, TRUE.request(0, 7, STRANGER)), 403)
    refused(ask(NEW, encode_request(0, [], TRUE.note(7).replace(b"\n7\n", b"\n8\n"))), 403)
    spoiled = TRUE.note(8).partition(b"\n\n")[2]
    refused(ask(NEW, encode_request(0, [], TRUE.note(7) + spoiled)), 403)
    assert ask(NEW, encode_request(0, [], TRUE.note(7) + _line(STRANGER))).status == 200


def _line(signer: Any) -> bytes:
    return TRUE.note(9, signer).partition(b"\n\n")[2]


def test_each_of_several_keys_of_a_log_is_enough() -> None:
    """After a rotation the new key signs, and what the old one signed stays the base."""
    log = NEW._replace(keys=(SIGNER.public, NEXT_SIGNER.public))
    log = at(7, log)
    answer = ask(log, TRUE.request(7, 9, NEXT_SIGNER))
    assert answer.status == 200
    refused(ask(at(7), TRUE.request(7, 9, NEXT_SIGNER)), 403)


def test_another_old_size_is_409_and_names_the_right_one() -> None:
    """Body and type are the protocol's; only who could sign learns it."""
    log = at(7)
    for old in (0, 6, 8, 9):
        answer = refused(ask(log, TRUE.request(old, 9)), 409)
        assert (answer.body, answer.content_type, answer.evidence) == (b"7\n", SIZE_TYPE, None)
    refused(ask(log, TRUE.request(0, 9, STRANGER)), 403)
    assert refused(ask(NEW, TRUE.request(3, 9)), 409).body == b"0\n"
    assert refused(ask(log, TRUE.request(3, 5)), 409).body == b"7\n"


def test_an_old_size_above_the_checkpoint_is_400() -> None:
    """Also when it is the witness's size."""
    refused(ask(at(7), encode_request(7, [], TRUE.note(6))), 400)


def test_another_root_of_the_same_size_is_422_and_convicts_the_key() -> None:
    """Also when the request gives another old size, which is answered 409: the proof is kept all the same."""
    log = at(9)
    for old, status in ((9, 422), (0, 409), (8, 409)):
        evidence = refused(ask(log, FORKED.request(old, 9)), status).evidence
        assert evidence is not None and evidence.kind == FORK
        fork = verify_fork_proof(parse_fork_proof(evidence.content), SIGNER.public)
        assert {fork.first.root, fork.second.root} == {TRUE.root(9), FORKED.root(9)}


@pytest.mark.parametrize("size", [8, 9, 12, 16, 21])
def test_a_larger_tree_of_another_history_is_422(size: int) -> None:
    """Its honest proof leads to another root at the witness's size: that convicts. Where that size is a power of two the
    proof does not hold that root: then the request itself is kept."""
    log = at(size)
    evidence = refused(ask(log, FORKED.request(size, 30)), 422).evidence
    assert evidence is not None
    if size & (size - 1):
        assert evidence.kind == FORK
        assert verify_fork_proof(parse_fork_proof(evidence.content), SIGNER.public).root == FORKED.root(size)
    else:
        assert evidence == (REQUEST, FORKED.request(size, 30) + b"\n" + log.note)


def test_a_proof_that_does_not_prove_is_422() -> None:
    """Missing, cut, too long, changed, of other sizes; also where nothing is to be proven."""
    log, hashes = at(7), TRUE.prove(7, 30)
    wrong = [[], hashes[:-1], [*hashes, bytes(32)], [bytes(32), *hashes[1:]], TRUE.prove(8, 30), hashes[::-1]]
    for each in wrong:
        refused(ask(log, encode_request(7, each, TRUE.note(30))), 422)
    refused(ask(NEW, encode_request(0, [bytes(32)], TRUE.note(7))), 422)
    refused(ask(log, encode_request(7, [bytes(32)], TRUE.note(7))), 422)


def test_the_empty_tree_has_one_root() -> None:
    """Size 0 is cosigned with the hash of nothing and refused with any other."""
    empty = sign_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), [SIGNER])
    answer = ask(NEW, encode_request(0, [], empty))
    assert answer.state is not None and answer.state.size == 0
    assert ask(answer.state, TRUE.request(0, 3)).status == 200
    other = sign_checkpoint(Checkpoint(ORIGIN, 0, bytes(32)), [SIGNER])
    assert refused(ask(NEW, encode_request(0, [], other)), 422).evidence is None


def test_a_clock_that_was_set_back_says_nothing_new() -> None:
    """A cosignature's time never falls: at one time there was one largest tree."""
    first = ask(NEW, TRUE.request(0, 7), NOW).state
    assert first is not None
    answer = ask(first, TRUE.request(7, 9), NOW - 1000)
    assert answer.body == formula_line(text_of(TRUE.note(9)), NOW)


STEP = st.tuples(
    st.booleans(), st.integers(0, 40), st.integers(1, 40), st.sampled_from(["honest", "none", "junk"]), st.booleans()
)


@given(st.lists(STEP, min_size=1, max_size=25))
@settings(max_examples=150)
def test_whatever_is_asked_only_one_history_is_cosigned(steps: list[tuple[bool, int, int, str, bool]]) -> None:
    """Two histories compete; each status is the one that size, root and proof call for, all that was cosigned is of one
    history and grows, and nothing else moves the state."""
    log, cosigned = NEW, []
    for forked, guess, size, proof, right_old in steps:
        each, old = FORKED if forked else TRUE, log.size if right_old else guess
        hashes = {"honest": each.prove(old, size), "none": [], "junk": [bytes(32)]}[proof]
        answer = ask(log, encode_request(old, hashes, each.note(size)))
        continues = log.size == 0 or each.root(log.size) == log.root
        proven = hashes == (each.prove(old, size) if old else [])
        if old > size:
            expected = 400
        elif old != log.size:
            expected = 409
        else:
            expected = 200 if proven and continues else 422
        assert answer.status == expected
        if answer.state is None:
            continue
        log = answer.state
        checkpoint = parse_checkpoint(text_of(log.note))
        cosigned.append((checkpoint.size, checkpoint.root))
        assert log._replace(note=b"", time_s=0) == WatchedLog(ORIGIN, KEYS, size, each.root(size))
    assert consistent(cosigned)
    assert cosigned == sorted(cosigned, key=lambda pair: pair[0])


@given(st.integers(0, SIZE_MAX), st.lists(st.binary(min_size=32, max_size=32), max_size=WITNESS_HASHES_MAX))
def test_a_request_reads_back_as_it_was_written(old: int, hashes: list[bytes]) -> None:
    """Up to 63 hashes."""
    request = parse_request(encode_request(old, hashes, TRUE.note(3)))
    assert (request.old, list(request.hashes), request.note) == (old, hashes, TRUE.note(3))
    assert request.checkpoint == Checkpoint(ORIGIN, 3, TRUE.root(3))


GOOD = TRUE.request(7, 30)


@given(st.binary(max_size=200), st.integers(0, len(GOOD)), st.integers(0, 40))
@settings(max_examples=400)
def test_no_bytes_cause_anything_but_an_answer(junk: bytes, start: int, length: int) -> None:
    """What is read has one spelling; all else is 400. Junk, and a good request with junk put in."""
    for raw in (junk, GOOD[:start] + junk + GOOD[start + length :], b"old 0\n\n" + junk, b"old " + junk):
        try:
            request = parse_request(raw)
        except PeerProtocolError:
            assert ask(at(7), raw).status == 400
            continue
        assert encode_request(request.old, request.hashes, request.note) == raw


HASH_LINE = base64.b64encode(bytes(32)) + b"\n"
MALFORMED = {
    "nothing": b"",
    "no old line": b"\n" + TRUE.note(3),
    "leading zero": b"old 07\n\n" + TRUE.note(3),
    "plus": b"old +7\n\n" + TRUE.note(3),
    "underscore": b"old 1_0\n\n" + TRUE.note(3),
    "two blanks": b"old  7\n\n" + TRUE.note(3),
    "other digits": "old ٧\n\n".encode() + TRUE.note(3),
    "beyond any tree": b"old %d\n\n" % (SIZE_MAX + 1) + TRUE.note(3),
    "endless digits": b"old " + b"9" * 5000 + b"\n\n" + TRUE.note(3),
    "carriage return": b"old 7\r\n\r\n" + TRUE.note(3),
    "64 hashes": b"old 7\n" + HASH_LINE * 64 + b"\n" + TRUE.note(30),
    "short hash": b"old 7\n" + base64.b64encode(bytes(31)) + b"\n\n" + TRUE.note(30),
    "stray bits": b"old 7\n" + HASH_LINE.replace(b"A=", b"B=") + b"\n" + TRUE.note(30),
    "blank in a hash": b"old 7\n " + HASH_LINE + b"\n" + TRUE.note(30),
    "no note": b"old 7\n\n",
    "no signature": b"old 0\n\n" + TRUE.note(3).partition(b"\n\n")[0] + b"\n",
    "no checkpoint": b"old 0\n\nanything\n\n" + TRUE.note(3).partition(b"\n\n")[2],
    "too large": TRUE.request(0, 3) + b"\n" * WITNESS_REQUEST_BYTES_MAX,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_400(name: str) -> None:
    """Each by one mistake."""
    refused(ask(NEW, MALFORMED[name]), 400)


def test_a_state_reads_back_and_every_changed_bit_is_found() -> None:
    """Before the first cosignature and after; damage is never taken for a state."""
    for log in (NEW, at(7)):
        raw = encode_state(log)
        assert decode_state(raw, ORIGIN, KEYS, OWN, "here") == log
        for cut in range(len(raw)):
            _damaged(raw[:cut])
        for place in range(len(raw)):
            _damaged(raw[:place] + bytes([raw[place] ^ 1 << place % 8]) + raw[place + 1 :])
        _damaged(raw + b"\n")


def _damaged(raw: bytes, origin: str = ORIGIN, own: Any = OWN) -> None:
    with pytest.raises(WitnessStateError):
        decode_state(raw, origin, KEYS, own, "here")


def test_a_state_that_this_witness_never_cosigned_is_refused() -> None:
    """Another log's, another witness's, and lines that say other than the cosigned note."""
    log = at(7)
    _damaged(encode_state(log), "example.org/other")
    _damaged(encode_state(log), own=cosigner_of(OTHER_WITNESS.public))
    _damaged(encode_state(log._replace(note=TRUE.note(7))))
    _damaged(encode_state(log._replace(size=6, root=TRUE.root(6))))
    _damaged(encode_state(log._replace(root=FORKED.root(7))))
    _damaged(encode_state(log._replace(time_s=NOW - 1)))
    _damaged(encode_state(log._replace(note=b"")))
    _damaged(encode_state(NEW._replace(size=3)))
