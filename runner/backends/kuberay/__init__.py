"""Kubernetes with KubeRay: a batch Job of a supervisor, and a RayJob for each attempt at a leg."""
