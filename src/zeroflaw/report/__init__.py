"""Pictures of results: heat maps on a fixed scale, ranked contact sheets, and safe names for them."""

from zeroflaw.report.contact_sheet import SHEETS, ContactSheet, page_names
from zeroflaw.report.drawing import write_png
from zeroflaw.report.heatmap import draw_heatmap, overlay
from zeroflaw.report.names import parts, safe_path, shared_folders

__all__ = [
    "SHEETS",
    "ContactSheet",
    "draw_heatmap",
    "overlay",
    "page_names",
    "parts",
    "safe_path",
    "shared_folders",
    "write_png",
]
