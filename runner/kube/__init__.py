"""The API of Kubernetes: client, names, pods, events, queues, gc, terminals. What a run is comes from its bundle."""
