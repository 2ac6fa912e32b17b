"""The mutation under which the checklist turns red."""

from __future__ import annotations

from tests.compliance.mutating import MUTATIONS, twin_trail, without

MUTATIONS |= {"the_checklist_is_complete": twin_trail(without("ApprovalRefused"))}
