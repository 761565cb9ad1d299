"""The cloud consumer: stores, learns, publishes."""
