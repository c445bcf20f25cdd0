"""Each option of the SDKs' own parameters has one verdict. One that an SDK learns is a failure here until it has one."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from anthropic.types import message_create_params as messages
from anthropic.types.beta import message_create_params as beta_messages
from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses

from donewhen.balance import Amounts, Balance, Ceilings
from donewhen.bounds import refuse_unpriced
from donewhen.errors import NotGovernedError, PriceUnknownError, UnboundedRequestError
from donewhen.guarded.wire import Wire
from donewhen.guarded.wire_chat import ChatWire
from donewhen.guarded.wire_messages import MessagesWire
from donewhen.guarded.wire_responses import ResponsesWire
from donewhen.usage import Price, Rates

WINDOW = 77_000
PRICE = Price(
    model="m", tiers=((0, Rates(input=1, output=1, cache_read=1, cache_write=1)),), source="test", as_of="2026-01-01"
)
WIRES: dict[str, tuple[Wire, dict[str, Any]]] = {
    "messages": (MessagesWire(), {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}),
    "chat": (ChatWire("max_completion_tokens"), {"model": "m", "messages": [{"role": "user", "content": "hi"}]}),
    "responses": (ResponsesWire(), {"model": "m", "input": "hi"}),
}
PARAMS: dict[str, list[tuple[ModuleType, str]]] = {
    "messages": [(messages, "MessageCreateParams"), (beta_messages, "MessageCreateParams")],
    "chat": [(chat, "CompletionCreateParams")],
    "responses": [(responses, "ResponseCreateParams")],
}

VERDICTS: dict[str, dict[str, str]] = {
    "messages": {
        "read": "model messages max_tokens system tools",
        "free": "stream",
        # Headers, which the SDK takes out of the parameters: none reaches the body.
        "header": "betas user_profile_id workspace_id",
        "sized": "cache_control metadata output_config output_format stop_sequences temperature thinking tool_choice top_k top_p",
        "priced": "inference_geo service_tier speed",
        "window": "billing_policy diagnostics fallback_credit_token thread",
        "priced window": "container mcp_servers",
        "refused": "compaction context_management fallbacks",
    },
    "chat": {
        "read": "model messages max_tokens max_completion_tokens tools",
        "free": (
            "stream stream_options store logprobs top_logprobs prompt_cache_key prompt_cache_retention safety_identifier"
        ),
        "sized": (
            "frequency_penalty presence_penalty logit_bias metadata parallel_tool_calls reasoning_effort response_format "
            "seed stop temperature tool_choice top_p user verbosity"
        ),
        "priced": "service_tier",
        "window": "function_call functions moderation",
        "priced window": "audio modalities prompt_cache_options web_search_options",
        "refused": "n prediction",
    },
    "responses": {
        "read": "model input instructions max_output_tokens tools",
        "free": (
            "stream stream_options store include truncation max_tool_calls top_logprobs prompt_cache_key "
            "prompt_cache_retention safety_identifier"
        ),
        "sized": "metadata parallel_tool_calls reasoning temperature text tool_choice top_p user",
        "priced": "service_tier",
        "window": "access_programs conversation image moderation previous_response_id prompt",
        "priced window": "prompt_cache_options",
        "refused": "background background_options context_management",
    },
}
"""What becomes of an option of each endpoint.

read: the wire reads it itself. free: sent as it is, it adds nothing. sized: its own text is added to the bound. priced: the
same, and refused under a ceiling on cost. window: refused unless a context window is stated, which it then reserves.
refused: always.
"""

SAMPLES: dict[str, Any] = {
    "n": 2,
    "reasoning": {"effort": "high", "mode": "standard"},
    "thinking": {"type": "adaptive"},
}
EACH = [
    (endpoint, verdict, name)
    for endpoint, verdicts in VERDICTS.items()
    for verdict, names in verdicts.items()
    for name in names.split()
]


def known_to(module: ModuleType, name: str) -> set[str]:
    """Return the options of an SDK's parameters, plain and streaming."""
    kinds = [getattr(module, f"{name}{kind}") for kind in ("Base", "NonStreaming", "Streaming")]
    return {option for kind in kinds for option in kind.__annotations__}


