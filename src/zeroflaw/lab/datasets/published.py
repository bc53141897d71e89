"""How many images the published data sets have, to notice a part of one that passes for the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from zeroflaw.listing import count, names
from zeroflaw.records import Category, Dataset


@dataclass(frozen=True, slots=True)
class Counts:
    """Images of one category as published; ``good`` is None where only the number of test images is known."""

    train: int
    test: int
    good: int | None = None


def _counts(text: str) -> dict[str, Counts]:
    """Read ``name train/good/defective`` of each category."""
    found = {}
    for entry in text.split(","):
        name, numbers = entry.split()
        train, good, defective = map(int, numbers.split("/"))
        found[name] = Counts(train, good + defective, good)
    return found


PUBLISHED: Mapping[str, Mapping[str, Counts]] = {
    "mvtec-ad": _counts(
        "bottle 209/20/63, cable 224/58/92, capsule 219/23/109, carpet 280/28/89, grid 264/21/57, "
        "hazelnut 391/40/70, leather 245/32/92, metal_nut 220/22/93, pill 267/26/141, screw 320/41/119, "
        "tile 230/33/84, toothbrush 60/12/30, transistor 213/60/40, wood 247/19/60, zipper 240/32/119"
    ),
    "mpdd": _counts(
        "bracket_black 289/32/47, bracket_brown 185/26/51, bracket_white 110/30/30, connector 128/30/14, "
        "metal_plate 54/26/71, tubes 122/32/69"
    ),
    "visa": _counts(
        "candle 900/100/100, capsules 542/60/100, cashew 450/50/100, chewinggum 453/50/100, "
        "fryum 450/50/100, macaroni1 900/100/100, macaroni2 900/100/100, pcb1 904/100/100, pcb2 901/100/100, "
        "pcb3 905/101/100, pcb4 904/101/100, pipe_fryum 450/50/100"
    ),
    "btad": _counts("01 400/21/49, 02 399/30/200, 03 1000/400/41"),
    "mvtec-loco": _counts(
        "breakfast_box 351/102/173, juice_bottle 335/94/236, pushpins 372/138/172, screw_bag 360/122/219, "
        "splicing_connectors 360/119/193"
    ),
    "aebad": {"AeBAD_S": Counts(521, 1639)},
    "sewerml": _counts("sewer 552820/68681/61365"),
    "kolektorsdd": _counts("commutator 0/347/52"),
    "elpv": _counts("solar_cell 0/1508/715"),
}


def compare(dataset: Dataset, *, whole: bool) -> Dataset:
    """Return a data set with a problem for whatever differs from the published counts of its layout.

    Categories get the number of test images that are not there in ``missing``. Where nothing is there of
    ``train`` nothing is said: a test set without it is measured in full.

    Args:
        dataset: as listed; its ``layout`` says what it should be.
        whole: whether all categories are wanted.
    """
    known = PUBLISHED.get(dataset.layout, {})
    categories = tuple(_compared(category, known.get(category.name)) for category in dataset)
    problems = list(dataset.problems)
    there = {category.name for category in dataset}
    if known and whole and (absent := [name for name in known if name not in there]):
        problems.append(
            f"{dataset.name}: {count(len(known), 'category', 'categories')} are published, "
            f"not here: {names(absent, 20)}."
        )
    # AeBAD_V has no published counts; in the others a name that is not known is of another data set.
    if known and dataset.layout != "aebad" and (strange := sorted(there - set(known))):
        problems.append(f"{dataset.name}: not published as a part of {dataset.layout}: {names(strange, 20)}.")
    return replace(dataset, categories=categories, problems=tuple(problems))


def _compared(category: Category, known: Counts | None) -> Category:
    if known is None:
        return category
    here = Counts(len(category.train), len(category.test), sum(r.label == 0 for r in category.test))
    wrong = here.test != known.test or known.good not in (None, here.good)
    if not wrong and here.train in (0, known.train):
        return category
    problem = f"{category.name}: published are {_say(known, known)}; here are {_say(here, known)}."
    return replace(
        category,
        problems=(*category.problems, problem),
        missing=max(category.missing, known.test - here.test),
    )


def _say(counts: Counts, known: Counts) -> str:
    train = f"{counts.train} train images, " if known.train else ""
    if known.good is None or counts.good is None:
        return f"{train}{counts.test} test images"
    return f"{train}{counts.good} good and {counts.test - counts.good} defective test images"
