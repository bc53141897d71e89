"""BTAD, the BeanTech anomaly detection data set (Mishra et al., ISIE 2021)::

    <root>/{01,02,03}/train/ok/*
    <root>/{01,02,03}/test/ok/*
    <root>/{01,02,03}/test/ko/*
    <root>/{01,02,03}/ground_truth/ko/*

It is the layout of MVTec AD with other words for good. Images mix ``.bmp`` and ``.png``, and so do masks, so
that they are matched by stem. The products have numbers for names, which say nothing in a prompt: they are
called "product" there.
"""

from __future__ import annotations

import os

from zeroflaw.records import Dataset

from .category import Form
from .mvtec import open_form

BTAD = Form("btad", good="ok", objects={"01": "product", "02": "product", "03": "product"})


def open_btad(root: str | os.PathLike[str]) -> Dataset:
    """List BTAD, or one product of it, without opening an image; see `zeroflaw.lab.datasets.open_mvtec`.

    Raises:
        DatasetError: ``root`` is no folder, cannot be read, or holds no category with a test image.
    """
    return open_form(root, BTAD)
