"""Pictures of results: heat maps on a fixed scale, ranked contact sheets, and safe names for them."""

from .contact_sheet import SHEETS, ContactSheet, page_names
from .drawing import write_png
from .heatmap import draw_heatmap, overlay
from .names import safe_name

__all__ = ["SHEETS", "ContactSheet", "draw_heatmap", "overlay", "page_names", "safe_name", "write_png"]
