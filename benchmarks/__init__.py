"""Speed, memory and attacks, measured: ``python -m benchmarks`` and the modules and packages beside it."""
