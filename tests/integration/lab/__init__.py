"""Real parts on one machine, for the integration tests."""
