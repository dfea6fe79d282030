"""WildDeepfake."""
