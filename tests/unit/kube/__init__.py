"""Tests of `runner.kube`."""
