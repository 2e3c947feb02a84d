"""A real Kubernetes with KubeRay, Kueue and an S3 server on one machine, without Docker: see docs/onebox.md."""
