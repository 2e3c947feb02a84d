"""A team's share of a cluster: quotas, rights, network, queues and policies, as objects; and applying them."""
