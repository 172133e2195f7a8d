"""The byte-level BPE tokenizer of 2,048 tokens, and the files that go with it in a model folder."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from kindling_engine.starter.chat import (
    END_OF_TEXT,
    IM_END,
    IM_START,
    TEMPLATE_PATH,
    TOOL_CALL_CLOSE,
    TOOL_CALL_OPEN,
)

VOCABULARY = 2_048
SPECIAL_TOKENS = (END_OF_TEXT, IM_START, IM_END)

# A space joins a lower-case word but stays apart from a capital or a digit: a name then has the same tokens
# after a space as after a quote, and a tiny model can copy it into JSON. Digits stand alone for the sums.
_PIECES = r" ?\p{Ll}+|\p{Lu}+\p{Ll}*|\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\s)|\s"


def tokenizer_train(texts: Iterable[str]) -> Tokenizer:
    """Learn the vocabulary from `texts`, in which the special tokens may occur."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    calls = [TOOL_CALL_OPEN, TOOL_CALL_CLOSE]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*SPECIAL_TOKENS, *calls],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    marks = re.compile("|".join(re.escape(one) for one in (*SPECIAL_TOKENS, *calls)))
    tokenizer.train_from_iterator((piece for text in texts for piece in marks.split(text)), trainer)
    # The marks of a tool call are single tokens, but ordinary ones: decoding must not drop them.
    tokenizer.add_tokens([AddedToken(one, special=False, normalized=False) for one in calls])
    # The object in memory still drops them as the trainer's specials; one that is read back does not.
    return Tokenizer.from_str(tokenizer.to_str())


def tokenizer_save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the tokenizer, its chat template and the generation defaults in Hugging Face's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    template = TEMPLATE_PATH.read_text(encoding="utf-8")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    named = {"eos_token": IM_END, "pad_token": END_OF_TEXT}
    added = {
        str(index): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for index, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": [IM_START],
        "chat_template": template,
        **named,
    }
    _write_json(folder / "tokenizer_config.json", config)
    _write_json(folder / "special_tokens_map.json", {**named, "additional_special_tokens": [IM_START]})
    stops = [tokenizer.token_to_id(IM_END), tokenizer.token_to_id(END_OF_TEXT)]
    generation = {
        "eos_token_id": stops,
        "pad_token_id": stops[1],
        "do_sample": True,
        "temperature": 0.5,
        "top_p": 0.9,
    }
    _write_json(folder / "generation_config.json", generation)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
