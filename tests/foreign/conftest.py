"""Marks of NumPy's and SciPy's own suites, which their modules need to be imported where marks are strict."""

MARKS = (
    "array_api_backends",
    "fail_slow",
    "parallel_threads",
    "parallel_threads_limit",
    "skip_xp_backends",
    "slow",
    "thread_unsafe",
    "uses_xp_capabilities",
    "xfail_xp_backends",
    "xslow",
)


def pytest_configure(config):
    for mark in MARKS:
        config.addinivalue_line("markers", f"{mark}: of the suites of NumPy and SciPy")
