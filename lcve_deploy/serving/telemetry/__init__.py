"""What the server reports: metrics and logs."""
