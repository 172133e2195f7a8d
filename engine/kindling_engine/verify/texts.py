"""What a checkpoint is compared on: prompts, texts for its tokenizer, conversations for its template."""

from typing import Any

PROMPTS = (
    "The capital of France is",
    "def fibonacci(n: int) -> int:\n    if n < 2:\n        return n\n    return",
    "1, 2, 4, 8, 16, 32,",
    "Ein alter Müller ging an einem Wintermorgen durch den Wald und sah",
)
# Long enough to fill several pages and to be cut into chunks.
LONG_PROMPT = " ".join(
    f"On day {day} the keeper of the lighthouse wrote down the wind, the tide and {day * 3} passing ships."
    for day in range(1, 13)
)
TEXTS = (
    *PROMPTS,
    "",
    "  two  spaces\tand a tab\n\nand lines\r\n",
    "naïve café – “quotes” … 3½ €",
    "日本語のテキスト、한국어 텍스트, русский текст, عربى",
    "emoji 👩‍👩‍👧‍👦 and 🇫🇷 and e\u0301",
    "https://example.com/a?b=c&d=%20 x_y-z 0123456789 1,234.56",
    "<|not a token|> <s> </s> [INST]",
)
CONVERSATIONS: tuple[list[dict[str, Any]], ...] = (
    [{"role": "user", "content": "Name three rivers."}],
    [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "  What is 2 + 2?  "},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "And 3 + 3?\nIn words, “please”."},
    ],
)
