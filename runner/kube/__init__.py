"""What is known of Kubernetes: the client, names, checks before a run, tenants, and why nothing happens."""
