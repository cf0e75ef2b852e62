"""What the benchmarks have in common. Nothing in here is started by hand."""
