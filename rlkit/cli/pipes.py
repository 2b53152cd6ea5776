"""Standard output whose reader has gone, as after `| head`."""

from __future__ import annotations

import os
import sys


def discard_output() -> None:
    """Send standard output, and what of it is not written yet, nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
