"""``web.get``: what the claw declares. Its code, which needs sockets and TLS, is in ``web_exchange``."""

from __future__ import annotations

from femtoclaw.manifest import Manifest
from femtoclaw.settings import ADDRESS_CHARACTERS_MAX, WEB_BYTES_MAX

_HEADER = {"type": "string", "minLength": 1, "maxLength": 1024, "pattern": "^[ -~]*$"}

REQUEST_HEADERS = ("accept", "accept-language", "if-modified-since", "if-none-match", "range")
"""What a caller may set: preferences and conditions. Nothing that names a caller, a host or a length."""

MANIFEST = Manifest(
    name="web.get",
    version="1.0.0",
    description="GET a web address of the node's list of hosts. Text comes back as `content`; other bytes as base64.",
    category="network",
    arguments={
        "type": "object",
        "properties": {
            "url": {"type": "string", "minLength": 1, "maxLength": ADDRESS_CHARACTERS_MAX},
            "headers": {
                "type": "object",
                "properties": dict.fromkeys(REQUEST_HEADERS, _HEADER),
                "additionalProperties": False,
            },
            "max_bytes": {"type": "integer", "minimum": 1, "maximum": WEB_BYTES_MAX},
        },
        "required": ["url"],
        "additionalProperties": False,
    },
    targets={"url": "address"},
    entry="femtoclaw.claws.web_exchange:execute",
    permissions=("network",),
)
