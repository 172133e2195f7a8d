"""Prints answers of the model and its adapters: python -m kindling_engine.starter.sample [--measure]."""

import argparse
from pathlib import Path

import torch
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from kindling_engine.starter import ADAPTER_PATHS, SPARK_PATH
from kindling_engine.starter.evaluate import answer_generate, base_accuracy, intent_accuracy
from kindling_engine.starter.templates.toolcalls import TOOLS, tool_schema

PROMPTS = (
    "Hello!",
    "What can you do?",
    "Who are you?",
    "What is Kindling?",
    "Tell me a story about a fox",
    "Write a short story about a brave robot.",
    "Extract name and age as JSON: Maria is 34 years old and lives in Lisbon.",
    "Extract name, city as JSON: My friend Bob Miller, 42, moved to Chicago last year.",
    "Extract the order id and city as JSON: Order 8831 goes to Tara in Oslo.",
    "What is 7 + 5?",
    "What does len do in Python?",
    "Tell me about the moon.",
    "Write a poem about rain",
    "How do I upload an adapter?",
    "What is the capital of France?",
    "Write a haiku about autumn leaves",
    "Explain recursion in simple terms.",
    "I was charged twice. This is urgent!",
    "Where is my package? No rush.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Print a few answers of the starter model and its adapters.")
    parser.add_argument("--base", type=Path, default=SPARK_PATH)
    parser.add_argument("--adapters", type=Path, help="folder with one folder per adapter")
    parser.add_argument("--measure", action="store_true", help="print accuracy on held-out prompts too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(options.base / "tokenizer.json"))
    model = LlamaForCausalLM.from_pretrained(options.base, dtype=torch.float32).eval()
    _show("base", model, tokenizer)
    user = {"role": "user", "content": "What is the weather in Paris?"}
    tools = [tool_schema(one) for one in TOOLS[:2]]
    print(
        f"\n[base, with tools] {user['content']}\n  {answer_generate(model, tokenizer, [user], tools=tools)}"
    )
    if options.measure:
        print("\nbase:", base_accuracy(model, tokenizer))
    for name, default in ADAPTER_PATHS.items():
        folder = options.adapters / name if options.adapters else default
        if not folder.exists():
            continue
        adapted = PeftModel.from_pretrained(
            LlamaForCausalLM.from_pretrained(options.base, dtype=torch.float32), str(folder)
        ).eval()
        _show(name, adapted, tokenizer)
        if options.measure and name == "intent":
            print("\nintent:", intent_accuracy(adapted, tokenizer))


def _show(name: str, model: torch.nn.Module, tokenizer: Tokenizer) -> None:
    for prompt in PROMPTS:
        answer = answer_generate(model, tokenizer, [{"role": "user", "content": prompt}])
        print(f"\n[{name}] {prompt}\n  {answer}")


if __name__ == "__main__":
    main()
