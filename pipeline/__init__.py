"""The hall that joins the rooms: sources -> detect -> track -> embed -> match -> outputs."""
