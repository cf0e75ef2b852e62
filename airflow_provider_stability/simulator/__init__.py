"""A local simulator of the Stability AI API: v1 and v1alpha, with faults on demand.

It needs only the standard library and binds to loopback. Use it in tests, in examples, or to try things out:
in Python, ``with Simulator(credits=10) as simulator: ...``; from a shell,
``python -m airflow_provider_stability.simulator``.
"""

from airflow_provider_stability.simulator.fault import Fault
from airflow_provider_stability.simulator.recorded import RecordedRequest
from airflow_provider_stability.simulator.simulator import Simulator

__all__ = ["Fault", "RecordedRequest", "Simulator"]
