"""For all tests: waiting is `tests.support.waiting.eventually`, servers are fixtures of tests/integration/conftest.py."""
