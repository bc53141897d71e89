"""The words of the training captions: states, defects, objects, attributes and sentence frames.

``{}`` is where the subject goes. ``STATES_*`` of the compositional ensemble and its 22 templates are the
published sets (WinCLIP, Jeong et al., CVPR 2023, section 3); everything else was written for this recipe.
``HELD_OUT_*`` never enter any training text: they measure whether the tower understands a word that it has
not been taught.
"""

from __future__ import annotations

from zeroflaw.words import ENSEMBLE_ANOMALOUS as ENSEMBLE_ANOMALOUS
from zeroflaw.words import ENSEMBLE_NORMAL as ENSEMBLE_NORMAL


def listed(text: str) -> tuple[str, ...]:
    """Split a comma-separated list that may run over lines; an entry stands on one line."""
    return tuple(entry.strip() for entry in text.split(",") if entry.strip())


PAIR = ("a photo of a normal {}", "a photo of an anomalous {}")

# The same templates as `zeroflaw.words` has, in the order that seeded captions were drawn in.
ENSEMBLE_TEMPLATES = (
    "a cropped photo of the {}",
    "a cropped photo of a {}",
    "a close-up photo of a {}",
    "a close-up photo of the {}",
    "a bright photo of a {}",
    "a bright photo of the {}",
    "a dark photo of the {}",
    "a dark photo of a {}",
    "a jpeg corrupted photo of a {}",
    "a jpeg corrupted photo of the {}",
    "a blurry photo of the {}",
    "a blurry photo of a {}",
    "a photo of a {}",
    "a photo of the {}",
    "a photo of a small {}",
    "a photo of the small {}",
    "a photo of a large {}",
    "a photo of the large {}",
    "a photo of the {} for visual inspection",
    "a photo of a {} for visual inspection",
    "a photo of the {} for anomaly detection",
    "a photo of a {} for anomaly detection",
)
OTHER_TEMPLATES = (
    "{}",
    "a {}",
    "the {}",
    "photo of {}",
    "a photo of {}",
    "a photo of one {}",
    "an image of a {}",
    "an image of the {}",
    "a picture of the {}",
    "a picture of a {}",
    "this is a {}",
    "there is a {} in the scene",
    "here we see a {}",
    "an industrial photo of a {}",
    "a macro photo of the {}",
    "a grayscale photo of a {}",
    "a camera image of the {}",
    "a {} on a production line",
    "a {} seen from above",
    "a high-resolution photo of the {}",
    "a low-resolution photo of a {}",
    "product photo of a {}",
)

# The plain state "{}" of the ensemble is left out here: as a caption of its own it says nothing.
NORMAL = (
    "normal {}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
    "{} without flaws",
    "{} without defects",
    "{} without any damage",
    "{} without a scratch",
    "{} without any anomaly",
    "intact {}",
    "undamaged {}",
    "clean {}",
    "good {}",
    "pristine {}",
    "defect-free {}",
    "flaw-free {}",
    "{} free of defects",
    "{} free of flaws",
    "healthy {}",
    "{} in good condition",
    "{} in perfect condition",
    "{} in perfect shape",
    "{} with no scratches",
    "{} with no defects",
    "{} with no damage",
    "non-defective {}",
    "acceptable {}",
    "{} that passed inspection",
    "{} with a uniform surface",
    "spotless {}",
    "regular {}",
    "unbroken {}",
    "{} as expected",
    "ok {}",
    "fine {}",
    "complete {}",
    "ordinary {}",
    "typical {}",
    "{} of good quality",
    "standard {}",
    "correct {}",
    "unspoiled {}",
    "properly made {}",
)
ANOMALOUS = (
    "anomalous {}",
    "damaged {}",
    "{} with flaw",
    "{} with defect",
    "{} with damage",
    "{} with flaws",
    "{} with defects",
    "{} with a flaw",
    "{} with a defect",
    "{} with some damage",
    "{} with visible damage",
    "{} with an anomaly",
    "{} with anomalies",
    "defective {}",
    "broken {}",
    "abnormal {}",
    "faulty {}",
    "flawed {}",
    "imperfect {}",
    "blemished {}",
    "bad {}",
    "{} in bad condition",
    "{} in poor condition",
    "rejected {}",
    "{} that failed inspection",
    "{} with a blemish",
    "irregular {}",
    "unusual {}",
    "{} with something wrong",
    "spoiled {}",
    "{} with a fault",
    "unacceptable {}",
    "not ok {}",
    "{} with imperfections",
    "{} with a defective region",
    "{} with a damaged spot",
    "unhealthy {}",
    "{} of bad quality",
    "incorrect {}",
    "wrong {}",
    "atypical {}",
    "badly made {}",
    "{} with a manufacturing error",
    "harmed {}",
)
HELD_OUT_NORMAL = ("immaculate {}", "faultless {}", "unscathed {}", "untouched {}", "sound {}", "whole {}")
HELD_OUT_ANOMALOUS = ("marred {}", "ruined {}", "tainted {}", "disfigured {}", "wrecked {}", "mangled {}")
# Words that only the word list and the ordinary sentences teach; no caption uses them as a state.
TAUGHT_NORMAL = ("magnificent {}", "superb {}", "wonderful {}", "fresh {}", "excellent {}", "stable {}")
TAUGHT_ANOMALOUS = ("leaking {}", "burnt {}", "rotten {}", "crushed {}", "fractured {}", "smashed {}")

