"""Results for people and other tools: heat maps, a page, tables, exports, and safe names."""
