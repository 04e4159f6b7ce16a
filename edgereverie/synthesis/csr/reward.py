"""What an answer is worth: the sum of its sentences' rewards as the paper writes it, or their ranks among siblings as coded.

The two differ in more than form. The paper adds rewards, so every sentence with a positive one makes an answer worth more;
the code ranks the sentences that were tried at one place and divides by the length of the path. The code's made the
published models.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Literal

from edgereverie.search.ranks import costs
from edgereverie.synthesis.csr.trees import Tree

Reward = Literal["paper", "repo"]


def reward(tree: Tree, answer: int, kind: Reward, weight: float) -> float:
    """The worth of the answer that ends with that sentence; larger is better. weight: of relevance against likelihood."""
    path = tree.path(answer)
    return _paper(tree, path, weight) if kind == "paper" else -_cost(tree, path, weight)


def _paper(tree: Tree, path: Sequence[int], weight: float) -> float:
    """Sum over sentences of weight * relevance + (1 - weight) * probability (arXiv 2405.14622, section 3)."""
    nodes = [tree.nodes[number] for number in path]
    return sum(weight * node.relevance + (1 - weight) * exp(node.log_prob) for node in nodes)


def _cost(tree: Tree, path: Sequence[int], weight: float) -> float:
    """The costs of each sentence among its siblings, per node of the path, the root among them."""
    total = 0.0
    for number in path:
        siblings = tree.siblings(number)
        nodes = [tree.nodes[one] for one in siblings]
        found = costs([node.score for node in nodes], [node.relevance for node in nodes], weight)
        total += found[siblings.index(number)]
    return total / (len(path) + 1)
