"""``key trust``: what trust in a node rests on, in one answer."""

from __future__ import annotations

import pytest

from tests.cli.node import Node


@pytest.mark.requirement("CRYPTO-3.1")
def test_the_five_are_declared_with_their_ids(template: Node) -> None:
    """The node's key in force is anchor, signer and verifier of a log whose key was never rotated; operators sign."""
    body = template.call("key", "trust").body
    assert list(body) == ["trust_anchors", "signing_keys", "verification_keys", "hash_functions", "routines"]
    own = template.call("key", "list").body["node"][0]["public_key"]
    for part in ("trust_anchors", "signing_keys", "verification_keys"):
        assert own in [row["public_key"] for row in body[part]]
        assert all(
            row["public_key"].split("+")[-2] == row["id"] or row["id"] in row["public_key"] for row in body[part]
        )
    (operator,) = template.call("operator", "list").body["operators"]
    assert any(operator["name"] in row["what"] for row in body["signing_keys"])
    assert {row["name"] for row in body["hash_functions"]} == {"BLAKE3", "SHA-256", "SHA-512"}
    assert all((row["module"], row["does"]) for row in body["routines"])
