"""Gate Airflow work on Stability AI credits."""

__version__ = "0.1.0"
