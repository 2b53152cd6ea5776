import pytest

from rlkit.data.memory import available_bytes, check_budget, megabytes
from rlkit.errors import MemoryBudgetError


def test_free_memory_is_known_and_plausible():
    free = available_bytes()
    assert free is None or 10e6 < free < 1e15


def test_the_message_says_needed_available_and_what_to_do():
    with pytest.raises(MemoryBudgetError, match=r"replay needs 2.0 GB, 500 MB are available\.\nChoose less"):
        check_budget("replay", 2_000_000_000, "Choose less.", available=500_000_000)
    check_budget("replay", 400_000_000, "Choose less.", available=500_000_000)


def test_bytes_in_words():
    assert [megabytes(count) for count in (12_000, 172_000_000, 3_100_000_000)] == ["12 kB", "172 MB", "3.1 GB"]
