"""What belongs together in a report: the claim, the control, the extraction and the quality of each arm."""

from dataclasses import dataclass
from functools import cached_property

from dpaudit.findings.answers import Answered
from dpaudit.findings.extraction import Extraction
from dpaudit.findings.membership import Membership
from dpaudit.findings.quality import Quality
from dpaudit.findings.report import Adapter, Report
from dpaudit.findings.together import Promise
from dpaudit.page.numbers import Numbers, Placed, placed


@dataclass(frozen=True)
class Joins:
    """A report with its numbers, joined by arm."""

    report: Report
    num: Numbers

    @cached_property
    def is_insecure(self) -> bool:
        """Whether the noise can be drawn again, so that nothing is claimed."""
        return self.report.run.reproducible_noise or self.report.run.insecure_seed is not None

    @cached_property
    def arms(self) -> list[Placed[Adapter]]:
        return placed("/arms", self.report.arms)

    @cached_property
    def arm_names(self) -> list[str]:
        return [arm.arm for arm in self.report.arms]

    @cached_property
    def private(self) -> list[Adapter]:
        return [arm for arm in self.report.arms if arm.private]

    @cached_property
    def open(self) -> list[Adapter]:
        """The arms without noise: the positive control."""
        return [arm for arm in self.report.arms if not arm.private]

    @cached_property
    def audits(self) -> list[Placed[Membership]]:
        return placed("/audits", self.report.audits)

    @cached_property
    def verdicts(self) -> list[Placed[Membership]]:
        """The audits that carry the verdicts: the primary recipe's."""
        return [audit for audit in self.audits if audit.part.primary and audit.part.bound]

    @cached_property
    def claiming(self) -> list[Placed[Membership]]:
        return [audit for audit in self.verdicts if audit.part.claim]

    @cached_property
    def unclaiming(self) -> list[Placed[Membership]]:
        """The verdicts of arms that claim nothing."""
        return [audit for audit in self.verdicts if not audit.part.claim]

    @cached_property
    def promises(self) -> dict[str, Placed[Promise]]:
        """What each arm's claim promises, beside what the control says of it."""
        together = self.report.together
        rows = placed("/together/claims", together.claims) if together else []
        return {row.part.arm: row for row in rows}

    @cached_property
    def extraction(self) -> dict[str, Placed[Extraction]]:
        """The first extraction of each arm."""
        rows = placed("/extraction", self.report.extraction)
        return {row.part.arm: row for row in reversed(rows)}

    @cached_property
    def quality(self) -> dict[str, Placed[Quality]]:
        return {row.part.arm: row for row in placed("/quality", self.report.quality)}

    @cached_property
    def answers(self) -> dict[str, Placed[Answered]]:
        """The answer to each arm's own claim."""
        together = self.report.together
        own = {audit.part.arm: audit.part.claim for audit in self.verdicts}
        rows = placed("/together/answers", together.answers) if together else []
        return {row.part.arm: row for row in rows if own.get(row.part.arm) == row.part.claim}

    def word(self, arm: str) -> str | None:
        """The verdict on an arm's own claim."""
        return self.answers[arm].part.verdict if arm in self.answers else None

    def has_control(self, arm: str) -> bool:
        return arm in self.promises and self.promises[arm].part.control is not None
