"""Compares this package with the alternatives for Airflow users. Run it with ``benchmarks/run``."""
