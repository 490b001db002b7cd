"""The outside world: HTTP, and later models, Telegram, sandboxes and git."""
