"""Python functions that survive: durable workflows and steps on NATS JetStream."""
