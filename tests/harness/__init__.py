"""The test harness. runner chooses and reports; host, guest and system are kinds of tests;
context is what a system test works with; http, browser, namespace, sites and processes are
its tools.

A suite has `names()`, the tests it knows without building anything; `prepare()`, which builds;
and `run(names)`, which yields an Outcome for each test as it ends.
"""
