"""Public data sets as lists of records: folders are listed, no image is opened and nothing is downloaded."""

from .masks import read_mask
from .mvtec import open_mvtec
from .records import Category, Dataset, Record

__all__ = ["Category", "Dataset", "Record", "open_mvtec", "read_mask"]
