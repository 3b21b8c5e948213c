"""What audit/ARM/RECIPE.json may hold, distinguished by its format."""

from dpaudit.findings.extraction import Discoverable, Extraction, PersonalFields
from dpaudit.findings.finding import format_of
from dpaudit.findings.membership import Membership
from dpaudit.storage.rundir import RunDir

Audit = Membership | Extraction | Discoverable | PersonalFields
KINDS: tuple[type[Audit], ...] = (Membership, Extraction, Discoverable, PersonalFields)


def read(run_dir: RunDir, relative: str) -> Audit:
    """The finding of a recipe on an arm. Raises UsageError for a format that is none of these."""
    known = {cls.FORMAT: cls for cls in KINDS}
    cls = known.get(format_of(run_dir, relative) or "", Membership)  # which refuses what is none of them
    return cls.read(run_dir, relative)
