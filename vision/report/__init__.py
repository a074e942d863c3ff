"""The building blocks of every report: what it shows, and the page that shows it offline."""
