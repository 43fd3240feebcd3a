"""Who asks, and what they may do: identities, rights (Kubernetes' RBAC decides), rates."""
