"""Signed checkpoints: one text for one claim, nothing believed that a known key did not sign, every bound told."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wal.sample_log import ORIGIN, OTHER_SIGNER, SIGNER, bit_flips, golden
from wal.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from wal.errors import SignatureError
from wal.merkle import HASH_BYTES, SIZE_MAX
from wal.note import (
    NOTE_BYTES_MAX,
    SIGNATURES_MAX,
    Ed25519Signer,
    PublicKey,
    add_signature,
    open_note,
    public_key,
    sign_note,
)

ROOT = bytes(range(HASH_BYTES))
ROOT_TEXT = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
TEXT = f"{ORIGIN}\n7\n{ROOT_TEXT}\n"
WITNESS = Ed25519Signer("witness.example.org/w1", bytes(range(2, 34)))
STRANGER = Ed25519Signer("stranger.example.org", bytes(range(3, 35)))
KNOWN = [SIGNER.public]

# Whatever may stand on a line: all but control characters and what UTF-8 cannot write.
LINE = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters=[chr(code) for code in range(0x20)]), min_size=1
)


def refused(text: str) -> SignatureError:
    with pytest.raises(SignatureError) as caught:
        parse_checkpoint(text)
    return caught.value


def refused_note(raw: bytes, known: Sequence[PublicKey] = KNOWN, origin: str = ORIGIN) -> SignatureError:
    with pytest.raises(SignatureError) as caught:
        open_checkpoint(raw, known, origin)
    return caught.value


def lines_of(raw: bytes) -> tuple[str, list[str]]:
    """A note's text and its signature lines."""
    text, _, block = raw.decode().rpartition("\n\n")
    return text + "\n", block.splitlines(keepends=True)


def test_the_golden_checkpoint_of_a_fixed_key() -> None:
    """Text, note, cosigned and extended note are the stored bytes, and they open to what was signed."""
    plain = Checkpoint(ORIGIN, 7, ROOT)
    extended = Checkpoint(ORIGIN, SIZE_MAX, bytes(HASH_BYTES), ("first é", " second"))
    note, longer = sign_checkpoint(plain, [SIGNER]), sign_checkpoint(extended, [SIGNER])
    both = add_signature(note, WITNESS)
    stored = golden(
        "checkpoint",
        {
            "vkey": SIGNER.public.vkey(),
            "witness": WITNESS.public.vkey(),
            "text": plain.text(),
            "note": note.decode(),
            "cosigned": both.decode(),
            "extended": longer.decode(),
        },
    )
    known = [PublicKey.parse(stored["vkey"]), PublicKey.parse(stored["witness"])]
    assert open_checkpoint(stored["note"].encode(), known, ORIGIN).checkpoint == plain
    assert open_checkpoint(stored["extended"].encode(), known, ORIGIN).checkpoint == extended
    assert open_checkpoint(stored["cosigned"].encode(), known, ORIGIN).signers == tuple(known)
    assert stored["text"] == TEXT


def test_a_published_checkpoint_verifies_under_its_published_key() -> None:
    """One of the Go checksum database: another implementation's text and signature, and no changed bit of it."""
    key = PublicKey.parse("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")
    raw = (
        "go.sum database tree\n19254946\nh9eoRKj4A/u1agb0ArWU744FdzF7o/QztgC64L2t81M=\n\n"
        "\u2014 sum.golang.org "
        "Az3grvvtPUIwSm8opaNwI5N/xULaFZ0ecAWzWKqGSBGFNwg8tntSSgJui9xh4e/70QazZqhdO1n6bsR2EABgWXeQTwc=\n"
    ).encode()
    opened = open_checkpoint(raw, [key], "go.sum database tree")
    assert (opened.checkpoint.size, opened.signers, opened.note) == (19_254_946, (key,), raw)
    for flipped in bit_flips(raw):
        refused_note(flipped, [key], "go.sum database tree")