@pytest.mark.parametrize("endpoint", VERDICTS)
def test_every_option_of_the_sdk_has_a_verdict(endpoint: str) -> None:
    known = set().union(*(known_to(*params) for params in PARAMS[endpoint]))
    judged = [name for where, _, name in EACH if where == endpoint]
    assert len(judged) == len(set(judged))
    assert len(known) > 15
    assert known - set(judged) == set(), "what does it cost, and can that be bounded? VERDICTS must say"


def bound_of(endpoint: str, window: int | None = None, **options: Any) -> int:
    wire, body = WIRES[endpoint]
    return wire.request({**body, **options}, window).most_input_tokens("strict")


def is_unpriced(endpoint: str, window: int | None, **options: Any) -> bool:
    """Tell whether an option is refused under a ceiling on cost, though the model's price is known."""
    wire, body = WIRES[endpoint]
    balance = Balance("s", Amounts(0, 0, 0, 0), Amounts(0, 0, 0, 0), Ceilings(cost_microusd=10**9))
    try:
        refuse_unpriced(wire.request({**body, **options}, window), PRICE, balance)
    except PriceUnknownError:
        return True
    return False


@pytest.mark.parametrize(("endpoint", "verdict", "name"), [each for each in EACH if each[1] not in ("read", "header")])
def test_an_option_is_treated_as_its_verdict_says(endpoint: str, verdict: str, name: str) -> None:
    option = {name: SAMPLES.get(name, "something")}
    if verdict == "refused":
        for window in (None, WINDOW):
            with pytest.raises(NotGovernedError, match=f"with the option '{name}' is not sent|more than one reply"):
                bound_of(endpoint, window, **option)
        return
    if "window" in verdict:
        with pytest.raises(UnboundedRequestError, match=name):
            bound_of(endpoint, **option)
        assert bound_of(endpoint, WINDOW, **option) == WINDOW
    elif verdict == "free":
        assert bound_of(endpoint, **option) == bound_of(endpoint)
    else:
        assert bound_of(endpoint, **option) > bound_of(endpoint)
    assert is_unpriced(endpoint, WINDOW, **option) == ("priced" in verdict)


@pytest.mark.parametrize("endpoint", VERDICTS)
def test_an_option_that_nobody_knows_is_refused_unless_a_window_is_stated(endpoint: str) -> None:
    with pytest.raises(UnboundedRequestError, match="something_new"):
        bound_of(endpoint, something_new=1)
    assert bound_of(endpoint, WINDOW, something_new=1) == WINDOW


@pytest.mark.parametrize(
    ("endpoint", "tool", "is_billed_besides"),
    [
        ("messages", {"type": "web_search_20250305", "name": "web_search"}, True),
        ("messages", {"type": "code_execution_20250825", "name": "code_execution"}, True),
        ("messages", {"type": "bash_20250124", "name": "bash"}, False),
        ("messages", {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}, False),
        ("responses", {"type": "web_search"}, True),
        ("responses", {"type": "image_generation"}, True),
        ("responses", {"type": "local_shell"}, False),
    ],
)
def test_a_tool_of_the_providers_takes_a_window_and_has_a_price_of_its_own_where_it_runs_there(
    endpoint: str, tool: dict[str, Any], is_billed_besides: bool
) -> None:
    with pytest.raises(UnboundedRequestError, match="which the provider defines or runs itself"):
        bound_of(endpoint, tools=[tool])
    assert bound_of(endpoint, WINDOW, tools=[tool]) == WINDOW
    assert is_unpriced(endpoint, WINDOW, tools=[tool]) == is_billed_besides


def test_a_reasoning_mode_of_which_nobody_knows_how_often_it_thinks_takes_a_window() -> None:
    with pytest.raises(UnboundedRequestError, match="the reasoning mode 'pro'"):
        bound_of("responses", reasoning={"mode": "pro"})
    assert bound_of("responses", WINDOW, reasoning={"mode": "pro"}) == WINDOW
