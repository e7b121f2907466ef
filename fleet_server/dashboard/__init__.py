"""The pages: server-rendered, live, and useful without JavaScript. Reads through services only."""
