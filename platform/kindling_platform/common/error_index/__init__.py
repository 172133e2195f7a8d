"""Every code that an API answers with: what it means, what to do, and where that can be read. Free of Django."""
