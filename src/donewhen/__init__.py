"""Say when an agent is done, before it starts.

    spec = donewhen.SpecWriter().run()
    loop = donewhen.AgentLoop(spec, donewhen.CircuitBreaker(), donewhen.Ledger(), client)
    result = loop.run("Audit https://example.com/")

Every name is loaded on first use: `import donewhen` defines names and does nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from donewhen.agent_loop import AgentLoop, AsyncAgentLoop, LoopResult
    from donewhen.balance import Balance, Breach, Ceilings
    from donewhen.checks import Call, Human, JsonSchema, Regex, Shell
    from donewhen.circuit_breaker import CircuitBreaker
    from donewhen.client import LLMClient, MessagesEndpoint
    from donewhen.elsewhere import Elsewhere
    from donewhen.entry import LedgerRow
    from donewhen.errors import (
        AttestationError,
        BudgetNotFoundError,
        CallError,
        CheckError,
        CheckpointError,
        CircuitBreakerError,
        DeliveryError,
        DonewhenError,
        EnvelopeError,
        FrameChangedError,
        HaltedError,
        KeyFileError,
        LedgerError,
        LedgerFormatError,
        LedgerTamperedError,
        LedgerUnavailableError,
        MissingExtraError,
        NotGovernedError,
        NotKeptError,
        NotProvableError,
        NotReleasedError,
        OutcomeUnknownError,
        PermitClosedError,
        PriceUnknownError,
        ReleaseBusyError,
        ReplyError,
        ReviewError,
        SessionBusyError,
        SessionEndedError,
        SessionError,
        SessionNotFoundError,
        SpecError,
        StoreAddressError,
        ToolError,
        UnboundedRequestError,
        WitnessError,
        WitnessRefusedError,
    )
    from donewhen.export import export_session
    from donewhen.frame import AttestationResult, DiffResult, RejectionResult, ReviewFrame
    from donewhen.guarded import guard
    from donewhen.ledger import Ledger
    from donewhen.opening import open_session
    from donewhen.outbox import Outbox, Release, ToCommand, ToFile, ToWebhook
    from donewhen.permit import Permit
    from donewhen.policy import Judgement, Policy
    from donewhen.receipt import Receipt, make_receipt, verify_receipt
    from donewhen.review_surface import ReviewSurface
    from donewhen.reviewing import Standing
    from donewhen.session import Session
    from donewhen.spec_file import Spec, load_spec
    from donewhen.spec_writer import SpecResult, SpecWriter
    from donewhen.stops import stopping
    from donewhen.tools import Tool, tool
    from donewhen.usage import Price, Rates, Usage
    from donewhen.verify import verify_ledger

__version__ = "0.1.0"

__all__ = [
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

_ROOMS = {
    "agent_loop": "AgentLoop AsyncAgentLoop LoopResult",
    "balance": "Balance Breach Ceilings",
    "checks": "Call Human JsonSchema Regex Shell",
    "circuit_breaker": "CircuitBreaker",
    "client": "LLMClient MessagesEndpoint",
    "elsewhere": "Elsewhere",
    "entry": "LedgerRow",
    "export": "export_session",
    "frame": "AttestationResult DiffResult RejectionResult ReviewFrame",
    "guarded": "guard",
    "ledger": "Ledger",
    "opening": "open_session",
    "outbox": "Outbox Release ToCommand ToFile ToWebhook",
    "receipt": "Receipt make_receipt verify_receipt",
    "policy": "Judgement Policy",
    "review_surface": "ReviewSurface",
    "reviewing": "Standing",
    "permit": "Permit",
    "session": "Session",
    "spec_file": "Spec load_spec",
    "spec_writer": "SpecResult SpecWriter",
    "stops": "stopping",
    "tools": "Tool tool",
    "usage": "Price Rates Usage",
    "verify": "verify_ledger",
}
"""Which module each name lives in. A name that ends in Error lives in `donewhen.errors`."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'donewhen' has no attribute {name!r}")
    from importlib import import_module

    room = "errors" if name.endswith("Error") else next(room for room, names in _ROOMS.items() if name in names.split())
    value: object = getattr(import_module(f"donewhen.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
