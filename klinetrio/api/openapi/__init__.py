"""The OpenAPI document, made from what is declared beside the routes, and the page that shows it."""
