"""Mistakes that lie behind another: what only the whole of the data shows is looked at one thing after
another, and a plan should be mended once.
"""

import re

from dpaudit.errors import Gathering, Mistakes, UsageError
from dpaudit.stages.train import forecast
from dpaudit.suite import loading
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

MOST = 8  # looks
OPTION = re.compile(r"--set ([\w.]+=[\w.+-]+)")  # a remedy that is a whole option


def mistakes(plan: Plan, first: UsageError) -> UsageError:
    """The first mistake with those that come once it is mended as its remedy says. Reads the data again for
    each; nothing is left behind.
    """
    faults, error = Gathering(), first
    for _ in range(MOST):
        faults.add(error)
        mended = _mended(plan, error)
        if mended is None or mended == plan:
            break
        plan = mended
        try:
            forecast.rows(plan, Progress(quiet=True))
        except UsageError as further:
            error = further
        else:
            break
    return faults.errors[0] if len(faults.errors) == 1 else Mistakes(faults.errors)


def _mended(plan: Plan, error: UsageError) -> Plan | None:
    """The plan with what the remedies say; None where one of them is no option to type."""
    settings = {}
    for one in error.errors if isinstance(error, Mistakes) else (error,):
        typed = OPTION.fullmatch(one.remedy)
        if typed is None:
            return None
        key, value = loading.parse_override(typed[1])
        settings[key] = value
    try:
        return plan.with_settings(settings, "--set")
    except UsageError:
        return None
