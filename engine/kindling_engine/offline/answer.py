"""One prompt on its way to a completion."""

import time

from kindling_engine.offline.params import Completion, SamplingParams
from kindling_engine.protocol.sampling import TokenLogprobs
from kindling_engine.sampling.sampler import Draw
from kindling_engine.scheduler.plan import Outcome
from kindling_engine.scheduler.request import Request
from kindling_engine.server.detokenizer import Decoder
from kindling_engine.server.output_text import OutputText


class OpenAnswer:
    """Takes outcomes in until ``finish`` is set; without a decoder there is no text, only tokens."""

    def __init__(self, index: int, request: Request, params: SamplingParams, decoder: Decoder | None) -> None:
        self.index = index
        self.request = request
        self.finish = ""
        self.first_token_s: float | None = None
        self._params = params
        self._error = ""
        self._text: list[str] = []
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprobs] = []
        self._output: OutputText | None = None
        if decoder is not None:
            self._output = OutputText(
                decoder, params.stop, include_stop=params.include_stop, min_tokens=params.min_tokens
            )

    @property
    def made(self) -> int:
        return len(self._token_ids)

    def accept(self, outcome: Outcome, draw: Draw | None) -> bool:
        """Take one outcome in; True when it completes a stop string, so that the request has to be cancelled."""
        if outcome.token is not None:
            if self.first_token_s is None:
                self.first_token_s = time.perf_counter()
            self._token_ids.append(outcome.token)
            if draw is not None and draw.logprobs is not None:
                self._logprobs.append(_token_logprobs(draw))
            if self._output is not None and self._completes_stop(self._output, outcome.token, outcome.finish):
                self.finish = "stop"
                return not outcome.finish
        if outcome.finish:
            stopped = self._output is not None and self._output.end()
            self.finish = "stop" if stopped else outcome.finish
            self._error = outcome.error
        return False

    def completion(self) -> Completion:
        text = "" if self._output is None else self._output.take()[0]
        return Completion(
            text=text,
            token_ids=self._token_ids,
            finish=self.finish,
            prompt_tokens=self.request.prompt_len,
            cached_tokens=self.request.cached_tokens,
            logprobs=self._logprobs if self._params.logprobs >= 0 else None,
            error=self._error,
        )

    def _completes_stop(self, output: OutputText, token: int, finish: str) -> bool:
        if finish == "stop" and token in self.request.stop_ids:
            output.accept_end(token)
            return False
        return output.accept(token)


def _token_logprobs(draw: Draw) -> TokenLogprobs:
    report = draw.logprobs
    if report is None:
        raise ValueError("the draw was made without log-probabilities")
    return TokenLogprobs(report.logprob, list(zip(report.top_ids, report.top_logprobs, strict=True)))
