"""What is looked at in a vLLM server's answers."""

from rcsd.errors import RunError
from rcsd.http import Reply, ResponseModel


class Card(ResponseModel):
    """A model or an adapter that a server lists."""

    id: str
    parent: str | None = None
    max_model_len: int | None = None


class Models(ResponseModel):
    """All of them."""

    data: list[Card]


class Tokens(ResponseModel):
    """A text's token ids."""

    tokens: list[int]


class WeightInfo(ResponseModel):
    """The version of the weights, which a server that starts again has forgotten."""

    weight_version: str | None


class TokenLogProbs(ResponseModel):
    """Log-probabilities of the sampled tokens."""

    token_logprobs: list[float]


class TokenLogProb(ResponseModel):
    """Log-probability of one token."""

    logprob: float


class Choice(ResponseModel):
    """One completion."""

    token_ids: list[int]
    logprobs: TokenLogProbs | None = None
    prompt_logprobs: list[dict[int, TokenLogProb] | None] | None = None


class Choices(ResponseModel):
    """The completions of a request."""

    model: str
    choices: list[Choice]


def only_choice(reply: Reply, model: str) -> Choice:
    """The completion of a request for one.

    Raises:
        RunError: If the request was refused, or another model or number of completions answered.
    """
    said = reply.read(Choices)
    if said.model != model:
        raise RunError(f"{reply.source}: asked for the model {model}, and {said.model} answered")
    if len(said.choices) != 1:
        raise RunError(f"{reply.source}: {len(said.choices)} completions, and one was asked for")
    return said.choices[0]
