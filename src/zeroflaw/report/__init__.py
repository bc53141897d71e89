"""Results for people and other tools: heat maps, contact sheets, a page, tables, exports, and safe names."""

from zeroflaw.report.contact_sheet import SHEETS, ContactSheet, page_names
from zeroflaw.report.drawing import write_png
from zeroflaw.report.exports import FORMATS, Exports, coco, label_studio, yolo
from zeroflaw.report.heatmap import anchored, draw_heatmap, overlay
from zeroflaw.report.names import parts, safe_path, shared_folders
from zeroflaw.report.page import PAGE, Page
from zeroflaw.report.tables import COLUMNS, csv_text, rows, to_arrow, to_pandas

__all__ = [
    "COLUMNS",
    "FORMATS",
    "PAGE",
    "SHEETS",
    "ContactSheet",
    "Exports",
    "Page",
    "anchored",
    "coco",
    "csv_text",
    "draw_heatmap",
    "label_studio",
    "overlay",
    "page_names",
    "parts",
    "rows",
    "safe_path",
    "shared_folders",
    "to_arrow",
    "to_pandas",
    "write_png",
    "yolo",
]
