"""Guards by what they may cost: one table, from what was measured (``benchmarks/guards.py``)."""

from __future__ import annotations

# A profile's name stands wherever a guard's name may. contrast, rollback, search and reflect are in none: on held-out scenes
# they took back no more than verify does at less cost, or made answers worse.
PROFILES: dict[str, tuple[str, ...]] = {
    "fast": ("flag",),
    "balanced": ("verify",),
    "careful": ("agree", "verify"),
}
