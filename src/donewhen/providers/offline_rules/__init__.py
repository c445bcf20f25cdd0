"""The rule sets of the offline client, each for one kind of task, in the order in which they are asked."""

from __future__ import annotations

from donewhen.providers.offline_rules.code_review import CODE_REVIEW
from donewhen.providers.offline_rules.conversation import (
    INTRODUCTION,
    Answer,
    Conversation,
    Rules,
    RuleSet,
    read_conversation,
)
from donewhen.providers.offline_rules.document_extraction import DOCUMENT_EXTRACTION
from donewhen.providers.offline_rules.runaway import RUNAWAY
from donewhen.providers.offline_rules.seo_audit import SEO_AUDIT
from donewhen.providers.offline_rules.support_triage import SUPPORT_TRIAGE

__all__ = [
    "CODE_REVIEW",
    "DOCUMENT_EXTRACTION",
    "INTRODUCTION",
    "RULE_SETS",
    "RUNAWAY",
    "SEO_AUDIT",
    "SUPPORT_TRIAGE",
    "Answer",
    "Conversation",
    "RuleSet",
    "Rules",
    "read_conversation",
]

RULE_SETS: tuple[RuleSet, ...] = (CODE_REVIEW, SEO_AUDIT, DOCUMENT_EXTRACTION, SUPPORT_TRIAGE)
"""The first that applies answers: a diff may hold anything, so it comes first."""
