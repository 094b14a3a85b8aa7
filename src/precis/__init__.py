"""Train small, fast, private summarizers on your own documents."""