@settings(max_examples=200)
@given(
    origin=LINE,
    size=st.integers(0, SIZE_MAX),
    root=st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES),
    extensions=st.lists(LINE, max_size=4),
)
def test_what_is_signed_comes_back(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    """Any claim gives one text that parses to the very same claim, and its note opens to it."""
    checkpoint = Checkpoint(origin, size, root, tuple(extensions))
    assert parse_checkpoint(checkpoint.text()) == checkpoint
    raw = sign_checkpoint(checkpoint, [SIGNER, WITNESS])
    opened = open_checkpoint(raw, [WITNESS.public, SIGNER.public], origin)
    assert opened == (checkpoint, raw, (SIGNER.public, WITNESS.public))


@settings(max_examples=300)
@given(
    st.one_of(
        st.text(max_size=120),
        st.lists(st.sampled_from([ORIGIN, "7", "07", "-1", ROOT_TEXT, "", " ", "x", "\r"]), max_size=6).map("\n".join),
        st.builds(lambda at, piece: TEXT[:at] + piece + TEXT[at:], st.integers(0, len(TEXT)), st.text(max_size=3)),
        st.builds(lambda start, stop: TEXT[:start] + TEXT[stop:], *[st.integers(0, len(TEXT))] * 2),
    )
)
def test_any_text_is_refused_or_is_its_own_canonical_form(text: str) -> None:
    """Nothing but the typed error comes out, and no two texts make the same claim."""
    try:
        checkpoint = parse_checkpoint(text)
    except SignatureError:
        return
    assert checkpoint.text() == text


@pytest.mark.parametrize(
    "size",
    [
        *("07", "00", "+7", "-7", "-0", " 7", "7 ", "7\r", "1_000", "7.0", "7e0", "0x7", "٧", "７", "seven", "∞"),
        *(str(SIZE_MAX + 1), "1" + "0" * 4000, "1" + "0" * 5000),
    ],
    ids=lambda size: repr(size[:20]),
)
def test_a_size_has_one_spelling_and_a_bound(size: str) -> None:
    """Zeros in front, signs, blanks, other digits, other notations, and more than the bound, however long."""
    error = refused(TEXT.replace("\n7\n", f"\n{size}\n"))
    assert error.exit_code == 3
    assert len(str(error)) < 400


@pytest.mark.parametrize("size", [0, 1, SIZE_MAX])
def test_sizes_up_to_the_bound_are_read(size: int) -> None:
    """The bounds themselves belong to the range."""
    assert parse_checkpoint(Checkpoint(ORIGIN, size, ROOT).text()).size == size


@pytest.mark.parametrize(
    "root",
    [
        base64.b64encode(ROOT[:-1]).decode(),
        base64.b64encode(ROOT + b"\x00").decode(),
        ROOT.hex(),
        ROOT_TEXT.rstrip("="),
        ROOT_TEXT + "=",
        ROOT_TEXT + ROOT_TEXT,
        ROOT_TEXT[:-2] + "9=",  # the same 32 bytes with stray bits in the last digit
        ROOT_TEXT.replace("A", "-", 1),
        ROOT_TEXT.replace("A", "*", 1),
        ROOT_TEXT.replace("A", "é", 1),
        " " + ROOT_TEXT,
        ROOT_TEXT + " ",
        ROOT_TEXT[:10] + "\r" + ROOT_TEXT[10:],
        "=",
    ],
)
def test_a_root_is_canonical_base64_of_one_hash(root: str) -> None:
    """Another length, alphabet, padding, blank, or stray bits: refused."""
    refused(TEXT.replace(ROOT_TEXT, root))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "\n\n\n",
        TEXT[:-1],
        f"{ORIGIN}\n7\n",
        f"{ORIGIN}\n{ROOT_TEXT}\n7\n",
        f"\n7\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n7\n\n",
        "\n" + TEXT,
        TEXT + "\n",
        TEXT + "extension",
        TEXT + "first\n\nsecond\n",
        TEXT.replace("\n", "\r\n"),
    ],
)
def test_lines_that_are_missing_empty_or_unfinished(text: str) -> None:
    """Origin, size, root, and every line ended by a newline; extension lines may not be empty."""
    refused(text)


def test_extension_lines_are_kept_and_signed() -> None:
    """They come back in order; one added, dropped or moved after signing breaks the signature."""
    checkpoint = Checkpoint(ORIGIN, 7, ROOT, ("one", "two"))
    raw = sign_checkpoint(checkpoint, [SIGNER])
    assert open_checkpoint(raw, KNOWN, ORIGIN).checkpoint.extensions == ("one", "two")
    text, signatures = lines_of(raw)
    for changed in (TEXT, TEXT + "one\n", TEXT + "two\none\n", TEXT + "one\ntwo\nthree\n", text.replace("one", "One")):
        refused_note((changed + "\n" + "".join(signatures)).encode())


def test_a_checkpoint_of_another_log_is_refused() -> None:
    """A good signature under another origin says nothing about this log; the text names both."""
    raw = sign_checkpoint(Checkpoint("example.org/other", 7, ROOT), [SIGNER])
    error = refused_note(raw)
    assert (error.expected, error.found) == (ORIGIN, "example.org/other")
    for near in (ORIGIN + " ", ORIGIN.upper(), ORIGIN[:-1], ""):
        refused_note(sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), [SIGNER]), origin=near)


def test_a_signed_text_that_is_no_checkpoint_is_refused() -> None:
    """The right key signs other things too (seals): its signature does not make them checkpoints."""
    for text in ("hello\n", f"{ORIGIN}\n07\n{ROOT_TEXT}\n", f"{ORIGIN}\n7\n{ROOT_TEXT}\n\nmore\n"):
        raw = sign_note(text, [SIGNER])
        assert open_note(raw, KNOWN).text == text
        refused_note(raw)


