"""The process that holds a claim: how a person finds it, and whether it is known to be over."""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

__all__ = ["LEFT", "is_over", "new_holder"]

LEFT: set[str] = set()
"""Holders of this process that hold nothing any more, also in a store that cannot be written."""


def new_holder() -> str:
    """Of an opened store: host, number of the process, where that counts, and a random word."""
    return f"{socket.gethostname()} {os.getpid()} {_numbered()} {uuid4().hex[:12]}"


def is_over(holder: str) -> bool:
    """Whether a holder left, or was a process of this machine that is no more; else False."""
    if holder in LEFT:
        return True
    _, process, numbered, _ = (*holder.split(), "", "", "", "")[:4]
    if numbered != _numbered() or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is another user's
        pass
    return False


@lru_cache(maxsize=1)
def _numbered() -> str:
    """Where process numbers count: this boot of this machine, and within it this container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        return uuid4().hex
