"""The system prompt: the protocol and the tools in words a model understands. Pure and deterministic."""

from __future__ import annotations

import json

from femtoclaw.brains import ToolDescription

PROTOCOL = """\
You propose; another program decides and acts. Answer with exactly one JSON object and nothing else, in one of two forms:
{"message":{"content":"text for the user"}}
{"tool_call":{"tool":"NAME","args":{...}}}
Use a tool call to act, a message to finish. After a tool call you are told its result, or why it was refused.
"""


def system_prompt(tools: tuple[ToolDescription, ...]) -> str:
    """The protocol, then each tool with its description and argument schema."""
    lines = [PROTOCOL]
    for tool in tools:
        schema = json.dumps(tool.arguments_schema, sort_keys=True, separators=(",", ":"))
        lines.append(f"Tool {tool.name}: {tool.description} Arguments: {schema}\n")
    return "\n".join(lines)
