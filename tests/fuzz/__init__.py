"""Everything that reads files from outside: a value or one clear error, whatever the file says.

``make fuzz`` looks for more, for as long as it is let; see docs/evidence/fuzzing.md. What it found stands here."""
