"""What is done with versions besides serving them: roll-back, comparing them with the settings, describing them."""
