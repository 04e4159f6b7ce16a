"""The words that judges are asked with: one text file for each. The words are ours, the rules are the benchmarks' own.

mmhal: MMHal-Bench's eval_gpt4.py, a rating from 0 to 6 of information and hallucination, given the objects and a right answer.
gavie: LRV-Instruction's Evaluation/evaluate.py, accuracy and relevancy from 0 to 10, given captions with boxes.
mmvet: MM-Vet's mm-vet_evaluator.py, correctness from 0.0 to 1.0 with <AND> and <OR>, learned from examples.
llavabench: LLaVA's eval_gpt_review_bench.py with table/rule.json, two ratings from 1 to 10 on the first line.
hallusionbench: HallusionBench's utils.py, an answer correct, incorrect or unclear by the right one.
hallusionbench_same: the same, whether two answers contradict each other.
again: what is added to a question whose reply could not be read.
"""

from __future__ import annotations

from edgereverie.text.prompt import Prompt, shipped_prompt


def prompt(name: str) -> Prompt:
    """The shipped prompt of that name."""
    return shipped_prompt(__name__, name)
