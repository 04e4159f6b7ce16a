"""What a run will take, before it starts: memory by part and time, for this machine and for cards of other sizes."""

from edgereverie.tuning.plan.cards import CARDS, Machine, named_card, this_machine
from edgereverie.tuning.plan.planner import FEATURES, Estimate, Plan, Planner, Verdict, changed, settings

__all__ = [
    "CARDS",
    "FEATURES",
    "Estimate",
    "Machine",
    "Plan",
    "Planner",
    "Verdict",
    "changed",
    "named_card",
    "settings",
    "this_machine",
]
