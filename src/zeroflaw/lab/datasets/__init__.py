"""Data sets as lists of records: folders and tables are listed, no image is opened, nothing is downloaded.

:func:`open_dataset` opens every layout of :data:`LAYOUTS`; each has its own module, which pictures it.
"""

from zeroflaw.masks import read_mask
from zeroflaw.records import Category, Dataset, LazyRecords, Record

from .mvtec import open_mvtec
from .normals import open_auxiliary, open_normals
from .opening import open_dataset
from .registry import LAYOUTS, Layout

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
