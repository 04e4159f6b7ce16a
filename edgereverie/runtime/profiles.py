"""Guards by what they may cost: one table, from what was measured (``benchmarks/guards.py``)."""

from __future__ import annotations

# A profile's name stands wherever a guard's name may.
PROFILES: dict[str, tuple[str, ...]] = {
    "fast": ("flag",),
    "balanced": ("verify",),
    "careful": ("rollback", "verify"),
}
DEFAULT = "flag"  # what answers are given with where nobody says
