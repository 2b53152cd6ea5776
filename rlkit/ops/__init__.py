"""Equations as pure functions, one subject a file, in the notation of their papers."""
