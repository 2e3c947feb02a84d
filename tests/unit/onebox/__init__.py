"""Tests of `runner.onebox`."""
