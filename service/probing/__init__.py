"""The only room with torch: loads a model, records it as one graph, measures it."""
