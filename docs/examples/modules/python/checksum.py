"""The claw `text.checksum` in Python: the FNV-1a hash of its arguments as canonical JSON."""

import json

from femtoclaw.sdk import ArgumentError, claw


@claw(
    name="text.checksum",
    version="1.0.0",
    description="The FNV-1a hash of a text as canonical JSON, in hexadecimal.",
    category="system",
    arguments={"text": {"type": "string", "maxLength": 100000}},
    deterministic=True,
)
def checksum(text: str) -> dict[str, str]:
    if "\0" in text:
        raise ArgumentError("a text without zero characters is needed")
    value = 2166136261
    for byte in json.dumps({"text": text}, separators=(",", ":"), ensure_ascii=False).encode():
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return {"checksum": f"{value:08x}"}
