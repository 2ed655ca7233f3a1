"""Evaluation of a version on its test set, with baselines."""

from adapters.evaluation.evaluating import evaluate
from adapters.evaluation.evidence import Evidence
from adapters.evaluation.held_out import held_out
from adapters.evaluation.measuring import measure
from adapters.evaluation.raw import raw_inputs

__all__ = ["Evidence", "evaluate", "held_out", "measure", "raw_inputs"]
