"""What every command shares: options, the terminal, help in words, the client of the service."""
