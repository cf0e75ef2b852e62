"""Stability AI over HTTP. Runs without Airflow."""
