"""The list of public names is what is really there."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

import donewhen
from donewhen import errors

TUTORIAL = {
    "donewhen.spec_writer": ["SpecWriter", "SpecResult"],
    "donewhen.circuit_breaker": ["CircuitBreaker", "CircuitBreakerError"],
    "donewhen.ledger": ["Ledger", "LedgerRow"],
    "donewhen.agent_loop": ["AgentLoop", "LoopResult", "LLMClient", "MessagesEndpoint"],
    "donewhen.review_surface": [
        "ReviewSurface",
        "ReviewFrame",
        "DiffResult",
        "AttestationResult",
        "SessionNotFoundError",
    ],
}

PUBLIC = [
    "AgentLoop",
    "AsyncAgentLoop",
    "AttestationError",
    "AttestationResult",
    "Balance",
    "Breach",
    "BudgetNotFoundError",
    "Call",
    "CallError",
    "Ceilings",
    "CheckError",
    "CheckpointError",
    "CircuitBreaker",
    "CircuitBreakerError",
    "DeliveryError",
    "DiffResult",
    "DonewhenError",
    "Elsewhere",
    "EnvelopeError",
    "FrameChangedError",
    "HaltedError",
    "Human",
    "JsonSchema",
    "Judgement",
    "KeyFileError",
    "LLMClient",
    "Ledger",
    "LedgerError",
    "LedgerFormatError",
    "LedgerRow",
    "LedgerTamperedError",
    "LedgerUnavailableError",
    "LoopResult",
    "MessagesEndpoint",
    "MissingExtraError",
    "NotGovernedError",
    "NotKeptError",
    "NotProvableError",
    "NotReleasedError",
    "Outbox",
    "OutcomeUnknownError",
    "Permit",
    "PermitClosedError",
    "Policy",
    "Price",
    "PriceUnknownError",
    "Rates",
    "Receipt",
    "Regex",
    "RejectionResult",
    "Release",
    "ReleaseBusyError",
    "ReplyError",
    "ReviewError",
    "ReviewFrame",
    "ReviewSurface",
    "Session",
    "SessionBusyError",
    "SessionEndedError",
    "SessionError",
    "SessionNotFoundError",
    "Shell",
    "Spec",
    "SpecError",
    "SpecResult",
    "SpecWriter",
    "Standing",
    "StoreAddressError",
    "ToCommand",
    "ToFile",
    "ToWebhook",
    "Tool",
    "ToolError",
    "UnboundedRequestError",
    "Usage",
    "WitnessError",
    "WitnessRefusedError",
    "__version__",
    "export_session",
    "guard",
    "load_spec",
    "make_receipt",
    "open_session",
    "stopping",
    "tool",
    "verify_ledger",
    "verify_receipt",
]


def test_a_public_name_comes_or_goes_only_on_purpose() -> None:
    assert donewhen.__all__ == PUBLIC


def test_the_list_is_sorted_and_names_nothing_twice() -> None:
    assert sorted(set(donewhen.__all__)) == donewhen.__all__


@pytest.mark.parametrize("name", donewhen.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(donewhen, name)
    assert value is getattr(donewhen, name)
    assert name in dir(donewhen)


@pytest.mark.parametrize(("module", "name"), [(m, name) for m, names in TUTORIAL.items() for name in names])
def test_the_tutorials_names_are_in_the_tutorials_modules(module: str, name: str) -> None:
    assert getattr(import_module(module), name) is getattr(donewhen, name)


def test_type_checkers_are_told_the_same_names() -> None:
    tree = ast.parse(Path(donewhen.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    told = {alias.name: node.module for node in imports for alias in node.names}
    assert sorted([*told, "__version__"]) == donewhen.__all__
    for name, module in told.items():
        assert getattr(import_module(str(module)), name) is getattr(donewhen, name)


def test_every_error_is_public() -> None:
    raised = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert {name for name in donewhen.__all__ if name.endswith("Error")} == raised


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'AgentLop'"):
        _ = donewhen.AgentLop
