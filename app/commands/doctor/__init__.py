"""`pawl doctor`: a finding for each part."""