def test_unknown_signatures_are_listed_and_do_not_count() -> None:
    """Beside a known one they change nothing, in front or behind; alone they are not enough."""
    for signers in ([STRANGER, SIGNER], [SIGNER, STRANGER], [STRANGER, SIGNER, WITNESS]):
        raw = sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), signers)
        assert open_checkpoint(raw, KNOWN, ORIGIN).signers == (SIGNER.public,)
        names = tuple(signer.public.name for signer in signers if signer is not SIGNER)
        assert open_note(raw, KNOWN).unknown == names
    raw = sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), [STRANGER])
    assert refused_note(raw).found == ["stranger.example.org"]
    refused_note(sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), [SIGNER]), known=[])


def test_an_unknown_signature_of_any_length_and_nonsense_is_passed_over() -> None:
    """Other algorithms sign with other lengths: what cannot be judged is not judged, and not believed."""
    raw = sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), [SIGNER])
    for length in (1, 63, 65, 3000):
        encoded = base64.b64encode(b"\x09\x09\x09\x09" + bytes(length)).decode()
        assert open_checkpoint(raw + f"\u2014 other {encoded}\n".encode(), KNOWN, ORIGIN).signers == (SIGNER.public,)


def test_a_key_of_the_same_name_is_another_key() -> None:
    """Name and key id together name a key: OTHER_SIGNER has the log's name, but is not known."""
    raw = sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), [OTHER_SIGNER])
    assert refused_note(raw).found == [ORIGIN]
    both = sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), [OTHER_SIGNER, SIGNER])
    assert open_checkpoint(both, KNOWN, ORIGIN).signers == (SIGNER.public,)
    assert open_checkpoint(both, [SIGNER.public, OTHER_SIGNER.public], ORIGIN).signers == (
        OTHER_SIGNER.public,
        SIGNER.public,
    )


def test_a_known_name_and_id_over_a_strangers_signature_refuses_the_note() -> None:
    """Who writes the known key's name and id before their own signature is not passed over but refused."""
    text, _ = lines_of(sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), [SIGNER]))
    forged = base64.b64encode(SIGNER.public.key_id + STRANGER.sign(text.encode())).decode()
    good = sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), [SIGNER])
    line = f"\u2014 {ORIGIN} {forged}\n"
    refused_note(f"{text}\n{line}".encode())
    assert "bad signature" in str(refused_note(good + line.encode()))


def test_a_signature_over_another_text_refuses_the_note() -> None:
    """Taken from a checkpoint of another size, alone or beside a good one."""
    good = sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), [SIGNER])
    _, old = lines_of(sign_checkpoint(Checkpoint(ORIGIN, 6, ROOT), [SIGNER]))
    refused_note((TEXT + "\n" + "".join(old)).encode())
    refused_note(good + "".join(old).encode())
    # Without its last newline the text is another one too.
    bare = base64.b64encode(SIGNER.public.key_id + SIGNER.sign(TEXT[:-1].encode())).decode()
    refused_note(f"{TEXT}\n\u2014 {ORIGIN} {bare}\n".encode())


def test_a_duplicated_signature_counts_once() -> None:
    """Two lines of one key are one signer: a quorum cannot be made by repeating."""
    raw = sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), [SIGNER, SIGNER, WITNESS, SIGNER])
    assert open_checkpoint(raw, [SIGNER.public, WITNESS.public], ORIGIN).signers == (SIGNER.public, WITNESS.public)
    twice_known = [SIGNER.public, SIGNER.public]
    assert open_checkpoint(raw, twice_known, ORIGIN).signers == (SIGNER.public,)


def test_cosignatures_are_added_behind_and_checked() -> None:
    """The log's bytes stay in front as they were; a bad cosignature of a known witness refuses the whole note."""
    raw = sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), [SIGNER])
    cosigned = add_signature(raw, WITNESS)
    assert cosigned.startswith(raw)
    known = [SIGNER.public, WITNESS.public]
    assert open_checkpoint(cosigned, known, ORIGIN).signers == tuple(known)
    assert open_checkpoint(cosigned, [WITNESS.public], ORIGIN).signers == (WITNESS.public,)
    _, stale = lines_of(add_signature(sign_checkpoint(Checkpoint(ORIGIN, 6, ROOT), [SIGNER]), WITNESS))
    refused_note(raw + stale[1].encode(), known)
    assert open_checkpoint(raw + stale[1].encode(), KNOWN, ORIGIN).signers == (SIGNER.public,)
    with pytest.raises(SignatureError):
        add_signature(TEXT.encode(), WITNESS)


