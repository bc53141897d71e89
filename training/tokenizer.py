"""Train the byte-level tokenizer of the bundled model: ``python -m training.tokenizer``.

Byte-pair encoding over UTF-8 bytes (Sennrich et al., ACL 2016; bytes as in GPT-2): every byte is in the
vocabulary, so no text has an unknown token. Text is composed (NFC), lower-cased and its blanks collapsed, as
CLIP does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

START, END = "<|startoftext|>", "<|endoftext|>"
VOCAB_SIZE = 6144


def train_tokenizer(texts: Iterable[str], vocab_size: int = VOCAB_SIZE) -> Tokenizer:
    """Return a tokenizer with at most ``vocab_size`` entries; the special tokens have the two highest ids.

    Equal texts in equal order give an equal tokenizer. There must be room for 256 bytes and 2 special tokens.
    """
    if vocab_size < 258:
        raise ValueError(
            f"vocab_size must be at least 258 (256 bytes and 2 special tokens), got {vocab_size}"
        )
    tokenizer = Tokenizer(models.BPE())
    blanks = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), blanks, normalizers.Lowercase(), normalizers.Strip()]
    )
    # The blank belongs to the word after it; with one in front of the first, a word is the same anywhere.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([START, END])
    return _wrap(tokenizer)


def _wrap(tokenizer: Tokenizer) -> Tokenizer:
    """Let every text come back between the start and the end token."""
    specials = [(token, tokenizer.token_to_id(token)) for token in (START, END)]
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=specials),
        ]
    )
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str], context: int = 77) -> tuple[np.ndarray, np.ndarray]:
    """Return token ids (N, T) uint16, padded with zeros, and end-of-text positions (N,) int64.

    T is the longest text, at most ``context``; a longer text is cut and its last token becomes the end token.
    """
    rows = [text.ids for text in tokenizer.encode_batch(list(texts))]
    rows = [row if len(row) <= context else [*row[: context - 1], row[-1]] for row in rows]
    ends = np.array([len(row) - 1 for row in rows], np.int64)
    ids = np.zeros((len(rows), int(ends.max()) + 1), np.uint16)
    for line, row in zip(ids, rows, strict=True):
        line[: len(row)] = row
    return ids, ends


@click.command()
@click.option("--seed", default=0, show_default=True, help="Seed of the texts it is trained on.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Where tokenizer.json goes.")
def main(seed: int, output: Path) -> None:
    """Train the tokenizer on captions, sentences and the teacher's word list."""
    from training.corpus import tokenizer_texts
    from training.teacher import lexicon
    from zeroflaw.files import write_text

    tokenizer = train_tokenizer(tokenizer_texts(seed, lexicon()))
    write_text(output, tokenizer.to_str(pretty=False))
    click.echo(f"{output}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
