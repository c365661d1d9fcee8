"""The audit: what is random in a model, where, at what rate, and what comes of it."""

from mcdrop.auditing.audit import audit
from mcdrop.auditing.report import Audit, AuditedSite, Finding, VarianceShift

__all__ = ["Audit", "AuditedSite", "Finding", "VarianceShift", "audit"]
