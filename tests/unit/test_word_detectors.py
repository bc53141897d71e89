"""Detectors by words: their sentences, their scores and how these are fused; and what all detectors take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from short_fits import Workshop, noise
from zeroflaw import RWDA, NotFittedError, UsageError
from zeroflaw.detectors.text_head import parse_fusion
from zeroflaw.runtime.scores import expit, fuse

KNOWN = ("prompt", "fnn", "prompt_part", "fnn_part")


def test_the_network_has_the_papers_four_layers(workshop: Workshop) -> None:
    network = workshop.fit("rwda", hidden=RWDA().hidden).scorer_.heads["fnn"]
    assert [layer.weight.shape for layer in network.layers] == [(512, 24), (256, 512), (128, 256), (1, 128)]


@pytest.mark.parametrize(("object", "end"), [(None, ""), ("metal_nut", " metal nut")])
def test_pairs_share_their_random_words_and_the_object(
    object: str | None, end: str, workshop: Workshop
) -> None:
    words = workshop.fit("rwda", object=object).words_
    assert len(words["pairs"]) == len(set(words["pairs"])) == 40
    first = words["pairs"][0]
    assert words["example"] == {
        "normal": f"a photo of a normal {first}{end}",
        "anomalous": f"a photo of an anomalous {first}{end}",
    }
    assert words["prompt"]["normal"] == [f"a photo of a normal{end or ' object'}"]


@pytest.mark.parametrize(
    ("name", "normal", "anomalous"),
    [
        ("clip", "a photo of a normal metal nut", "a photo of an anomalous metal nut"),
        ("clip-ac", "normal metal nut", "anomalous metal nut"),
    ],
)
def test_presets_of_one_pair(name: str, normal: str, anomalous: str, workshop: Workshop) -> None:
    told = workshop.fit(name, object="metal_nut").words_["prompt"]
    assert told == {"normal": [normal], "anomalous": [anomalous]}
    assert workshop.fit(name).words_["prompt"] == {
        side: [text.replace("metal nut", "object") for text in texts] for side, texts in told.items()
    }


@pytest.mark.parametrize(("name", "counts"), [("clip-ac-templates", (80, 80)), ("clip-ensemble", (154, 88))])
def test_an_ensemble_is_the_mean_of_its_sentences(
    name: str, counts: tuple[int, int], workshop: Workshop
) -> None:
    detector = workshop.fit(name, object="metal_nut")
    prompt = detector.words_["prompt"]
    assert (len(set(prompt["normal"])), len(set(prompt["anomalous"]))) == counts
    x = detector.backbone_.embed_images(noise(1)).image[0].astype(np.float64)
    cosines = []
    for texts in prompt.values():
        assert all("metal nut" in text for text in texts)
        total = sum(detector.backbone_.embed_texts([text])[0].double().numpy() for text in texts)
        cosines.append(float(x @ total / np.sqrt(total @ total)))
    (found,) = detector.predict(noise(1))
    assert found.logit == pytest.approx(detector.backbone_.logit_scale * (cosines[1] - cosines[0]), abs=1e-3)


def test_readings_of_the_fusion(workshop: Workshop) -> None:
    (a,) = workshop.fit("rwda").predict(noise(1))
    assert set(a.scores) == {"prompt", "fnn"}
    assert a.score == pytest.approx((a.scores["prompt"] + a.scores["fnn"]) / 2)
    (b,) = workshop.fit("rwda", fusion="B").predict(noise(1))
    assert b.score == pytest.approx((b.scores["prompt"] + b.scores["prompt_part"] + b.scores["fnn"]) / 3)
    (part,) = workshop.fit("rwda", fusion="head_part", image_in_map=False).predict(noise(1), maps=True)
    assert part.score == pytest.approx(float(part.map.max()), abs=1e-6)
    (part,), (whole,) = (workshop.fit("clip", fusion=f).predict(noise(1)) for f in ("prompt_part", "prompt"))
    assert part.score == pytest.approx(part.scores["prompt_part"])
    assert abs(part.logit - whole.logit) > 1


@pytest.mark.parametrize("head", ["fnn", "mean-difference", "logistic", "lda"])
def test_temperature_changes_probabilities_and_no_order(head: str, workshop: Workshop) -> None:
    one, other = (
        list(workshop.fit("rwda", head=head, fusion="head", temperature=t).predict(noise(5)))
        for t in (1.0, 0.1)
    )
    assert [a.logit * 10 for a in one] == pytest.approx([b.logit for b in other], rel=1e-2, abs=1e-3)
    assert set(one[0].scores) == {"prompt", head}


def test_what_any_detector_takes(workshop: Workshop) -> None:
    detector, image = workshop.make("clip", normal=["fine"]), noise(1)[0]
    assert detector.normal == ("fine",)  # lists are as good as tuples
    with pytest.raises(NotFittedError, match=r"must be fitted before this; call fit\(\)"):
        detector.predict([image])
    detector.fit()
    for one in ("a.png", b"", Path("a.png"), image, Image.fromarray(image)):
        with pytest.raises(UsageError, match="list of images"):
            detector.predict(one)
    with pytest.raises(UsageError, match="batch_size"):
        detector.predict([image], batch_size=1.5)
    assert [p.source for p in detector.predict(np.stack([image, image]))] == ["image 0", "image 1"]


# --- how weights are written


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("A", {"prompt": 0.5, "fnn": 0.5}),
        ("B", {"prompt": 1 / 3, "prompt_part": 1 / 3, "fnn": 1 / 3}),
        ("head", {"fnn": 1.0}),
        ("head_part", {"fnn_part": 1.0}),
        ("prompt + fnn", {"prompt": 0.5, "fnn": 0.5}),
        ("prompt=1,fnn=3", {"prompt": 0.25, "fnn": 0.75}),
    ],
)
def test_weights_are_read_and_sum_to_one(text: str, weights: dict[str, float]) -> None:
    assert parse_fusion(text, KNOWN, "fnn") == pytest.approx(weights)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "got ''"),
        ("promt", "did you mean 'prompt'"),
        ("prompt=0", "a weight from 1e-6 to 1e6, got 'prompt=0'"),
        ("prompt=-1,fnn=2", "prompt=-1"),
        ("prompt=x", "prompt=x"),
        ("prompt=nan", "prompt=nan"),
        ("fnn=1e308", "fnn=1e308"),
        ("fnn+head", "'fnn' twice"),
    ],
)
def test_wrong_weights_are_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=f"fusion wants .*{says}"):
        parse_fusion(text, KNOWN, "fnn")


@settings(max_examples=50, deadline=None)
@given(st.floats(-8, 8), st.floats(-8, 8), st.floats(0.01, 0.99))
def test_the_fused_log_odds_are_those_of_the_mean_probability(a: float, b: float, weight: float) -> None:
    fused = fuse({"prompt": np.array([a]), "fnn": np.array([b])}, {"prompt": weight, "fnn": 1 - weight})
    assert expit(fused[0]) == pytest.approx(weight * expit(a) + (1 - weight) * expit(b), abs=1e-12)


def test_saturated_scores_keep_their_order() -> None:
    logits = np.array([-900.0, -60.0, 60.0, 61.0, 200.0, 900.0])
    fused = fuse({"prompt": logits, "fnn": logits}, {"prompt": 0.5, "fnn": 0.5})
    np.testing.assert_allclose(fused, logits, rtol=1e-9)
    alone = fuse({"prompt": logits, "fnn": 0 * logits}, {"prompt": 1.0})
    np.testing.assert_array_equal(alone, logits)
