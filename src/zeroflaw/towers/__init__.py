"""Everything that knows a CLIP: towers, tokenizer, preprocessing, weights."""
