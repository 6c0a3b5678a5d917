"""What a report tells, before it is written."""

import dataclasses
from collections.abc import Mapping, Sequence

from larq_ssl.report.examples import Look
from larq_ssl.report.lines import ONLINE, Column, Line
from larq_ssl.report.targets import Comparison


@dataclasses.dataclass(frozen=True)
class Report:
    """All that a report tells.

    # Arguments
        lines: Of its tables.
        columns: Accuracies that the main table shows.
        comparisons: With published numbers.
        looks: What encoders make of images, by the numbers of their lines.
        missed: Why a look is not there, in a sentence, by the numbers of their lines.
        command: What made the report.
        made: When, and by which commit.
    """

    lines: Sequence[Line]
    columns: Sequence[Column]
    comparisons: Sequence[Comparison]
    looks: Mapping[int, Look]
    missed: Mapping[int, str]
    command: str
    made: str

    def groups(self) -> dict[str, list[Line]]:
        """Lines by their images."""
        found: dict[str, list[Line]] = {}
        for line in self.lines:
            found.setdefault(line.data, []).append(line)
        return found

    def main_column(self, lines: Sequence[Line]) -> Column | None:
        """The accuracy that most of some lines have, by a probe if that leaves out at most half of them; or `None`."""
        found = {column: sum(column.name in line.numbers for line in lines) for column in self.columns}
        most = max(found.values(), default=0)
        probed = [column for column, count in found.items() if not column.name.startswith(ONLINE) and 2 * count >= most]
        return max(probed or found, key=lambda column: found[column]) if most else None
