"""The demo page: what the service answers, for people to look at."""
