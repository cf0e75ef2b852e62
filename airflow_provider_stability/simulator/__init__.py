"""A local stand-in for the Stability AI API: it speaks v1 and v1alpha, and goes wrong when told to.

It needs nothing but the standard library, binds to loopback only, and serves tests, examples and trying
things out: ``with Simulator(credits=10) as simulator: ...`` in Python, or as a program
``python -m airflow_provider_stability.simulator``.
"""

from airflow_provider_stability.simulator.fault import Fault
from airflow_provider_stability.simulator.recorded import RecordedRequest
from airflow_provider_stability.simulator.simulator import Simulator

__all__ = ["Fault", "RecordedRequest", "Simulator"]
