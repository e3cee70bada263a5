"""The rows of the directive table, one module per part of the language; `rows` puts them together."""
