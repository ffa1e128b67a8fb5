"""The place of transports: plugins that carry events between replicas. This version has none."""