def test_every_bit_flip_of_a_signed_checkpoint_is_refused() -> None:
    """Text, blank line, dash, name, key id, signature, newlines: none of it may change."""
    for flipped in bit_flips(sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT, ("more",)), [SIGNER])):
        refused_note(flipped)


def test_every_truncation_is_refused() -> None:
    """A note cut anywhere is no note; its text without signatures is none either."""
    raw = sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), [SIGNER])
    for size in range(len(raw)):
        refused_note(raw[:size])


@pytest.mark.parametrize(
    "line",
    [
        "\n",
        "{good}",  # no newline at the end
        "- {name} {good}\n",
        "\u2014{name} {good}\n",
        "\u2014  {good}\n",
        "\u2014 {name}\n",
        "\u2014 {name} \n",
        "\u2014 {name}  {good}\n",
        "\u2014 {name} {good} \n",
        "\u2014 {name} {good}=\n",
        "\u2014 {name} {stray}\n",
        "\u2014 na+me {good}\n",
        "\u2014 na\u00a0me {good}\n",
        "\u2014 na\u200bme {good}\n",
        "\u2014 {name} AAAA\n",
        "\u2014 {name} AAAAAA==\n",
    ],
)
def test_a_malformed_signature_line_refuses_the_note(line: str) -> None:
    """Even beside a good one, and even of an unknown key: two notes of one meaning would have two forms."""
    raw = sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), [SIGNER])
    good = lines_of(raw)[1][0].split(" ")[2].rstrip("\n")
    # 68 bytes end in one "=": its last digit has two bits that decode to nothing.
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stray = good[:-2] + digits[digits.index(good[-2]) + 1] + "="
    assert base64.b64decode(stray) == base64.b64decode(good)
    refused_note(raw + line.format(name=ORIGIN, good=good, stray=stray).encode())


def test_the_bounds_of_a_note() -> None:
    """A hundred signatures and a mebibyte are read, one more of either is refused; so is what is no UTF-8."""
    line = f"\u2014 other {base64.b64encode(bytes(68)).decode()}\n".encode()
    full = sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), [SIGNER]) + line * (SIGNATURES_MAX - 1)
    assert open_checkpoint(full, KNOWN, ORIGIN).signers == (SIGNER.public,)
    assert refused_note(full + line).found == SIGNATURES_MAX + 1

    def padded(size: int) -> bytes:
        empty = len(sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT, ("x",)), [SIGNER]))
        return sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT, ("x" * (size - empty + 1),)), [SIGNER])

    assert len(padded(NOTE_BYTES_MAX)) == NOTE_BYTES_MAX
    assert open_checkpoint(padded(NOTE_BYTES_MAX), KNOWN, ORIGIN).checkpoint.size == 7
    error = refused_note(padded(NOTE_BYTES_MAX + 1))
    assert (error.found, len(str(error)) < 200) == (NOTE_BYTES_MAX + 1, True)
    refused_note(b"\xff" + full)


@pytest.mark.parametrize("control", [chr(code) for code in range(0x20) if code != 0x0A])
def test_control_characters_are_neither_signed_nor_opened(control: str) -> None:
    """What a terminal would act upon is in no note."""
    checkpoint = Checkpoint(ORIGIN, 7, ROOT, (f"a{control}b",))
    with pytest.raises(SignatureError):
        sign_checkpoint(checkpoint, [SIGNER])
    text = checkpoint.text()
    signature = base64.b64encode(SIGNER.public.key_id + SIGNER.sign(text.encode())).decode()
    refused_note(f"{text}\n\u2014 {ORIGIN} {signature}\n".encode())


def test_a_signer_with_another_keys_secret_is_found_before_it_signs() -> None:
    """A key file beside the wrong public key gives an error, not a note that nobody can open."""
    with pytest.raises(SignatureError):
        sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), [Ed25519Signer(ORIGIN, bytes(range(1, 33)), SIGNER.public)])


@settings(max_examples=100)
@given(name=LINE, raw=st.binary(min_size=32, max_size=32))
def test_a_verifier_key_reads_back_or_is_refused(name: str, raw: bytes) -> None:
    """A key is refused by its name, or its text reads back to it, and no other spelling, id, cut or nesting does."""
    try:
        key = public_key(name, raw)
    except SignatureError:
        return
    text = key.vkey()
    assert PublicKey.parse(text) == key
    number = bytes([key.key_id[0] ^ 1]) + key.key_id[1:]
    spellings = {text + "=", text.replace(key.key_id.hex(), key.key_id.hex(" ")), text.replace("+", "+ "), text + "\n"}
    for other in spellings | {key._replace(key_id=number).vkey(), text[:-1], name, f"{name}+{text}", f"+{text}"}:
        with pytest.raises(SignatureError):
            PublicKey.parse(other)
