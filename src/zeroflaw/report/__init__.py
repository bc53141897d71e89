"""Results for people and other tools: heat maps, a page, tables, exports, and safe names."""

from zeroflaw.report.drawing import write_png
from zeroflaw.report.exports import FORMATS, Exports, coco, label_studio, yolo
from zeroflaw.report.heatmap import anchored, caption, draw_heatmap, overlay, panel
from zeroflaw.report.names import parts, safe_path, shared_folders
from zeroflaw.report.page import PAGE, Page, pictures_of
from zeroflaw.report.tables import COLUMNS, csv_text, rows, to_arrow, to_pandas

__all__ = [
    "COLUMNS",
    "FORMATS",
    "PAGE",
    "Exports",
    "Page",
    "anchored",
    "caption",
    "coco",
    "csv_text",
    "draw_heatmap",
    "label_studio",
    "overlay",
    "panel",
    "parts",
    "pictures_of",
    "rows",
    "safe_path",
    "shared_folders",
    "to_arrow",
    "to_pandas",
    "write_png",
    "yolo",
]
