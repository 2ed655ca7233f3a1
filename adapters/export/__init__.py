"""From torch to canonical ONNX segments."""

from adapters.export.exporting import Exported, exit_port, export, export_head, export_readout, wires
from adapters.export.heads import linear_head

__all__ = ["Exported", "exit_port", "export", "export_head", "export_readout", "linear_head", "wires"]
