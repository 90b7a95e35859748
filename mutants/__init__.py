"""Plants small mutations in the package and sees whether its tests fail; see docs/evidence/mutants.md."""
