"""MVTec LOCO AD (Bergmann et al., IJCV 2022): defects of structure and of logic::

    <root>/<category>/train/good/000.png
    <root>/<category>/validation/good/000.png
    <root>/<category>/test/{good,logical_anomalies,structural_anomalies}/000.png
    <root>/<category>/ground_truth/{logical_anomalies,structural_anomalies}/000/000.png, 001.png, ...

An image has a folder of masks, one for each defect in it; their union is its mask. The grey level of a mask
numbers the kind of defect. Images for validation are not used, which is said.
"""

from __future__ import annotations

import os

from zeroflaw.records import Dataset

from .category import Form
from .mvtec import open_form

KINDS = ("logical_anomalies", "structural_anomalies")
LOCO = Form("mvtec-loco", unused=("validation",), mask_folders=True)


def open_loco(root: str | os.PathLike[str]) -> Dataset:
    """List MVTec LOCO AD, or one category of it; see :func:`zeroflaw.lab.datasets.open_mvtec`.

    Raises:
        DatasetError: ``root`` is no folder, cannot be read, or holds no category with a test image.
    """
    return open_form(root, LOCO)
