"""What nodes and commands plan with unless told otherwise. Imports nothing."""

#: Screening: no less success than with all candidates imagined to the end, in little more than half
#: of the time (docs/performance.md).
SCREENING_FRACTION, SCREENING_HORIZON = 0.25, 2
