"""What every Gannet server shares: serve(), interceptors, the error table, telemetry, configuration."""
