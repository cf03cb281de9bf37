# SPDX-License-Identifier: Apache-2.0
"""A CLIP tokenizer in which every word of the grammar is one token; any other word falls apart into letters."""

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

END = "</w>"


def build_tokenizer(words, length):
    """Stock `CLIPTokenizer` over bytes plus `words`, padded and cut to `length` tokens."""
    letters = list(bytes_to_unicode().values())
    merges = []
    for word in words:
        while len(pieces := _split(word, merges)) > 1:      # a later merge ranks lower, so earlier words stay whole
            merges.append((pieces[0], pieces[1]))
    vocabulary = [*letters, *(letter + END for letter in letters), *dict.fromkeys(a + b for a, b in merges)]
    ids = {token: i for i, token in enumerate([*vocabulary, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=length)


def token_ids(tokenizer, captions):
    """Ids (B,length) as int64, padded and cut."""
    return tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


def _split(word, merges):
    """Byte-pair encode one word with the merges so far, best rank first."""
    pieces, rank = [*word[:-1], word[-1] + END], {pair: i for i, pair in enumerate(merges)}
    while True:
        pairs = [(rank[pair], i) for i, pair in enumerate(zip(pieces, pieces[1:])) if pair in rank]
        if not pairs:
            return pieces
        _, i = min(pairs)
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