DEFECTS: dict[str, tuple[str, ...]] = {
    "scratch": (
        "scratched {}",
        "{} with a scratch",
        "{} with scratches",
        "{} with a thin line scratched into it",
        "scuffed {}",
        "{} with a scrape",
    ),
    "crack": ("cracked {}", "{} with a crack", "{} with cracks", "{} with a fracture", "{} with a fissure"),
    "hole": ("{} with a hole", "{} with holes", "{} with a puncture", "pierced {}", "{} with a poke mark"),
    "dent": (
        "dented {}",
        "{} with a dent",
        "{} with a bump",
        "{} with an uneven surface",
        "{} with a dimple",
    ),
    "stain": (
        "stained {}",
        "{} with a stain",
        "dirty {}",
        "{} with a liquid stain",
        "discoloured {}",
        "{} with discoloration",
    ),
    "spot": (
        "{} with a colour spot",
        "{} with a wrong colour",
        "{} with a paint spot",
        "{} with a color defect",
        "spotted {}",
    ),
    "contamination": (
        "contaminated {}",
        "{} with contamination",
        "{} with a foreign object",
        "{} with dirt on it",
        "{} with dust and dirt",
    ),
    "fibre": (
        "{} with a foreign fibre",
        "{} with a fiber on it",
        "{} with a thread on it",
        "{} with a hair on it",
        "{} with a loose strand",
    ),
    "cutpaste": (
        "{} with a misplaced part",
        "{} with a displaced part",
        "{} with a wrong piece",
        "misaligned {}",
    ),
    "missing": (
        "{} with a missing part",
        "incomplete {}",
        "{} with a missing piece",
        "{} with a gap",
        "{} with something missing",
    ),
    "edge": ("chipped {}", "{} with a broken edge", "{} with a broken corner", "{} with a chipped edge"),
    "smear": ("smeared {}", "{} with a smudge", "{} with a blurred mark", "smudged {}", "{} with a smear"),
    "warp": ("bent {}", "deformed {}", "distorted {}", "squeezed {}", "{} with a fold", "warped {}"),
    "glue": (
        "{} with glue on it",
        "{} with a drop of glue",
        "{} with an oil drop",
        "sticky {}",
        "{} with glue residue",
    ),
    "print": (
        "misprinted {}",
        "{} with a faulty imprint",
        "{} with a stray mark",
        "{} with a pen stroke",
        "{} with a print error",
    ),
    "swap": (
        "{} with a foreign texture",
        "{} with a strange patch",
        "{} with a wrong material",
        "patched {}",
    ),
    "cut": ("cut {}", "{} with a cut", "torn {}", "{} with a slit", "{} with a tear", "ripped {}"),
    "erode": ("worn {}", "eroded {}", "rough {}", "{} with a rough patch", "{} with worn areas", "frayed {}"),
    "split": ("{} broken in two", "split {}", "snapped {}", "shattered {}", "{} broken apart"),
    "rust": ("rusty {}", "corroded {}", "{} with rust", "oxidised {}", "{} with corrosion", "decayed {}"),
}

GENERIC = (
    "object",
    "item",
    "part",
    "product",
    "component",
    "thing",
    "sample",
    "piece",
    "surface",
    "material",
)
OBJECTS = listed(
    """
    texture,device,workpiece,fabric,cloth,metal,plastic,wood,paper,stone,concrete,glass,rubber,ceramic,
    steel plate,circuit board,gear,bolt,nail,washer,ring,disc,plate,bracket,tube,pipe,spring,wheel,button,
    coin,cup,can,box,bag,label,fruit,apple,biscuit,cookie,bread,seed,leaf,candle,microchip,connector,
    battery,switch,cap,lid,needle,sheet,foil,wall,floor,brick,road,rail,solar cell,wafer,lens,phone,
    keyboard,tool,hammer,screwdriver,toy,shoe,textile,carpet,leather,tile,wood board,grid,mesh,bottle,
    cable,capsule,pill,metal nut,screw,toothbrush,transistor,zipper,hazelnut,casting,tablet,magnet,shaft,
    bearing,valve,hose,gasket,pump,housing,panel,door,window,table,chair,plank,beam,rope,wire,coil,motor,
    turbine blade,sewer pipe,weld,hinge,handle,lamp,bulb,diode,resistor,ceramic cup,jar,package,carton,
    sticker,film,ribbon,tire,rim,brake disc,glove,shirt,sock,towel,blanket,cashew,macaroni,chewing gum,
    potato,tomato,egg,cheese,meat,pcb,syringe,vial,bandage,mask,glasses,watch,clock,mirror,spoon,fork,
    knife,pan,pot,pen,pencil,eraser,book,card,ticket,roof tile,marble slab,granite,asphalt,bridge,tunnel,
    rail track
    """
)

# Words that say nothing about the state of the subject (so no age, cleanliness or wrong shape).
ATTRIBUTES = listed(
    """
    red,blue,green,yellow,purple,orange,brown,white,black,grey,pink,turquoise,beige,golden,silver,wide,
    narrow,tall,short,round,square,flat,long,heavy,light,wooden,metallic,plastic,transparent,opaque,
    striped,dotted,shiny,matt,cold,warm,empty,full,closed,open,left,right,front,rear,upper,lower,first,
    second,third,summer,winter,spring,tuesday,sunday,january,october,european,asian,american,domestic,
    industrial,medical,electronic,cheap,expensive,circular,rectangular,triangular,oval,dark,bright,single,
    double,modern,simple,complex,thin,thick,soft,hard,quick,slow,big,tiny,huge,medium,northern,southern,
    eastern,western,indoor,outdoor,portable,electric,manual,digital,famous,local,home-made,imported,
    handmade,machine-made,cylindrical,hollow,solid,curved,straight,vertical,horizontal,diagonal,cotton,
    woollen,copper,brass,iron,aluminium,leather,glass,rubber,ceramic,stone,paper,cat,dog,horse,bird,car,
    train,house,tree,river,mountain,music,number,seven,twelve,alpha,delta,morning,evening,monochrome
    """
)
