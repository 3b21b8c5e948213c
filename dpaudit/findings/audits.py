"""What audit/ARM/RECIPE.json may hold, distinguished by its format."""

from dpaudit.findings.extraction import Discoverable, Extraction, PersonalFields
from dpaudit.findings.finding import FORMAT
from dpaudit.findings.membership import Membership
from dpaudit.storage.rundir import RunDir

Audit = Membership | Extraction | Discoverable | PersonalFields
KINDS: tuple[type[Audit], ...] = (Membership, Extraction, Discoverable, PersonalFields)


def read(run_dir: RunDir, relative: str) -> Audit:
    """The finding of a recipe on an arm. Raises UsageError for a format that is none of these."""
    data, known = run_dir.read_json(relative), {cls.FORMAT: cls for cls in KINDS}
    cls = known.get(str(data.get(FORMAT)), Membership)  # which refuses what is none of them
    return cls.of_file(run_dir, relative, data)
