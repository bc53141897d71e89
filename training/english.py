"""Ordinary English from a small grammar, and strings that mean nothing.

The text tower must not live on captions alone: users type other words. Sentences are drawn from the frames
below; every open slot may also take any word of a ``lexicon`` that the caller supplies.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from random import Random

from training import vocabulary as words

_SLOTS: dict[str, tuple[str, ...]] = {
    "who": words.listed(
        """
        the man,a woman,my brother,our neighbour,the teacher,a customer,the inspector,she,he,someone,
        the engineer,a child,the driver,an old friend,the cook,the doctor,a worker,the girl,nobody,
        the company,my sister,the team
        """
    ),
    "does": words.listed(
        """
        bought,sold,found,lost,painted,cleaned,repaired,broke,washed,inspected,measured,carried,opened,
        closed,saw,photographed,made,built,needs,wants,returned,dropped,kept,moved,ordered,liked,forgot,
        tested,described,drew
        """
    ),
    "where": words.listed(
        """
        in the kitchen,at the factory,on the table,in the city,near the river,under the bridge,at home,
        in the office,on the street,behind the house,in the warehouse,at school,by the sea,on the shelf,
        in the garden,at the market,in the laboratory,on a conveyor belt,in the box,next to the window,
        in the forest,on the floor
        """
    ),
    "when": words.listed(
        """
        yesterday,this morning,last week,every day,in the evening,in winter,on monday,before lunch,
        after the storm,during the night,long ago,next year,in summer,at noon,tomorrow,all the time,
        once a month,in the afternoon
        """
    ),
    "how": words.listed(
        """
        quickly,slowly,carefully,badly,well,quietly,by hand,with care,without help,together,again,
        very often,almost never,in a hurry,with a smile,for the first time,by mistake,on purpose
        """
    ),
    "quality": words.listed(
        """
        beautiful,ugly,cheap,expensive,old,new,strong,weak,dangerous,safe,useful,strange,clean,dirty,
        broken,perfect,damaged,rusty,wet,dry,warm,cold,heavy,light,empty,full,small,large,colourful,bright,
        dark,soft,hard,smooth,rough,flawless,defective,scratched,intact,cracked,normal,bent,stained,good,
        bad,excellent,terrible,acceptable
        """
    ),
    "flaw": words.listed(
        """
        a scratch,a crack,a hole,a dent,a stain,dirt,rust,mould,a missing part,a wrong colour,a tear,
        a bubble,a burn,a broken edge,glue,oil,dust,a loose thread,a bent pin,a fold,an insect,water,
        moisture,a leak,wear,corrosion,discoloration,a bump,a scuff mark,fingerprints,a print error,a cut,
        a chip,a deep groove,a smudge,no defect,no damage,nothing unusual,nothing wrong,a label,a logo,
        a shadow,a reflection,text,a number
        """
    ),
    "event": words.listed(
        """
        the rain stopped,the light went out,the train was late,the machine stopped,the music began,
        the dog barked,the price went up,the door opened,the test failed,the test passed,the shop closed,
        the sun came out,the meeting ended,the snow melted,the water boiled,the engine started
        """
    ),
    "why": words.listed(
        """
        it was cheap,it was broken,nobody asked,the weather was good,it looked new,it had a defect,
        there was no time,it was too heavy,the colour was wrong,it worked,it was raining,everyone liked it,
        it did not pass the test
        """
    ),
}

_SENTENCES = (
    "{who} {does} the {thing} {where}",
    "{who} {does} a {quality} {thing} {when}",
    "the {thing} is {quality}",
    "the {thing} {where} is {quality} and {quality}",
    "is the {thing} {quality}?",
    "{when} {who} {does} the {thing} {how}",
    "there is {flaw} on the {thing}",
    "the {thing} has {flaw}",
    "we found {flaw} on the {quality} {thing} {when}",
    "{event} and {who} {does} the {thing}",
    "{who} {does} the {thing} because {why}",
    "a {quality} {thing} with {flaw}",
    "{flaw}",
    "{quality} {thing}",
    "{thing} with {flaw}",
    "not {quality}",
    "i think that the {thing} is {quality}",
    "how {quality} is a {thing} {where}?",
    "{event} {when}.",
    "please bring the {thing} {when}, {who} needs it {how}",
    "a photo of {flaw}",
    "a photo of a {thing} {where}",
    "a photo of a {thing} with {flaw}",
    "a photo of a {quality} {thing}",
    "close-up of {flaw} on a {thing}",
    "an image showing {flaw}",
    "{thing} and {thing}",
    "{who} said that {event}",
    "the colour of the {thing} is {attribute}",
    "{attribute} {thing} {where}",
    "a {attribute} and {quality} {thing}",
    "no {thing} {where}",
    "the {thing} next to the {thing} is {quality}",
    "this {thing} was {quality} but now it is {quality}",
)


def sentence(rng: Random, lexicon: Sequence[str] = ()) -> str:
    """Return one sentence; with a ``lexicon``, about a third of the noun and quality slots take its words."""

    def fill(match: re.Match[str]) -> str:
        slot = match.group(1)
        if slot in {"thing", "quality"} and lexicon and rng.random() < 0.35:
            return rng.choice(lexicon)
        return rng.choice(_choices(slot))

    text = re.sub(r"\{(\w+)\}", fill, rng.choice(_SENTENCES))
    text = re.sub(r"\ba (?=[aeio]|un(?!i))", "an ", text)
    return _dress(rng, text)


def _choices(slot: str) -> Sequence[str]:
    if slot == "thing":
        return words.OBJECTS + words.GENERIC
    return words.ATTRIBUTES if slot == "attribute" else _SLOTS[slot]


def _dress(rng: Random, text: str) -> str:
    """Give some texts a capital first letter or a full stop, as people write."""
    if rng.random() < 0.3:
        text = text[0].upper() + text[1:]
    return text + "." if rng.random() < 0.25 and text[-1] not in ".?" else text


_ALPHABETS = (
    string.ascii_lowercase,
    string.ascii_letters,
    string.digits,
    string.ascii_lowercase + string.digits,
    string.ascii_letters + string.digits + "-_./#:+",
    "äöüßéèêçñåøœ" + string.ascii_lowercase,
    "正常異常品傷欠陥写真良好损坏裂纹表面",
    "абвгдежзиклмнопрст",
    "🔧🔩⚙️📷🧪✅❌🙂🚗🍎",
)


def nonsense(rng: Random) -> str:
    """Return one to six strings without meaning; four in ten are plain lower-case letters."""
    alphabet = _ALPHABETS[0] if rng.random() < 0.4 else rng.choice(_ALPHABETS)
    return " ".join(
        "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 9))) for _ in range(rng.randint(1, 6))
    )
