"""This package against what Airflow users would use otherwise. Start it with ``benchmarks/run``."""
