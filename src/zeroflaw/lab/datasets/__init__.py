"""Data sets as lists of records: folders and tables are listed, no image is opened, nothing is downloaded.

A layout is a pattern, ``layouts.toml`` has them all. Every file below a root is an image, a mask, or left
over; what is left over is counted and named in the problems, except hidden files and files that are no images
where no images are wanted, such as a licence.
"""

from zeroflaw.records import Category, Dataset, LazyRecords, Record, read_mask

from .layouts import LAYOUTS, Layout
from .opening import open_auxiliary, open_dataset, open_mvtec, open_normals

__all__ = [
    "LAYOUTS",
    "Category",
    "Dataset",
    "Layout",
    "LazyRecords",
    "Record",
    "open_auxiliary",
    "open_dataset",
    "open_mvtec",
    "open_normals",
    "read_mask",
]
