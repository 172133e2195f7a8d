"""Tiny embedding models: random weights by transformers, and sentence-transformers' files written by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

VOCAB = 320
CLS, SEP, EOS = 1, 2, 2
WORDS = [f"w{index}" for index in range(5, VOCAB)]
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "initializer_range": 0.15,
    "pad_token_id": 0,
}
ENCODERS = ("bert", "roberta", "xlm-roberta")


def encoder_make(
    family: str,
    folder: Path,
    *,
    pooling: str = "mean_tokens",
    context_length: int = 128,
    modules: Sequence[str] | None = ("Transformer", "Pooling", "Normalize"),
    seed: int = 0,
    **shape: Any,
) -> Path:
    """Write a tiny encoder with a tokenizer that puts [CLS] and [SEP] around a text."""
    torch.manual_seed(seed)
    _save(_encoder(family, {**_SHAPE, "max_position_embeddings": context_length, **shape}), folder)
    tokenizer_write(folder, before=["[CLS]"], after=["[SEP]"])
    if modules is not None:
        modules_write(folder, pooling=pooling, modules=modules)
    return folder


def decoder_make(folder: Path, *, seed: int = 0, bare_names: bool = True, **shape: Any) -> Path:
    """Write a tiny Qwen3 embedding model: last-token pooling, an end token that the tokenizer appends.

    ``bare_names`` leaves out the prefix of the tensors' names, and the head, as published ones do.
    """
    import transformers as t
    from safetensors.torch import load_file, save_file

    torch.manual_seed(seed)
    config = t.Qwen3Config(
        **{
            **_SHAPE,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": 512,
            "eos_token_id": EOS,
            "tie_word_embeddings": False,
            **shape,
        }
    )
    _save(t.Qwen3ForCausalLM(config), folder)
    if bare_names:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        save_file(
            {
                name.removeprefix("model."): tensor
                for name, tensor in tensors.items()
                if name.startswith("model.")
            },
            path,
            metadata={"format": "pt"},
        )
    tokenizer_write(folder, after=["[SEP]"])
    modules_write(folder, pooling="lasttoken")
    return folder


def tokenizer_write(folder: Path, *, before: Sequence[str] = (), after: Sequence[str] = ()) -> None:
    """A tokenizer of words w5, w6, …; special tokens around a text as asked for."""
    vocab = {"[PAD]": 0, "[CLS]": CLS, "[SEP]": SEP, "[UNK]": 3, "[MASK]": 4}
    vocab |= {word: index for index, word in enumerate(WORDS, 5)}
    tokenizer = Tokenizer(WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    special = [*before, *after]
    if special:
        tokenizer.post_processor = TemplateProcessing(
            single=" ".join([*before, "$A", *after]), special_tokens=[(name, vocab[name]) for name in special]
        )
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"])
    tokenizer.save(str(folder / "tokenizer.json"))


def modules_write(
    folder: Path,
    *,
    pooling: str = "mean_tokens",
    modules: Sequence[str] = ("Transformer", "Pooling", "Normalize"),
    max_tokens: int | None = None,
) -> None:
    """The files by which sentence-transformers knows how a model embeds."""
    listed = [
        {
            "idx": index,
            "name": str(index),
            "path": "" if kind == "Transformer" else f"{index}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken")
    for module in listed:
        if module["path"]:
            (folder / module["path"]).mkdir(exist_ok=True)
        if module["path"].endswith("Pooling"):
            config = {f"pooling_mode_{name}": name == pooling for name in names}
            (folder / module["path"] / "config.json").write_text(
                json.dumps({"word_embedding_dimension": 64, **config, "include_prompt": True})
            )
    if max_tokens is not None:
        (folder / "sentence_bert_config.json").write_text(
            json.dumps({"max_seq_length": max_tokens, "do_lower_case": False})
        )


def reference_states(folder: Path, texts: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Last hidden states ``[tokens, hidden]`` of each text by itself in transformers, fp32, eager attention."""
    import transformers

    model = transformers.AutoModel.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.inference_mode():
        return [model(torch.tensor([list(text)])).last_hidden_state[0] for text in texts]


def texts_make(lengths: Sequence[int], *, seed: int = 7) -> list[list[int]]:
    """Random token ids, none of them special."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(5, VOCAB, (length,), generator=generator).tolist() for length in lengths]


def _encoder(family: str, shape: dict[str, Any]) -> Any:
    import transformers as t

    if family == "bert":
        return t.BertModel(t.BertConfig(**shape))
    if family == "roberta":
        return t.RobertaModel(t.RobertaConfig(**{**shape, "pad_token_id": 1, "type_vocab_size": 1}))
    if family == "xlm-roberta":
        return t.XLMRobertaModel(t.XLMRobertaConfig(**{**shape, "pad_token_id": 1, "type_vocab_size": 1}))
    raise ValueError(family)


def _save(model: Any, folder: Path) -> None:
    for name, parameter in model.eval().named_parameters():
        # Norms and biases start at one and zero; move them, so that a forgotten one is seen.
        if name.endswith(("norm.weight", "Norm.weight", ".bias")):
            parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
