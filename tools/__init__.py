"""What writes the generated pages of docs/; no part of what is installed."""
