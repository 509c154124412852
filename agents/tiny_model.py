"""Texts in, a folder with a small untrained Qwen3 model and its own tokenizer out (no hub)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD_TOKEN = "<|endoftext|>"
START_TOKEN = "<|im_start|>"
END_TOKEN = "<|im_end|>"
SPECIAL_TOKENS = (PAD_TOKEN, START_TOKEN, END_TOKEN)
TOKENIZER_KINDS = ("bpe", "word")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class TinyModelConfig:
    """Size of the model and kind of its tokenizer; the defaults make about 1M parameters."""

    hidden_size: int = 128
    """Width of the residual stream."""
    num_layers: int = 4
    """Decoder layers."""
    intermediate_size: int = 384
    """Width inside the feed-forward block."""
    num_heads: int = 4
    """Query heads; divides `hidden_size`. vLLM on a CPU needs a head width of at least 32."""
    num_kv_heads: int = 4
    """Key and value heads; divides `num_heads`."""
    head_dim: int | None = None
    """Width of a head; None for `hidden_size / num_heads`. Wider heads attend more sharply from the
    start: Qwen3 normalises queries and keys, so a logit is at most the square root of this."""
    vocab_size: int = 4096
    """Most tokens, special ones included; fewer where the texts need fewer."""
    max_position_embeddings: int = 2048
    """Longest context, in tokens."""
    tie_embeddings: bool = True
    """Whether input and output share one embedding matrix."""
    initializer_range: float = 0.02
    """Standard deviation of the initial weights."""
    seed: int = 0
    """Seed of the initial weights; the global random state is left alone."""
    tokenizer_kind: str = "word"
    """"word": each frequent word is one token; "bpe": byte-level byte-pair encoding."""
    extra_tokens: tuple[str, ...] = ()
    """Texts that are one token each, kept in decoded text, such as "<search>"."""
    split_digits: bool = False
    """Whether each digit is a token of its own."""

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads or self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"{self.hidden_size} hidden units, {self.num_heads} heads, {self.num_kv_heads} "
                "key-value heads: each number must divide the one before it."
            )
        if self.tokenizer_kind not in TOKENIZER_KINDS:
            raise ValueError(
                f"tokenizer_kind is {self.tokenizer_kind!r}; it is one of "
                f"{', '.join(TOKENIZER_KINDS)}."
            )
        smallest = 256 + len(SPECIAL_TOKENS) + len(self.extra_tokens)
        if self.vocab_size < smallest:
            raise ValueError(
                f"vocab_size is {self.vocab_size}; the 256 bytes, the special and the extra "
                f"tokens alone are {smallest}."
            )


def make_tiny_model(
    folder: str | Path, texts: Iterable[str], *, config: TinyModelConfig | None = None
) -> Path:
    """Writes tokenizer and model to the folder, which it returns; same input, same files.

    A tied model is saved without `lm_head.weight`: with one in the checkpoint vLLM unties the
    head, and a weight update by the embedding alone then leaves the head stale (vLLM #51665).

    Raises:
        ValueError: If there are no texts.
    """
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    config = config or TinyModelConfig()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(texts, config=config),
        eos_token=END_TOKEN,
        pad_token=PAD_TOKEN,
        additional_special_tokens=[START_TOKEN],
        model_max_length=config.max_position_embeddings,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )
    model_config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim or config.hidden_size // config.num_heads,
        max_position_embeddings=config.max_position_embeddings,
        tie_word_embeddings=config.tie_embeddings,
        initializer_range=config.initializer_range,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = Qwen3ForCausalLM(model_config)
    save_model(model, folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_model(model: Any, folder: str | Path) -> None:
    """Writes a Transformers model; a tied head is left out of the checkpoint."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar for a file of three megabytes hides our own lines
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    model.save_pretrained(folder, state_dict=state)


def train_tokenizer(texts: Iterable[str], *, config: TinyModelConfig) -> Tokenizer:
    """A byte-level tokenizer of the kind that the config names: any text can be encoded.

    "bpe" learns byte-pair merges, GPT-2 style, and gives back every text as it was.

    "word" makes each of the most frequent words one token (a run of letters and digits, or a run
    of punctuation, with the space before it), and spells other words byte by byte. The first word
    of a line, and the one after an extra or special token, gets a space before it on the way in
    and loses it on the way out, so it is the SAME token as after a space: a model can copy words
    to another place in the line. Every text comes back as it was, whatever its spacing, when it is
    decoded whole; two pieces that were encoded apart and meet in the middle of a line show a space
    between them. A word right after punctuation ("(word") is a token of its own.

    Raises:
        ValueError: If there are no texts.
    """
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        trainers,
    )

    is_word = config.tokenizer_kind == "word"
    letters = r" ?\p{N}| ?[\p{L}\p{M}_]+" if config.split_digits else r" ?[\p{L}\p{M}\p{N}_]+"
    pattern = rf"{letters}| ?[^\s\p{{L}}\p{{M}}\p{{N}}_]+|\n|[^\S\n]+(?=[^\S\n]\S)|[^\S\n]"
    tokenizer = Tokenizer(models.BPE())
    added = (*SPECIAL_TOKENS, *config.extra_tokens)
    if is_word:
        # One space before each line that is not empty, in the first step of a text or a piece.
        tokenizer.normalizer = normalizers.Sequence(
            [
                normalizers.Prepend(" "),
                normalizers.Replace(Regex(r"\A (?=\n)"), ""),
                normalizers.Replace(Regex(r"\n(?=[^\n])"), "\n "),
            ]
        )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    num_free = config.vocab_size - len(added)
    marks = re.compile("|".join(re.escape(token) for token in sorted(added, key=len)[::-1]))
    pieces = [piece for text in texts for piece in marks.split(text) if piece]
    if not pieces:
        raise ValueError("There are no texts to make a tokenizer from; give at least one.")
    if is_word:
        counts: Counter[str] = Counter()
        for piece in pieces:
            normal = tokenizer.normalizer.normalize_str(piece)
            counts.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        words = [word for word in ranked if len(word) > 1][: num_free - len(alphabet)]
        vocabulary = {token: i for i, token in enumerate([*added, *alphabet, *words])}
        # ignore_merges: a word in the vocabulary is one token without merges that lead to it.
        tokenizer.model = models.BPE(vocab=vocabulary, merges=[], ignore_merges=True)
        # Undo the normalizer: one space at the start of a text, a line or a piece.
        behind = "|".join(["\n", *(re.escape(token) for token in added)])
        tokenizer.decoder = decoders.Sequence(
            [
                decoders.ByteLevel(),
                decoders.Fuse(),
                decoders.Replace(Regex(rf"\A |(?<={behind}) "), ""),
            ]
        )
    else:
        trainer = trainers.BpeTrainer(
            vocab_size=num_free, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(pieces, trainer)
        tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    extra = [AddedToken(token, normalized=False) for token in config.extra_tokens]
    tokenizer.add_tokens(extra)
    return tokenizer
