"""What a nested workflow imports."""

FACTOR = 3
