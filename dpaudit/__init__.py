"""dpaudit: verifies the differential-privacy claim of a fine-tuned language model.

`plan`, `train`, `audit`, `evaluate`, `judge`, `load_run` and `verify` do what the commands of these names do,
and return findings as frozen dataclasses; `observe` stands in somebody else's private training, and
`verify_observed` judges what it saw; `bounds` calculates. Each is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpaudit import bounds
    from dpaudit.api import Run, audit, evaluate, judge, load_run, plan, train, verify, verify_observed
    from dpaudit.errors import GuardError, Mistakes, PartialError, UsageError
    from dpaudit.findings.observed import ObservedVerification
    from dpaudit.findings.report import Report
    from dpaudit.findings.verification import Verification
    from dpaudit.observing.watch import Watch, observe
    from dpaudit.privacy.claim import Claim
    from dpaudit.suite.plan import Plan

__version__ = "0.1.0"

__all__ = [
    "Claim",
    "GuardError",
    "Mistakes",
    "ObservedVerification",
    "PartialError",
    "Plan",
    "Report",
    "Run",
    "UsageError",
    "Verification",
    "Watch",
    "audit",
    "bounds",
    "evaluate",
    "judge",
    "load_run",
    "observe",
    "plan",
    "train",
    "verify",
    "verify_observed",
]

if not TYPE_CHECKING:  # else a type checker takes every name for one of ours
    _HOMES = {
        "dpaudit.errors": ("GuardError", "Mistakes", "PartialError", "UsageError"),
        "dpaudit.findings.observed": ("ObservedVerification",),
        "dpaudit.findings.report": ("Report",),
        "dpaudit.findings.verification": ("Verification",),
        "dpaudit.observing.watch": ("Watch", "observe"),
        "dpaudit.privacy.claim": ("Claim",),
        "dpaudit.suite.plan": ("Plan",),
    }
    _HOME = {name: module for module, names in _HOMES.items() for name in names}

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module 'dpaudit' has no attribute {name!r}")
        if name == "bounds":
            return importlib.import_module("dpaudit.bounds")
        value = getattr(importlib.import_module(_HOME.get(name, "dpaudit.api")), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
