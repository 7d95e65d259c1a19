"""Verdict codes as kernels write them."""

from __future__ import annotations

from sched_core.codes import VerdictCode

STARTED = int(VerdictCode.STARTED)
PRIORITY = int(VerdictCode.PRIORITY)
RESOURCES = int(VerdictCode.RESOURCES)
NODE_NOT_AVAIL = int(VerdictCode.NODE_NOT_AVAIL)
NEVER = int(VerdictCode.NEVER)
NOT_REACHED = int(VerdictCode.NOT_REACHED)
BEGIN_TIME = int(VerdictCode.BEGIN_TIME)
ARRAY_LIMIT = int(VerdictCode.ARRAY_LIMIT)
DEADLINE = int(VerdictCode.DEADLINE)
LICENSES = int(VerdictCode.LICENSES)
LIMIT = int(VerdictCode.LIMIT)
