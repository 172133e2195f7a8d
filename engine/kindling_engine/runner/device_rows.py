"""Rows that live on the device: what a decode step needs of each request, kept there from step to step.

All of it lies in one flat int32 tensor, so that whatever changes between two steps is a list of places and one of
numbers, which travel with the rest of a step's input and are written by one operation. In steady decode next to nothing
changes: a step takes the last token that it drew itself, and counts lengths up by itself.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kindling_engine.sampling.params import SamplingParams

Ints = NDArray[np.int32]
Places = NDArray[np.int64]

NO_ADAPTER = -1
_UNKNOWN = -1


class DeviceRows:
    """Columns by row: ``tables [rows + 1, blocks]``, and the others ``[rows + 1]``; the last row pads graphs.

    ``length``: tokens whose K and V are stored; ``last_token``: the one at that position; ``prompt_len``;
    ``adapter_slot``: −1 for none. ``order [rows]`` are the rows of a decode step. Of sampling: ``seed`` int64,
    ``temperature``, ``top_p`` and ``min_p`` fp32, ``top_k``. All others int32.
    """

    def __init__(self, *, num_rows: int, max_blocks: int, device: torch.device) -> None:
        seats = num_rows + 1
        # Seeds come first, where they are aligned.
        sizes = {"seed": 2 * seats, "tables": seats * max_blocks, "order": num_rows}
        sizes |= dict.fromkeys(("length", "last_token", "prompt_len", "adapter_slot"), seats)
        sizes |= dict.fromkeys(("temperature", "top_k", "top_p", "min_p"), seats)
        starts = np.cumsum([0, *sizes.values()])
        self._start = dict(zip(sizes, starts.tolist(), strict=False))
        self._flat = torch.zeros(int(starts[-1]), dtype=torch.int32, device=device)
        column = {name: self._flat[start : start + sizes[name]] for name, start in self._start.items()}
        self.pad = num_rows
        self.max_blocks = max_blocks
        self.tables = column["tables"].view(seats, max_blocks)
        self.order = column["order"].fill_(num_rows)
        self.length, self.last_token = column["length"], column["last_token"]
        self.prompt_len, self.top_k = column["prompt_len"], column["top_k"]
        self.adapter_slot = column["adapter_slot"].fill_(NO_ADAPTER)
        self.seed = column["seed"].view(torch.int64)
        self.temperature = column["temperature"].view(torch.float32)
        self.top_p, self.min_p = column["top_p"].view(torch.float32), column["min_p"].view(torch.float32)
        self._order: list[int] = [num_rows] * num_rows
        self._seated = [False] * num_rows
        self._blocks_sent = [0] * num_rows
        self._ready_at = [_UNKNOWN] * num_rows
        self._slots = [NO_ADAPTER] * num_rows
        self._numbers: dict[int, int] = {}
        self._tables: list[tuple[int, NDArray[np.int64]]] = []

    # What the host knows to be different from now on.

    def seat(self, row: int, params: SamplingParams, prompt_len: int) -> None:
        """Give a row its request's parameters, when it is new there."""
        if self._seated[row]:
            return
        self._seated[row] = True
        self._put("prompt_len", row, prompt_len)
        self._put("adapter_slot", row, self._slots[row])
        self._put("top_k", row, min(params.top_k, (1 << 31) - 1))
        for name in ("temperature", "top_p", "min_p"):
            self._put(name, row, int(np.float32(getattr(params, name)).view(np.int32)))
        halves = np.array([params.seed & ((1 << 64) - 1)], dtype=np.uint64).view(np.int32).tolist()
        for index, half in enumerate(halves):
            self._numbers[self._start["seed"] + 2 * row + index] = half

    def adapter_set(self, row: int, slot: int) -> None:
        """A row's adapter is in ``slot`` now, −1 for none; it may have been in another before."""
        if self._slots[row] != slot:
            self._slots[row] = slot
            self._put("adapter_slot", row, slot)

    def blocks_set(self, row: int, blocks: NDArray[np.int64]) -> None:
        """A row's block table is ``blocks`` now: those that are not there yet follow."""
        sent = self._blocks_sent[row]
        if sent < len(blocks):
            self._tables.append((self._start["tables"] + row * self.max_blocks + sent, blocks[sent:].copy()))
            self._blocks_sent[row] = len(blocks)

    def token_known(self, row: int, position: int) -> bool:
        """Whether the device itself has the token at ``position`` and is ready to go on with it."""
        return self._ready_at[row] == position

    def token_set(self, row: int, position: int, token: int) -> None:
        """The row goes on at ``position``, with a token that the host knows."""
        self._put("length", row, position)
        self._put("last_token", row, token)
        self._ready_at[row] = position

    def length_set(self, row: int, length: int, *, draws: bool) -> None:
        """The step has computed ``length`` tokens; if it ``draws``, the next one will be in ``last_token``."""
        self._put("length", row, length)
        self._ready_at[row] = length if draws else _UNKNOWN

    def advanced(self, row: int) -> None:
        """A decode step has moved the row on by itself."""
        self._ready_at[row] += 1

    def order_set(self, rows: list[int], size: int) -> None:
        """The first ``size`` places of ``order`` hold ``rows``, and padding behind them."""
        for place, row in enumerate(rows + [self.pad] * (size - len(rows))):
            if self._order[place] != row:
                self._order[place] = row
                self._numbers[self._start["order"] + place] = row

    def forget(self, row: int) -> None:
        """Nothing of what the device has for a row is right any more."""
        self._seated[row] = False
        self._blocks_sent[row] = 0
        self._ready_at[row] = _UNKNOWN

    def forget_step(self) -> None:
        """A step has failed on its way: what was to change is void, and the order not to be relied on."""
        self._numbers.clear()
        self._tables.clear()
        self._order = [_UNKNOWN] * len(self._order)

    # On its way to the device.

    def changes_take(self) -> tuple[Places, Ints]:
        """Places in the flat tensor, each once, and the numbers that belong there."""
        numbers, self._numbers = self._numbers, {}
        tables, self._tables = self._tables, []
        places = [np.fromiter(numbers.keys(), np.int64, len(numbers))]
        values = [np.fromiter(numbers.values(), np.int32, len(numbers))]
        for start, blocks in tables:
            places.append(np.arange(start, start + len(blocks)))
            values.append(blocks.astype(np.int32))
        return np.concatenate(places), np.concatenate(values)

    def changes_apply(self, places: Tensor, values: Tensor) -> None:
        self._flat.index_copy_(0, places, values)

    def _put(self, name: str, row: int, number: int) -> None:
        self._numbers[self._start[name] + row] = number
