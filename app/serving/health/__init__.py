"""What the service knows of the parts around it, for `/v1/model` and `/metrics`."""
