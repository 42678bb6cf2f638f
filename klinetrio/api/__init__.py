"""What the world sees: REST, WebSocket push, health and metrics."""
