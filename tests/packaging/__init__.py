"""What is handed out, and that it installs and works where nothing else of this project is."""
