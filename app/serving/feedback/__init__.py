"""Labels after they are durable."""
