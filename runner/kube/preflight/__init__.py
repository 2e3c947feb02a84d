"""What is checked of a Kubernetes before any pod is asked for."""
