"""A soak: gates that come and go for a long time, on a service that fails at random.

``scripts/soak`` runs the long one, ``real_airflow/test_soak.py`` a short one. The gates are in a process of
their own (``population``), so that memory, threads and sockets are theirs alone; the service is a simulator
in this one (``service``). Both write down what happened (``record``), and what should have happened is worked
out from the service's side alone (``judge_gates``, ``judge_watchers``, ``judge_requests``).
"""
