"""The nats adapter."""
