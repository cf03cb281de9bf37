# SPDX-License-Identifier: Apache-2.0
"""Text encoders: from prompts to what the networks read of them. Each distinct text is encoded once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ClipText:
    """A CLIP text encoder. `penultimate`: reads the last layer but one, before the final norm (SDXL and later)."""

    tokenizer: Any = field(repr=False)
    encoder: nn.Module = field(repr=False)
    penultimate: bool = False

    @property
    def length(self) -> int:
        """Tokens per prompt; a tokenizer without a limit of its own has the text encoder's."""
        return min(self.tokenizer.model_max_length, self.encoder.config.max_position_embeddings)

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(features [n,L,D], pooled [n,P]); pooled is projected where the encoder has a projection."""
        tokens = self.tokenizer(list(texts), padding="max_length", max_length=self.length, truncation=True,
                                return_tensors="pt")  # fmt: skip
        masked = getattr(self.encoder.config, "use_attention_mask", False)
        device = self.encoder.device
        out = self.encoder(
            tokens.input_ids.to(device), attention_mask=tokens.attention_mask.to(device) if masked else None,
            output_hidden_states=self.penultimate,
        )  # fmt: skip
        projected = getattr(out, "text_embeds", None)
        return out.hidden_states[-2] if self.penultimate else out.last_hidden_state, (
            out.pooler_output if projected is None else projected)

    def unread(self, text: str) -> str:
        """The end of `text` that is beyond the encoder's length; "" when all of it is read."""
        tokens = self.tokenizer(text, truncation=False, verbose=False).input_ids
        return self.tokenizer.decode(tokens[self.length - 1 : -1]).strip() if len(tokens) > self.length else ""


@dataclass(frozen=True)
class T5Text:
    """The encoder half of T5; reads up to `length` tokens, padded to all of them."""

    tokenizer: Any = field(repr=False)
    encoder: nn.Module = field(repr=False)
    length: int

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> Tensor:
        """Features [n, length, D]."""
        tokens = self.tokenizer(list(texts), padding="max_length", max_length=self.length, truncation=True,
                                return_tensors="pt")  # fmt: skip
        return self.encoder(tokens.input_ids.to(self.encoder.device))[0]

    def unread(self, text: str) -> str:
        """The end of `text` that is beyond the encoder's length; "" when all of it is read."""
        tokens = self.tokenizer(text, truncation=False, verbose=False).input_ids
        return self.tokenizer.decode(tokens[self.length - 1 : -1]).strip() if len(tokens) > self.length else ""


def spread(texts: Sequence[str], read: Any) -> Any:
    """`read` of the distinct texts only, laid out for all of them; a tensor or a dictionary of tensors."""
    distinct = list(dict.fromkeys(texts))
    places = [distinct.index(text) for text in texts]
    found = read(distinct)
    return {name: tensor[places] for name, tensor in found.items()} if isinstance(found, dict) else found[places]


def too_long(name: str, readers: Sequence[ClipText | T5Text], prompt: str) -> list[str]:
    """A sentence where even the reader that reads most of `prompt` does not read its end."""
    lost = min((reader.unread(prompt) for reader in readers), key=len)
    return [f'The prompt is too long for {name}, which does not read: "{lost}".'] if lost else []


def readable(text: str, known: Any) -> str:
    """What is read of `text`: all of it, or for a small model the words it knows, which others would only blur."""
    if not known:
        return text
    words = vocabulary(known)
    kept = " ".join(word for word in split_words(text) if word in words or word == ",")
    return re.sub(r"( ?,)+", ",", kept).strip(" ,")


def unknown_words(prompt: str, known: Any) -> list[str]:
    """Words of `prompt` that a small model does not know, each once."""
    words = vocabulary(known)
    return list(dict.fromkeys(word for word in split_words(prompt) if word not in words and word != ","))


def split_words(text: str) -> list[str]:
    """Words and commas of `text` in lower case."""
    return re.findall(r"[^\W\d_]+|,", text.lower())


def vocabulary(known: Any) -> set[str]:
    """Every word in the phrases of a card's nested dictionaries and lists; "{1}" in them stands for a colour."""
    if isinstance(known, str):
        return set(split_words(known)) - {","}
    return set().union(*(vocabulary(entry) for entry in (known.values() if isinstance(known, dict) else known)))
