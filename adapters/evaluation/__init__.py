"""How good a version is on the items that were held out, and what that is held against."""

from adapters.evaluation.evaluating import evaluate
from adapters.evaluation.evidence import Evidence
from adapters.evaluation.held_out import held_out
from adapters.evaluation.measuring import measure
from adapters.evaluation.raw import raw_inputs

__all__ = ["Evidence", "evaluate", "held_out", "measure", "raw_inputs"]
