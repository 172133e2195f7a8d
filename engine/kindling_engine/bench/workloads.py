"""The loads of the engine bench: how many requests, how long, how much of the prompt they share."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Workload:
    """``requests`` at once, each with ``shared`` + ``own`` prompt tokens and exactly ``output`` tokens back."""

    name: str
    requests: int
    shared: int
    own: int
    output: int

    @property
    def tokens_out(self) -> int:
        return self.requests * self.output

    @property
    def prompt_tokens(self) -> int:
        return self.shared + self.own

    def cut(self, by: int) -> "Workload":
        """The same load with every length divided."""
        return Workload(self.name, self.requests, self.shared // by, self.own // by, self.output // by)

    def prompts(self, *, vocab_size: int, seed: int) -> list[list[int]]:
        """Random prompts; another seed shares nothing with these, so that no cache helps a repetition."""
        random = np.random.default_rng((seed, self.requests, self.own))
        shared = random.integers(3, vocab_size, self.shared).tolist()
        return [shared + random.integers(3, vocab_size, self.own).tolist() for _ in range(self.requests)]


@dataclass(frozen=True, slots=True)
class MixedWorkload:
    """Requests of different lengths: ``inputs`` and ``output`` tokens of each."""

    name: str
    inputs: list[int]
    output: list[int]

    @classmethod
    def uniform(cls, name: str, requests: int, low: int, high: int, *, seed: int) -> "MixedWorkload":
        """Lengths drawn evenly from ``low`` to ``high``, both included."""
        random = np.random.default_rng(seed)
        inputs, outputs = random.integers(low, high + 1, (2, requests)).tolist()
        return cls(name, inputs, outputs)

    def cut(self, by: int) -> "MixedWorkload":
        """The same requests with every length divided."""
        return MixedWorkload(self.name, [n // by for n in self.inputs], [n // by for n in self.output])

    def prompts(self, *, vocab_size: int, seed: int) -> list[list[int]]:
        """Random prompts; another seed shares nothing with these."""
        random = np.random.default_rng((seed, len(self.inputs), sum(self.inputs)))
        return [random.integers(3, vocab_size, length).tolist() for length in self.inputs]


Load = Workload | MixedWorkload

W1 = Workload("w1", 8, 0, 128, 128)
W2 = Workload("w2", 1, 0, 128, 128)
W3 = Workload("w3", 64, 512, 32, 32)
WORKLOADS = (W1, W2, W3)
