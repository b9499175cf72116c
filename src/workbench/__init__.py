"""What stays at home: it may import podium, and podium never imports it."""
